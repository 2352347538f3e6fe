import { type ReactNode, useEffect, useRef, useState } from "react";

/** Holds a wide table. Where it must be scrolled it is a tab stop, so that the keyboard can scroll it, and else it is not. */
export function ScrollX({ label, children }: { label: string; children: ReactNode }) {
  const frame = useRef<HTMLElement>(null);
  const [scrolls, setScrolls] = useState(false);
  useEffect(() => {
    const element = frame.current;
    if (!element) return;
    const observer = new ResizeObserver(() => setScrolls(element.scrollWidth > element.clientWidth));
    observer.observe(element);
    if (element.firstElementChild) observer.observe(element.firstElementChild);
    return () => observer.disconnect();
  }, []);
  return (
    <section
      ref={frame}
      className="scroll-x"
      {...(scrolls ? { tabIndex: 0, "aria-label": `${label}, scrolls sideways` } : {})}
    >
      {children}
    </section>
  );
}
