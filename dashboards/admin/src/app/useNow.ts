import { useEffect, useState } from "react";

/** The time in ms, read again every `every_ms`; for "12 s ago" and for expiries. */
export function useNow(every_ms = 5_000): number {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    const timer = window.setInterval(() => setNow(Date.now()), every_ms);
    return () => window.clearInterval(timer);
  }, [every_ms]);
  return now;
}
