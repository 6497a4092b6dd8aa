// @vitest-environment node
import { describe, expect, it } from "vitest";
import { bodyOf, FIELDS, numberOf, shownStops, stopsOf, type Field, type FieldName } from "../src/state/sampling";

const field = (name: FieldName): Field => FIELDS.find((one) => one.name === name)!;

describe("what is typed into a setting", () => {
  it.each([
    ["temperature", "0", 0],
    ["temperature", " 0.7 ", 0.7],
    ["temperature", "0,7", 0.7],
    ["temperature", ".5", 0.5],
    ["temperature", "1e-3", 0.001],
    ["top_k", "40", 40],
    ["seed", "9007199254740991", 9007199254740991],
  ] as const)("%s %j is %d", (name, typed, value) => {
    expect(numberOf(field(name), typed)).toBe(value);
  });

  it.each([
    ["temperature", "-1"],
    ["temperature", "hot"],
    ["temperature", "1 2"],
    ["temperature", "0x10"],
    ["temperature", "Infinity"],
    ["temperature", "1e999"],
    ["temperature", "101"],
    ["top_p", "0"],
    ["top_p", "1.1"],
    ["top_k", "1.5"],
    ["max_tokens", "0"],
    ["seed", "9007199254740992"],
  ] as const)("%s %j cannot be meant", (name, typed) => {
    expect(numberOf(field(name), typed)).toBeNull();
  });

  it("is left to the model where there is nothing", () => {
    expect(numberOf(field("top_k"), "  ")).toBeUndefined();
  });
});

describe("stop strings", () => {
  it("come back as they were typed", () => {
    const stops = ["\n\n", "User:", "\t", "a\\b", "\\n"];
    expect(stopsOf(shownStops(stops))).toEqual(stops);
    expect(stopsOf("\nEnd\n\\n\n")).toEqual(["End", "\n"]);
  });
});

describe("a request's settings", () => {
  it("are those that somebody set, zero among them", () => {
    expect(bodyOf({})).toEqual({});
    expect(bodyOf({ temperature: 0, top_k: 5, stop: [] })).toEqual({ temperature: 0, top_k: 5 });
    expect(bodyOf({ stop: ["x"], seed: 7 })).toEqual({ stop: ["x"], seed: 7 });
  });
});
