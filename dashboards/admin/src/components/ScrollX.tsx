import { type ReactNode, useEffect, useRef, useState } from "react";

interface ScrollXProps {
  label: string;
  /** A long table: it gets no higher than some rows, and scrolls. */
  high?: boolean;
  children: ReactNode;
}

/** Holds a wide table. Where it must be scrolled it is a tab stop, so that the keyboard can scroll it, and else it is not. */
export function ScrollX({ label, high = false, children }: ScrollXProps) {
  const frame = useRef<HTMLElement>(null);
  const [scrolls, setScrolls] = useState(false);
  useEffect(() => {
    const element = frame.current;
    if (!element) return;
    const look = () =>
      setScrolls(element.scrollWidth > element.clientWidth || element.scrollHeight > element.clientHeight + 1);
    const observer = new ResizeObserver(look);
    observer.observe(element);
    if (element.firstElementChild) observer.observe(element.firstElementChild);
    return () => observer.disconnect();
  }, []);
  return (
    <section
      ref={frame}
      className={high ? "scroll-x scroll-high" : "scroll-x"}
      {...(scrolls ? { tabIndex: 0, "aria-label": high ? `${label}, scrolls` : `${label}, scrolls sideways` } : {})}
    >
      {children}
    </section>
  );
}
