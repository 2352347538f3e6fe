/** The scale runs from a third to three times the baseline; what lies beyond stands at its end. */
const EDGE = Math.log(3);

/** Where a ratio stands on the scale, in percent of its width; 1 is the middle. */
export function place(ratio: number): number {
  if (ratio <= 0) return 0;
  const log = Math.max(-EDGE, Math.min(EDGE, Math.log(ratio)));
  return ((log + EDGE) / (2 * EDGE)) * 100;
}
