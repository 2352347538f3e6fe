/** A link that lets somebody in: of the installation's token (`trimtab up` prints it), or an invitation. */
export interface EntryLink {
  kind: "token" | "invitation";
  secret: string;
}

/** What stands behind `#`, which browsers send nobody; null for any other address. */
export function entryLink(hash: string): EntryLink | null {
  const parts = new URLSearchParams(hash.replace(/^#/, ""));
  for (const kind of ["token", "invitation"] as const) {
    const secret = parts.get(kind)?.trim();
    if (secret) return { kind, secret };
  }
  return null;
}
