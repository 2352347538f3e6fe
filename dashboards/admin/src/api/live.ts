import type { QueryClient } from "@tanstack/react-query";
import { STREAM_KINDS, staleAfterAll } from "./invalidation";

export type LiveState = { connected: boolean; since: number; ticks: number };

const STREAM = "/api/v1/events/stream";
/** Messages within this time lead to one round of requests. */
const GATHER_MS = 150;
/** A browser gives up on some errors (a 401, a 503) for good; then we knock again ourselves. */
const RETRY_MS = 5_000;

/**
 * Keeps one EventSource open and marks cached answers as old when it speaks.
 *
 * It is a store for `useSyncExternalStore`; the browser resends `Last-Event-ID` when it reconnects by itself.
 */
export class LiveStream {
  #source: EventSource | null = null;
  #listeners = new Set<() => void>();
  #state: LiveState = { connected: false, since: Date.now(), ticks: 0 };
  #waiting = new Set<string>();
  #gather: number | undefined;
  #retry: number | undefined;
  readonly #queries: QueryClient;

  constructor(queries: QueryClient) {
    this.#queries = queries;
  }

  start(): void {
    if (this.#source) return;
    const source = new EventSource(STREAM);
    this.#source = source;
    source.onopen = () => this.#opened();
    source.onerror = () => {
      this.#set({ connected: false });
      if (source.readyState === EventSource.CLOSED) this.#again();
    };
    for (const kind of STREAM_KINDS) source.addEventListener(kind, () => this.#heard(kind));
  }

  stop(): void {
    this.#source?.close();
    this.#source = null;
    window.clearTimeout(this.#gather);
    window.clearTimeout(this.#retry);
    this.#gather = undefined;
    this.#set({ connected: false });
  }

  subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  snapshot = (): LiveState => this.#state;

  #again(): void {
    this.#source?.close();
    this.#source = null;
    window.clearTimeout(this.#retry);
    this.#retry = window.setTimeout(() => this.start(), RETRY_MS);
  }

  #opened(): void {
    const wasDown = !this.#state.connected && this.#state.ticks > 0;
    this.#set({ connected: true });
    // What was missed while the stream was down may be older than its replay reaches.
    if (wasDown) void this.#queries.invalidateQueries();
  }

  #heard(kind: string): void {
    this.#waiting.add(kind);
    this.#state = { ...this.#state, ticks: this.#state.ticks + 1 };
    this.#gather ??= window.setTimeout(() => {
      this.#gather = undefined;
      const kinds = [...this.#waiting];
      this.#waiting.clear();
      for (const queryKey of staleAfterAll(kinds)) void this.#queries.invalidateQueries({ queryKey });
    }, GATHER_MS);
  }

  #set(change: { connected: boolean }): void {
    if (change.connected === this.#state.connected) return;
    this.#state = { ...this.#state, connected: change.connected, since: Date.now() };
    for (const listener of this.#listeners) listener();
  }
}
