import { describe, expect, it } from "vitest";
import { heaviest, isSpeedscope, layout, type Speedscope, shortName, treeOf } from "./flame";

const FILE: Speedscope = {
  shared: { frames: [{ name: "m.main" }, { name: "m.step" }, { name: "m.wait" }] },
  profiles: [
    {
      name: "engine",
      samples: [[0, 1], [0, 1, 1], [0]],
      weights: [3, 2, 1],
    },
    { name: "server", samples: [[0, 2]], weights: [2] },
  ],
};

describe("treeOf", () => {
  it("adds equal stacks up, thread by thread", () => {
    const root = treeOf(FILE);
    expect(root.total_s).toBe(8);
    expect(root.children.map(({ name, total_s }) => [name, total_s])).toEqual([
      ["engine", 6],
      ["server", 2],
    ]);
    const main = root.children[0]?.children[0];
    expect(main).toMatchObject({ name: "m.main", total_s: 6, self_s: 1 });
    expect(main?.children[0]).toMatchObject({ name: "m.step", total_s: 5, self_s: 3 });
  });

  it("of nothing is empty", () => {
    expect(treeOf({ shared: { frames: [] }, profiles: [] })).toMatchObject({ total_s: 0, children: [] });
  });
});

describe("layout", () => {
  it("gives each call its share of its caller's width", () => {
    const boxes = layout(treeOf(FILE));
    const byPath = new Map(boxes.map((box) => [box.path, box]));
    expect(byPath.get("0")).toMatchObject({ depth: 0, left: 0, width: 1 });
    expect(byPath.get("0/0")).toMatchObject({ depth: 1, left: 0, width: 0.75 });
    expect(byPath.get("0/1")).toMatchObject({ left: 0.75, width: 0.25 });
    expect(byPath.get("0/0/0/0")?.width).toBeCloseTo(5 / 8);
  });

  it("spreads what is focused over the whole width, with its callers above and nothing beside it", () => {
    const boxes = layout(treeOf(FILE), "0/0/0/0");
    expect(boxes.map(({ path, width }) => [path, width])).toEqual([
      ["0", 1],
      ["0/0", 1],
      ["0/0/0", 1],
      ["0/0/0/0", 1],
      ["0/0/0/0/0", 0.4],
    ]);
  });

  it("leaves out what is too narrow to be seen", () => {
    const narrow: Speedscope = { ...FILE, profiles: [{ name: "t", samples: [[0], [1]], weights: [1000, 1] }] };
    expect(layout(treeOf(narrow)).map((box) => box.call.name)).toEqual(["all threads", "t", "m.main"]);
  });
});

describe("heaviest", () => {
  it("ranks by own time and counts a recursion once", () => {
    expect(heaviest(treeOf(FILE), 2)).toEqual([
      { name: "m.step", self_s: 5, total_s: 5 },
      { name: "m.wait", self_s: 2, total_s: 2 },
    ]);
  });
});

describe("names and files", () => {
  it("shows a function without its module's path", () => {
    expect(shortName("inference_node.engine.engine.Engine.step")).toBe("Engine.step");
    expect(shortName("inference_node.model.sampler.sample")).toBe("sampler.sample");
    expect(shortName("python (no Python)")).toBe("python (no Python)");
  });

  it("knows a file that is none", () => {
    expect(isSpeedscope(FILE)).toBe(true);
    for (const other of [null, 3, {}, { shared: {}, profiles: [] }]) expect(isSpeedscope(other)).toBe(false);
  });
});
