import { describe, expect, it } from "vitest";
import {
  contested,
  type Document,
  differences,
  fieldsOf,
  fieldTrouble,
  onTop,
  type Schema,
  unitOf,
  valueAt,
  withValue,
} from "./policy";

const SCHEMA: Schema = {
  $defs: {
    Slo: {
      type: "object",
      properties: {
        ttft_p95_s: { type: "number", exclusiveMinimum: 0, default: 1.5, description: "first token within" },
        error_rate: { type: "number", minimum: 0, maximum: 1, default: 0.01 },
      },
    },
    Level: { enum: ["off", "auto"], type: "string" },
    Mesh: { type: "object", properties: { route: { type: "string" } } },
  },
  type: "object",
  properties: {
    slo: { $ref: "#/$defs/Slo" },
    autonomy: { type: "object", additionalProperties: { $ref: "#/$defs/Level" } },
    windows: { type: "integer", minimum: 2 },
    mesh: { anyOf: [{ $ref: "#/$defs/Mesh" }, { type: "null" }], default: null },
    freezes: { type: "array", items: { type: "object" }, default: [] },
  },
};
const DOCUMENT: Document = {
  slo: { ttft_p95_s: 1.5, error_rate: 0.01 },
  autonomy: { precision: "off", max_queue: "auto" },
  windows: 12,
  mesh: null,
  freezes: [],
};

describe("fieldsOf", () => {
  const fields = fieldsOf(SCHEMA, SCHEMA, "", DOCUMENT);

  it("finds every value by its path", () => {
    expect(fields.map(({ path, kind }) => `${path} ${kind}`)).toEqual([
      "slo.ttft_p95_s number",
      "slo.error_rate number",
      "autonomy.precision choice",
      "autonomy.max_queue choice",
      "windows integer",
      "mesh json",
      "freezes json",
    ]);
  });

  it("takes bounds, defaults and words from the description", () => {
    expect(fields[0]).toMatchObject({
      label: "TTFT p95",
      help: "first token within",
      least: 0,
      above: true,
      usual: 1.5,
    });
    expect(fields[2]).toMatchObject({ label: "precision", choices: ["off", "auto"] });
  });
});

describe("fieldTrouble", () => {
  const [ttft, errors, , , windows] = fieldsOf(SCHEMA, SCHEMA, "", DOCUMENT);

  it("says what is wrong before the API is asked", () => {
    expect(ttft && fieldTrouble(ttft, 0)).toBe("more than 0");
    expect(errors && fieldTrouble(errors, 1.5)).toBe("at most 1");
    expect(windows && fieldTrouble(windows, 2.5)).toBe("a whole number is needed");
    expect(windows && fieldTrouble(windows, 1)).toBe("at least 2");
    expect(windows && fieldTrouble(windows, "")).toBe("a number is needed");
    expect(windows && fieldTrouble(windows, 2)).toBeNull();
  });
});

describe("withValue and valueAt", () => {
  it("change one value and share the rest", () => {
    const next = withValue(DOCUMENT, "slo.error_rate", 0.05);
    expect(valueAt(next, "slo.error_rate")).toBe(0.05);
    expect(valueAt(DOCUMENT, "slo.error_rate")).toBe(0.01);
    expect(next.autonomy).toBe(DOCUMENT.autonomy);
    expect(valueAt(withValue(DOCUMENT, "autonomy.precision", undefined), "autonomy.precision")).toBeUndefined();
  });
});

describe("putting changes together", () => {
  const mine = withValue(withValue(DOCUMENT, "windows", 20), "slo.error_rate", 0.05);
  const theirs = withValue(withValue(DOCUMENT, "windows", 30), "autonomy.precision", "auto");

  it("keeps both where they do not meet, and mine where they do", () => {
    const changes = differences(DOCUMENT, mine);
    expect(changes.map((change) => change.path)).toEqual(["slo.error_rate", "windows"]);
    const both = onTop(theirs, changes);
    expect(both).toMatchObject({ windows: 20, slo: { error_rate: 0.05 }, autonomy: { precision: "auto" } });
  });

  it("names what both have changed", () => {
    expect([...contested(differences(DOCUMENT, mine), differences(DOCUMENT, theirs))]).toEqual(["windows"]);
    expect([...contested(differences(DOCUMENT, mine), differences(DOCUMENT, mine))]).toEqual([]);
  });

  it("takes a list for one value", () => {
    const frozen = withValue(DOCUMENT, "freezes", [{ cron: "0 18 * * fri" }]);
    expect(differences(DOCUMENT, frozen)).toEqual([{ path: "freezes", from: [], to: [{ cron: "0 18 * * fri" }] }]);
  });
});

describe("unitOf", () => {
  it("reads it off the name", () => {
    expect(["a.settle_s", "b.batch_wait_ms", "max_changes_per_h", "margin"].map(unitOf)).toEqual([
      "s",
      "ms",
      "an hour",
      "",
    ]);
  });
});
