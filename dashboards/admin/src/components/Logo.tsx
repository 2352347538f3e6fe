/** The mark: a rudder, and the small green tab at its trailing edge that turns it. */
export function Logo({ size = 26 }: { size?: number }) {
  return (
    <svg width={size} height={size} viewBox="0 0 32 32" aria-hidden="true" focusable="false">
      <path d="M5 25 18.4 6.400c.8-1.100 2.500-.5 2.500.8V25z" fill="currentColor" />
      <path d="M23.200 25h5.300l-3.500-9.300c-.4-1-1.800-.7-1.800.4z" fill="var(--accent)" />
    </svg>
  );
}
