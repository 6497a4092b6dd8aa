import { describe, expect, it } from "vitest";
import {
  absorb,
  decodeRate,
  EMPTY,
  interval,
  likelihood,
  promptRate,
  type WrittenToken,
} from "../../src/glassbox/record";
import { visible } from "../../src/glassbox/visible";
import { moved, spans } from "../../src/glassbox/windows";

function token(id: number, rest: Partial<WrittenToken> = {}): WrittenToken {
  return { id, text: `t${id}`, logprob: -1, top: [], ...rest };
}

describe("a record", () => {
  it("grows by the pieces of its chunks", () => {
    const prompt = { text: "Hi", tokens: [{ id: 1, text: "Hi", special: false }], cached: 1 };
    const timings = { cache_n: 1, prompt_n: 2, prompt_ms: 4, predicted_n: 3, predicted_ms: 8 };
    const pieces = [
      { prompt, settings: { top_k: { value: 40, origin: "model" } } },
      { tokens: [token(5)] },
      { tokens: [token(6), token(7)] },
      { timings, cached_tokens: 1, seed: 0 },
    ];
    const record = pieces.reduce(absorb, EMPTY);
    expect(record.tokens.map(({ id }) => id)).toEqual([5, 6, 7]);
    expect(record).toMatchObject({ prompt, timings, cached: 1, seed: 0, settings: { top_k: { value: 40 } } });
    expect(EMPTY.tokens).toEqual([]);
    expect(decodeRate(timings)).toBe(250);
    expect(promptRate(timings)).toBe(500);
  });

  it("knows no rate of one token, nor of a prompt that was all reused", () => {
    const timings = { cache_n: 9, prompt_n: 0, prompt_ms: 0, predicted_n: 1, predicted_ms: 0 };
    expect([decodeRate(timings), promptRate(timings)]).toEqual([undefined, undefined]);
  });
});

describe("the interval of a draw", () => {
  const stages = [{ name: "top_k", survivors: 3, top: [0.5, 0.3, 0.2].map((p, id) => ({ id, text: "", p })) }];

  it("is cumulated from the last stage", () => {
    const [from, to] = interval(token(1, { stages, draw: 0.6, probability: 0.3 }))!;
    expect(from).toBeCloseTo(0.5);
    expect(to).toBeCloseTo(0.8);
  });

  it("is the server's where it says it", () => {
    expect(interval(token(99, { stages, below: 0.25, probability: 0.5 }))).toEqual([0.25, 0.75]);
  });

  it("is unknown for a token that is not listed", () => {
    expect(interval(token(99, { stages }))).toBeUndefined();
    expect(interval(token(99))).toBeUndefined();
  });
});

it("likelihoods have five classes", () => {
  expect([0, 0.0999, 0.1, 0.3, 0.59, 0.6, 0.9, 1].map(likelihood)).toEqual([0, 0, 1, 2, 2, 3, 4, 4]);
});

it("what draws nothing is made visible", () => {
  expect(visible(" a\n\tb")).toBe("·a⏎⇥b");
  expect(visible("\u202ea\u200b\u0000")).toBe("⟨202E⟩a⟨200B⟩⟨0000⟩");
  expect(visible("")).toBe("∅");
  expect(visible("马🐴")).toBe("马🐴");
});

it("long lists are cut into pieces that cover them", () => {
  expect(spans(0)).toEqual([]);
  expect(spans(401, 200)).toEqual([
    { start: 0, end: 200 },
    { start: 200, end: 400 },
    { start: 400, end: 401 },
  ]);
});

it("keys move within the list", () => {
  expect(moved("ArrowRight", 8, 10)).toBe(9);
  expect(moved("ArrowRight", 9, 10)).toBe(9);
  expect(moved("ArrowLeft", 0, 10)).toBe(0);
  expect([moved("Home", 5, 10), moved("End", 5, 10), moved("PageDown", 5, 100)]).toEqual([0, 9, 25]);
  expect(moved("a", 5, 10)).toBeUndefined();
});
