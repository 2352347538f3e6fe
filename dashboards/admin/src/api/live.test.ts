import { QueryClient } from "@tanstack/react-query";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { keys } from "./keys";
import { LiveStream } from "./live";

/** An EventSource whose server is the test. */
class FakeSource extends EventTarget {
  static readonly CLOSED = 2;
  static made: FakeSource[] = [];
  readyState = 0;
  onopen: (() => void) | null = null;
  onerror: (() => void) | null = null;

  constructor(readonly url: string) {
    super();
    FakeSource.made.push(this);
  }

  open(): void {
    this.readyState = 1;
    this.onopen?.();
  }

  fail(forGood: boolean): void {
    this.readyState = forGood ? FakeSource.CLOSED : 0;
    this.onerror?.();
  }

  say(kind: string): void {
    this.dispatchEvent(new Event(kind));
  }

  close(): void {
    this.readyState = FakeSource.CLOSED;
  }
}

function newest(): FakeSource {
  const source = FakeSource.made.at(-1);
  if (!source) throw new Error("no stream was opened");
  return source;
}

describe("LiveStream", () => {
  const queries = new QueryClient();
  const invalidate = vi.spyOn(queries, "invalidateQueries");
  let live: LiveStream;

  beforeEach(() => {
    vi.useFakeTimers();
    vi.stubGlobal("window", globalThis);
    vi.stubGlobal("EventSource", FakeSource);
    FakeSource.made = [];
    invalidate.mockClear();
    live = new LiveStream(queries);
    live.start();
  });

  afterEach(() => {
    live.stop();
    vi.useRealTimers();
    vi.unstubAllGlobals();
  });

  const invalidated = () => invalidate.mock.calls.map(([filter]) => filter?.queryKey);

  it("gathers what comes together into one round, each query once", () => {
    newest().open();
    newest().say("rollout.promoting");
    newest().say("rollout.baking");
    expect(invalidated()).toEqual([]);
    vi.advanceTimersByTime(200);
    expect(invalidated().filter((key) => JSON.stringify(key) === JSON.stringify(keys.rollouts))).toHaveLength(1);
    expect(invalidated()).not.toContainEqual(keys.observations);
  });

  it("tells listeners when it goes down and when it is back", () => {
    const heard: boolean[] = [];
    live.subscribe(() => heard.push(live.snapshot().connected));
    newest().open();
    newest().fail(false);
    newest().open();
    expect(heard).toEqual([true, false, true]);
  });

  it("makes everything old after a break, since more may have been missed than is replayed", () => {
    newest().open();
    newest().say("tick");
    vi.advanceTimersByTime(200);
    invalidate.mockClear();
    newest().fail(false);
    newest().open();
    expect(invalidated()).toEqual([undefined]);
  });

  it("knocks again where the browser gives up for good", () => {
    newest().fail(true);
    expect(FakeSource.made).toHaveLength(1);
    vi.advanceTimersByTime(6000);
    expect(FakeSource.made).toHaveLength(2);
  });

  it("stays silent once stopped", () => {
    newest().open();
    newest().say("tick");
    live.stop();
    vi.advanceTimersByTime(10_000);
    expect(invalidated()).toEqual([]);
    expect(FakeSource.made).toHaveLength(1);
  });
});
