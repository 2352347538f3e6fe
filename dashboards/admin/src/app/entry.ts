import { useSyncExternalStore } from "react";
import { type EntryLink, entryLink } from "../lib/entryLink";

/** Takes the link's secret out of the address at once, so that it stays in no history, bookmark or shared link. */
function take(): EntryLink | null {
  const link = entryLink(window.location.hash);
  if (link) window.history.replaceState(window.history.state, "", window.location.pathname + window.location.search);
  return link;
}

/** A value of this tab that several parts of the page follow. */
function shared<T>(first: T) {
  let value = first;
  const listeners = new Set<() => void>();
  const subscribe = (tell: () => void) => {
    listeners.add(tell);
    return () => listeners.delete(tell);
  };
  return {
    set(next: T) {
      value = next;
      for (const tell of listeners) tell();
    },
    use: () => useSyncExternalStore(subscribe, () => value),
  };
}

// Read once when the page loads, before the router sees the address.
const followed = shared<EntryLink | null>(take());

// A link that is pasted over an open page loads nothing: the address alone changes.
window.addEventListener("hashchange", () => {
  const link = take();
  if (link) followed.set(link);
});

/** The link that led here, until `leaveLink`. */
export const useEntryLink = followed.use;
export const leaveLink = (): void => followed.set(null);

const LATER = "trimtab-set-up-later";

function putOffBefore(): string | null {
  try {
    return localStorage.getItem(LATER);
  } catch {
    return null; // storage is switched off: the question comes again
  }
}

const putOff = shared(putOffBefore());

/** Whether the set-up of the first user was put off in this browser session; who follows the link again is asked again. */
export function useSetUpPutOff(sessionId: string | null | undefined): boolean {
  const during = putOff.use();
  return during !== null && during === sessionId;
}

/** Puts the set-up off while that session lasts; null asks for it now. */
export function putOffSetUp(sessionId: string | null): void {
  putOff.set(sessionId);
  try {
    if (sessionId) localStorage.setItem(LATER, sessionId);
    else localStorage.removeItem(LATER);
  } catch {
    // As above.
  }
}
