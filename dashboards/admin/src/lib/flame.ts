// A speedscope file as a tree of calls, laid out as a flame graph. Of the format, only sampled profiles: it is what nodes write.

export interface Speedscope {
  shared: { frames: { name: string; file?: string; line?: number }[] };
  profiles: { name: string; samples: number[][]; weights: number[] }[];
  trimtab?: { duration_s: number; is_cpu_time: boolean };
}

/** A function as called from its parents. `total_s` counts what it called, `self_s` does not. */
export interface Call {
  name: string;
  total_s: number;
  self_s: number;
  children: Call[];
}

/** A call in the picture: `left` and `width` are shares of the whole, 0 to 1. `path` names it among all. */
export interface Box {
  call: Call;
  path: string;
  depth: number;
  left: number;
  width: number;
}

export interface Heavy {
  name: string;
  self_s: number;
  total_s: number;
}

/** Narrower than this share of the picture, a box could be neither read nor hit. */
const NARROWEST = 0.002;

/** The tree of all threads, heaviest first on each level. Its root is the process. */
export function treeOf(file: Speedscope): Call {
  const root: Call = { name: "all threads", total_s: 0, self_s: 0, children: [] };
  const children = new Map<Call, Map<string, Call>>();
  const childOf = (parent: Call, name: string): Call => {
    const known = children.get(parent) ?? new Map<string, Call>();
    children.set(parent, known);
    let call = known.get(name);
    if (!call) {
      call = { name, total_s: 0, self_s: 0, children: [] };
      known.set(name, call);
      parent.children.push(call);
    }
    return call;
  };
  for (const thread of file.profiles) {
    thread.samples.forEach((stack, place) => {
      const weight = thread.weights[place] ?? 0;
      let call = childOf(root, thread.name);
      root.total_s += weight;
      call.total_s += weight;
      for (const frame of stack) {
        call = childOf(call, file.shared.frames[frame]?.name ?? "unknown");
        call.total_s += weight;
      }
      call.self_s += weight;
    });
  }
  sortDown(root);
  return root;
}

function sortDown(call: Call) {
  call.children.sort((one, other) => other.total_s - one.total_s);
  call.children.forEach(sortDown);
}

/** The boxes of a tree with `focus` as wide as the picture: its callers above it, what it calls below. Too narrow ones are left out. */
export function layout(root: Call, focus = ""): Box[] {
  const boxes: Box[] = [];
  const place = (call: Call, path: string, depth: number, left: number, width: number) => {
    if (width < NARROWEST) return;
    boxes.push({ call, path, depth, left, width });
    const towards = focus.startsWith(`${path}/`) ? focus.slice(path.length + 1).split("/")[0] : undefined;
    if (towards !== undefined) {
      const next = call.children[Number(towards)];
      if (next) place(next, `${path}/${towards}`, depth + 1, 0, 1);
      return;
    }
    let at = left;
    call.children.forEach((child, number) => {
      const share = call.total_s > 0 ? (child.total_s / call.total_s) * width : 0;
      place(child, `${path}/${number}`, depth + 1, at, share);
      at += share;
    });
  };
  place(root, "0", 0, 0, 1);
  return boxes;
}

/** The functions that most time is spent in, by their own time; `total_s` counts each stack once, however often it recurs. */
export function heaviest(root: Call, count: number): Heavy[] {
  const found = new Map<string, Heavy>();
  const visit = (call: Call, above: ReadonlySet<string>) => {
    const heavy = found.get(call.name) ?? { name: call.name, self_s: 0, total_s: 0 };
    found.set(call.name, heavy);
    heavy.self_s += call.self_s;
    if (!above.has(call.name)) heavy.total_s += call.total_s;
    const below = new Set(above).add(call.name);
    for (const child of call.children) visit(child, below);
  };
  for (const thread of root.children) for (const call of thread.children) visit(call, new Set());
  return [...found.values()].sort((one, other) => other.self_s - one.self_s).slice(0, count);
}

/** Without the module's path: `inference_node.engine.engine.Engine.step` is `Engine.step`. */
export function shortName(name: string): string {
  const parts = name.split(".");
  const first = parts.findIndex((part) => /^[A-Z<]/.test(part));
  return first > 0 ? parts.slice(first).join(".") : parts.slice(-2).join(".");
}

export function isSpeedscope(value: unknown): value is Speedscope {
  if (typeof value !== "object" || value === null) return false;
  const { shared, profiles } = value as { shared?: { frames?: unknown }; profiles?: unknown };
  return Array.isArray(shared?.frames) && Array.isArray(profiles);
}
