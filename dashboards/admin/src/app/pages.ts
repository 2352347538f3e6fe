import { type ComponentType, lazy, useSyncExternalStore } from "react";

let underWay = 0;
const listeners = new Set<() => void>();

function count(change: number): void {
  underWay += change;
  // Loading begins while React draws, when nothing else may be told to draw itself again.
  queueMicrotask(() => {
    for (const listener of listeners) listener();
  });
}

/** A page whose script is loaded when it is first opened; the page before it stays until then. */
export function page(load: () => Promise<ComponentType>): ComponentType {
  return lazy(async () => {
    count(1);
    try {
      return { default: await load() };
    } finally {
      count(-1);
    }
  });
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Whether a page's script is on its way. */
export function usePageLoading(): boolean {
  return useSyncExternalStore(subscribe, () => underWay > 0);
}
