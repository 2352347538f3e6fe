import { SegmentedControl } from "@mantine/core";
import { useSearchParams } from "react-router";
import { DEFAULT_RANGE, isRange, RANGES, type RangeName } from "../../lib/range";

/** The span that charts show; it stands in the URL, so a link shows the same. */
export function useRange(): [RangeName, (range: RangeName) => void] {
  const [search, setSearch] = useSearchParams();
  const named = search.get("range");
  const range = isRange(named) ? named : DEFAULT_RANGE;
  const choose = (next: RangeName) =>
    setSearch(
      (before) => {
        before.set("range", next);
        return before;
      },
      { replace: true },
    );
  return [range, choose];
}

export function RangePicker() {
  const [range, choose] = useRange();
  return (
    <SegmentedControl
      size="xs"
      aria-label="Time span"
      value={range}
      onChange={(value) => choose(value)}
      data={Object.keys(RANGES) as RangeName[]}
    />
  );
}
