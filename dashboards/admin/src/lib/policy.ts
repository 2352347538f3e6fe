// A policy as a form: its fields as the API describes them (JSON Schema), what differs between two, and putting changes together.
import { words } from "./format";

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export type Document = { [key: string]: Json };
export type Schema = { [key: string]: unknown };

export type Kind = "number" | "integer" | "choice" | "switch" | "text" | "json";

/** One field. `path` names it in the document and in the API's errors: "guardrails.bounds.max_batch_size.min". */
export interface Field {
  path: string;
  label: string;
  help: string;
  kind: Kind;
  choices: string[];
  least: number | null;
  most: number | null;
  /** Whether `least` itself is too little. */
  above: boolean;
  usual: Json | undefined;
}

const UNITS: [string, string][] = [
  ["_per_h", "an hour"],
  ["_ms", "ms"],
  ["_s", "s"],
];

export function unitOf(path: string): string {
  return UNITS.find(([ending]) => path.endsWith(ending))?.[1] ?? "";
}

/** "guardrails.cooldown_relaxing_s" as "Cooldown relaxing"; a knob keeps its name. */
function labelOf(path: string): string {
  const steps = path.split(".");
  const last = steps.at(-1) ?? path;
  if (steps[0] === "autonomy") return last;
  if (path.startsWith("guardrails.bounds.")) return `${steps[2] ?? ""} ${last}`;
  const ending = UNITS.find(([unit]) => last.endsWith(unit))?.[0] ?? "";
  return words(ending ? last.slice(0, -ending.length) : last);
}

function isDocument(value: unknown): value is Document {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function resolve(root: Schema, schema: Schema): Schema {
  const reference = schema.$ref;
  if (typeof reference !== "string") return schema;
  const found = reference
    .replace("#/", "")
    .split("/")
    .reduce<unknown>((at, step) => (isDocument(at) ? at[step] : undefined), root);
  return { ...(isDocument(found) ? found : {}), ...schema };
}

function kindOf(schema: Schema): Kind {
  if (Array.isArray(schema.enum)) return "choice";
  switch (schema.type) {
    case "number":
    case "integer":
      return schema.type;
    case "boolean":
      return "switch";
    case "string":
      return "text";
    default:
      return "json"; // lists and what may be absent: shown as they are
  }
}

function numberOf(value: unknown): number | null {
  return typeof value === "number" ? value : null;
}

/** The fields of a part of the document, in the order in which the API describes them. Of tables by name: those of `value`. */
export function fieldsOf(root: Schema, schema: Schema, path: string, value: Json | undefined): Field[] {
  const here = resolve(root, schema);
  const inside = (name: string) => (isDocument(value) ? value[name] : undefined);
  const step = (name: string) => (path ? `${path}.${name}` : name);
  if (isDocument(here.properties)) {
    return Object.entries(here.properties).flatMap(([name, part]) =>
      fieldsOf(root, part as Schema, step(name), inside(name)),
    );
  }
  if (here.type === "object" && isDocument(here.additionalProperties) && isDocument(value)) {
    const part = here.additionalProperties;
    return Object.keys(value).flatMap((name) => fieldsOf(root, part, step(name), inside(name)));
  }
  const above = numberOf(here.exclusiveMinimum);
  return [
    {
      path,
      label: labelOf(path),
      help: path.includes(".bounds.") || path.startsWith("autonomy.") ? "" : String(schema.description ?? ""),
      kind: kindOf(here),
      choices: Array.isArray(here.enum) ? here.enum.map(String) : [],
      least: above ?? numberOf(here.minimum),
      most: numberOf(here.maximum),
      above: above !== null,
      usual: schema.default as Json | undefined,
    },
  ];
}

export function valueAt(document: Document, path: string): Json | undefined {
  return path.split(".").reduce<Json | undefined>((at, step) => (isDocument(at) ? at[step] : undefined), document);
}

/** The document with one value changed; undefined takes it out. Shares what did not change. */
export function withValue(document: Document, path: string, value: Json | undefined): Document {
  const [first = "", ...rest] = path.split(".");
  const next = { ...document };
  const inner = next[first];
  const changed = rest.length ? withValue(isDocument(inner) ? inner : {}, rest.join("."), value) : value;
  if (changed === undefined) delete next[first];
  else next[first] = changed;
  return next;
}

export interface Difference {
  path: string;
  from: Json | undefined;
  to: Json | undefined;
}

/** What differs, value by value; a list is one value. */
export function differences(from: Json | undefined, to: Json | undefined, path = ""): Difference[] {
  if (isDocument(from) && isDocument(to)) {
    const names = new Set([...Object.keys(from), ...Object.keys(to)]);
    return [...names].flatMap((name) => differences(from[name], to[name], path ? `${path}.${name}` : name));
  }
  return JSON.stringify(from) === JSON.stringify(to) ? [] : [{ path, from, to }];
}

/** The differences made on top of another document. */
export function onTop(document: Document, changes: Difference[]): Document {
  return changes.reduce((at, { path, to }) => withValue(at, path, to), document);
}

/** Which of my changes somebody else has changed as well, to something else. */
export function contested(mine: Difference[], theirs: Difference[]): Set<string> {
  const touches = (one: string, other: string) =>
    one === other || one.startsWith(`${other}.`) || other.startsWith(`${one}.`);
  const found = mine.filter((one) =>
    theirs.some((other) => touches(one.path, other.path) && JSON.stringify(one.to) !== JSON.stringify(other.to)),
  );
  return new Set(found.map((one) => one.path));
}

export function jsonText(value: Json | undefined): string {
  if (value === undefined) return "absent";
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** Why a value may not stand in a field, before the API is asked; null for nothing. */
export function fieldTrouble(field: Field, value: Json | undefined): string | null {
  if (field.kind !== "number" && field.kind !== "integer") return null;
  if (typeof value !== "number" || !Number.isFinite(value)) return "a number is needed";
  if (field.kind === "integer" && !Number.isInteger(value)) return "a whole number is needed";
  const { least, most } = field;
  if (least !== null && (field.above ? value <= least : value < least)) {
    return field.above ? `more than ${least}` : `at least ${least}`;
  }
  return most !== null && value > most ? `at most ${most}` : null;
}
