import { describe, expect, it } from "vitest";
import { aligned, parted, words, type Run } from "../../src/compare/words";

function text(runs: Run[]): string {
  return runs.map((run) => run.text).join("");
}

function own(runs: Run[]): string[] {
  return runs.filter((run) => !run.same).map((run) => run.text);
}

function shared(runs: Run[]): string {
  return text(runs.filter((run) => run.same));
}

describe("two texts", () => {
  it("are cut where they differ, and joined they are what they were", () => {
    const [left, right] = parted("Once upon a time there was a cat.", "Once upon a hill there was a black cat!");
    expect(text(left)).toBe("Once upon a time there was a cat.");
    expect(text(right)).toBe("Once upon a hill there was a black cat!");
    expect(own(left)).toEqual(["time", "."]);
    expect(own(right)).toEqual(["hill", "black ", "!"]);
  });

  it("that are equal have nothing of their own", () => {
    const [left, right] = parted("the same", "the same");
    expect([left, right]).toEqual([[{ text: "the same", same: true }], [{ text: "the same", same: true }]]);
  });

  it("may be empty, or have nothing in common", () => {
    expect(parted("", "")).toEqual([[], []]);
    expect(parted("", "a")).toEqual([[], [{ text: "a", same: false }]]);
    expect(parted("x", "y").map(own)).toEqual([["x"], ["y"]]);
  });

  it("in Chinese are cut into words too", () => {
    expect(words("从前有一只小马").length).toBeGreaterThan(1);
    const [left, right] = parted("从前有一只小马。", "从前有一只小猫。");
    expect(own(left).join("")).not.toContain("从前");
    expect(shared(right)).toContain("从前");
  });

  it("share as many words as the table of all prefixes says", () => {
    let seed = 7;
    const number = (below: number): number => (seed = (seed * 48271) % 2147483647) % below;
    for (let round = 0; round < 300; round++) {
      const make = (): string[] => Array.from({ length: number(14) }, () => "abc"[number(3)]!);
      const [one, other] = [make(), make()];
      const [ours, theirs] = aligned(one, other);
      const shared = one.filter((_, place) => ours[place]);
      expect(other.filter((_, place) => theirs[place])).toEqual(shared);
      expect(shared).toHaveLength(longest(one, other));
    }
  });

  it("have no gaps between words that differ", () => {
    const [left, right] = parted("It was a big, red barn there", "It was my old house there");
    expect(own(left)).toEqual(["a big, red barn"]);
    expect(own(right)).toEqual(["my old house"]);
  });

  it("of thousands of words that have nothing in common are given up on before they take minutes", () => {
    const [left] = parted("a ".repeat(4000), "b ".repeat(4000));
    expect(left).toEqual([
      { text: "a ".repeat(4000).trimEnd(), same: false },
      { text: " ", same: true },
    ]);
  });
});

/** The length of a longest common subsequence, by the plain table. */
function longest(a: string[], b: string[]): number {
  const table = Array.from({ length: a.length + 1 }, () => Array<number>(b.length + 1).fill(0));
  for (let i = 1; i <= a.length; i++) {
    for (let j = 1; j <= b.length; j++) {
      table[i]![j] = a[i - 1] === b[j - 1] ? table[i - 1]![j - 1]! + 1 : Math.max(table[i - 1]![j]!, table[i]![j - 1]!);
    }
  }
  return table[a.length]![b.length]!;
}
