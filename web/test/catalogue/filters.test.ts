import { describe, expect, it } from "vitest";
import { rowOf, type Row } from "../../src/api/catalogue";
import { ANYTHING, chosen, count, values } from "../../src/catalogue/filters";

function row(id: string, more: Record<string, unknown> = {}): Row {
  return rowOf({ id, object: "model", name: id, organisation: "Somebody", about: "", languages: ["en"], tasks: ["chat"], sizes: [], ...more });
}

function size(name: string, bytes: number, runnable = true): Record<string, unknown> {
  return { id: name, name, runnable, parameters: bytes * 2, bytes: { "4 bits": bytes } };
}

const ROWS = [
  row("old", { released: "2023-02", commercial: false, family: "LLaMA" }),
  row("new", { released: "2024-05-01", commercial: true, languages: ["zh", "en"], family: "Qwen" }),
  row("sized", { released: "2023-07", commercial: null, sizes: [size("small", 4e8), size("large", 4e10), size("other", 1e8, false)] }),
  row("texts", { object: "dataset", commercial: true }),
];

function names(wanted: Partial<typeof ANYTHING>): string[] {
  return chosen(ROWS, { ...ANYTHING, ...wanted }).map((one) => one.id);
}

describe("the list", () => {
  it("holds models, newest first", () => expect(names({})).toEqual(["new", "sized", "old"]));
  it("holds datasets where they are asked for, whatever is asked of models", () =>
    expect(names({ kind: "dataset", task: "code", family: "Qwen", most: 1 })).toEqual(["texts"]));
  it("takes an unknown licence for no permission", () => expect(names({ commercial: true })).toEqual(["new"]));
  it("goes by language, family and words", () => {
    expect(names({ language: "zh" })).toEqual(["new"]);
    expect(names({ family: "LLaMA" })).toEqual(["old"]);
    expect(names({ words: " SOME_body  siz" })).toEqual(["sized"]);
    expect(names({ words: "nothing" })).toEqual([]);
  });
  it("has first what is called so", () => expect(names({ words: "o" })[0]).toBe("old"));
  it("keeps of an entry the sizes that are meant", () => {
    const [found, ...rest] = chosen(ROWS, { ...ANYTHING, most: 1, runnable: true });
    expect(rest).toEqual([]);
    expect(found?.sizes.map((one) => one.name)).toEqual(["small"]);
  });
});

describe("what a server says", () => {
  it("is taken as it is meant, and nothing else", () => {
    const odd = rowOf({ id: 3, object: "<b>", sizes: "none", languages: [1, "en"], commercial: "yes" });
    expect(odd).toMatchObject({ id: "", kind: "model", sizes: [], languages: ["en"], commercial: null });
  });
});

it("counts as people do", () => {
  expect([6_738_415_616, 350e6, 1e12, 260_032, 12].map(count)).toEqual(["6.74B", "350M", "1T", "260K", "12"]);
});

it("gives each value once, in order", () => expect(values(ROWS, (one) => [one.family])).toEqual(["LLaMA", "Qwen"]));
