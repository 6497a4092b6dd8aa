// @vitest-environment node
import { describe, expect, it } from "vitest";
import { Reader } from "../src/ui/announce";

describe("an answer read aloud while it grows", () => {
  it("comes in whole sentences, seldom, each once", () => {
    const text = "One is here. Two is 1.5 long! 三。Four\nand the rest";
    const reader = new Reader();
    const said: string[] = [];
    for (let end = 1; end <= text.length; end++) {
      const next = reader.next(text.slice(0, end), false, end * 1000);
      if (next) said.push(next);
    }
    said.push(reader.next(text, true, 1e6));
    expect(said.length).toBeLessThan(text.length / 4);
    expect(said.join(" ").replace(/\s+/g, "")).toBe(text.replace(/\s+/g, ""));
    expect(said.slice(0, -1).every((one) => /[.!?。！？]$|Four$/.test(one))).toBe(true);
  });

  it("says nothing of half a sentence, and all of it at the end", () => {
    const reader = new Reader();
    expect(reader.next("A half", false, 1e5)).toBe("");
    expect(reader.next("A half", true, 1e5 + 1)).toBe("A half");
    expect(reader.next("A half", true, 2e5)).toBe("");
  });
});
