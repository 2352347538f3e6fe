import { useNow } from "../app/useNow";
import { ago, clock, moment } from "../lib/format";

/** A moment as "12 s ago", with the exact time on hover and for machines. */
export function When({ at, exact = false }: { at: string; exact?: boolean }) {
  const now = useNow();
  return (
    <time dateTime={at} title={moment(at)} className="nowrap num">
      {exact ? clock(at) : ago(at, now)}
    </time>
  );
}
