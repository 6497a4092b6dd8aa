import { render } from "preact";
import { act } from "preact/test-utils";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { GlassBox } from "../../src/glassbox/GlassBox";
import type { AnswerRecord, WrittenToken } from "../../src/glassbox/record";
import { setLanguage } from "../../src/i18n";

const top = [
  { id: 3, text: " cat", logprob: Math.log(0.6) },
  { id: 4, text: " dog", logprob: Math.log(0.3) },
];

function written(id: number, text: string, p: number): WrittenToken {
  const last = [
    { id: 3, text: " cat", p: 0.7 },
    { id: 4, text: " dog", p: 0.3 },
  ];
  const stages = [
    { name: "raw", survivors: 512, top: last },
    { name: "top_k", survivors: 2, top: last },
    { name: "of_the_future", survivors: 2, top: last },
  ];
  return { id, text, logprob: Math.log(p), top, draw: 0.8, probability: 0.3, stages };
}

const record: AnswerRecord = {
  prompt: {
    text: "<s> Hi",
    tokens: [
      { id: 1, text: "<s>", special: true },
      { id: 9, text: " Hi", special: false },
    ],
    cached: 1,
  },
  settings: { temperature: { value: 0.7, origin: "request" }, top_k: { value: 2, origin: "model" } },
  tokens: [written(3, " cat", 0.6), written(4, " dog", 0.05)],
  timings: { cache_n: 1, prompt_n: 1, prompt_ms: 2, predicted_n: 2, predicted_ms: 10 },
  seed: 42,
  firstMs: 12.4,
};

let root: HTMLElement;

beforeEach(() => {
  root = document.body.appendChild(document.createElement("div"));
  Element.prototype.scrollIntoView = vi.fn();
});

afterEach(() => {
  render(null, root);
  root.remove();
  setLanguage("en");
});

function show(shown: AnswerRecord | undefined, name = "a"): void {
  void act(() => render(<GlassBox record={shown} name={name} />, root));
}

function chips(list: string): HTMLElement[] {
  return [...root.querySelectorAll<HTMLElement>(`[aria-label="${list}"] [role=option]`)];
}

function press(key: string): void {
  const event = new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true });
  void act(() => void document.activeElement?.dispatchEvent(event));
}

it("says what it is for before there is an answer", () => {
  show(undefined);
  expect(root.textContent).toContain("the inside of the answer");
});

it("marks special and reused tokens in words too", () => {
  show(record);
  const [first, second] = chips("Tokens of the prompt");
  expect(first!.getAttribute("aria-label")).toBe("1: <s>, id 1, special token, reused");
  expect(second!.getAttribute("aria-label")).toBe("2: ·Hi, id 9");
  expect(root.textContent).toContain("Prompt: 2 tokens");
});

it("shows rivals, stages and the draw of the token that was clicked", () => {
  show(record);
  void act(() => chips("Tokens of the answer")[1]!.click());
  const rows = [...root.querySelectorAll(".gb-bars tbody tr")].map((row) => row.textContent);
  expect(rows).toEqual(["·cat360%", "·dog✓ chosen430%"]);
  const stages = [...root.querySelectorAll<HTMLElement>("[data-stage]")].map(
    (stage) => stage.querySelector("p")!.textContent,
  );
  expect(stages).toEqual([
    "As the model has it 512 candidates ",
    "Top k 2 candidates (510 dropped)",
    "of_the_future 2 candidates ",
  ]);
  expect(root.textContent).toContain("The random number was 0.8. It fell into this token's part, 0.7 to 1.");
  expect(root.querySelector<HTMLElement>(".gb-needle")!.style.left).toBe("80%");
});

it("has one tab stop, which arrow keys move", () => {
  show(record);
  const stops = (): number[] => chips("Tokens of the answer").map((chip) => chip.tabIndex);
  expect(stops()).toEqual([0, -1]);
  void act(() => chips("Tokens of the answer")[0]!.focus());
  press("ArrowRight");
  expect(stops()).toEqual([-1, 0]);
  expect(document.activeElement).toBe(chips("Tokens of the answer")[1]);
  expect(root.querySelector(".gb-detail h4")!.textContent).toContain("Token 2");
  press("Home");
  expect(root.querySelector(".gb-detail h4")!.textContent).toContain("Token 1");
});

it("forgets the chosen token with another answer", () => {
  show(record);
  void act(() => chips("Tokens of the answer")[1]!.click());
  show({ ...record, tokens: [written(3, " cat", 0.6)] }, "b");
  expect(root.querySelector(".gb-detail")).toBeNull();
});

it("says that nothing was drawn at temperature 0", () => {
  show({ ...record, tokens: [{ ...written(3, " cat", 0.6), draw: null, probability: 1 }] });
  void act(() => chips("Tokens of the answer")[0]!.click());
  expect(root.textContent).toContain("Nothing was drawn");
  expect(root.querySelector(".gb-draw")).toBeNull();
});

it("shows figures, and a dash for what is not known", () => {
  show(record);
  const figure = (id: string): string => root.querySelector(`[data-figure=${id}] dd`)!.textContent;
  expect([figure("first"), figure("rate"), figure("cached"), figure("seed")]).toEqual([
    "12 ms",
    "100 tokens/s",
    "1 token",
    "42",
  ]);
  show({ ...record, timings: undefined, seed: null } as AnswerRecord, "b");
  expect([figure("rate"), figure("seed")]).toEqual(["–", "–"]);
});

it("speaks another language at once, in drawn tokens too", () => {
  show(record);
  void act(() => setLanguage("zh"));
  expect(root.textContent).toContain("生效的设置");
  expect(chips("回答的词元")[0]!.getAttribute("aria-label")).toBe("·cat，概率 60%");
});

it("draws only what is near the screen, and what is chosen", () => {
  const observed: Element[] = [];
  vi.stubGlobal(
    "IntersectionObserver",
    class {
      observe = (element: Element): number => observed.push(element);
      disconnect = (): void => undefined;
    },
  );
  try {
    const many = Array.from({ length: 5000 }, (_, id) => written(id, ` w${id}`, 0.5));
    show({ ...record, tokens: many });
    expect(observed.length).toBeGreaterThanOrEqual(25);
    expect(chips("Tokens of the answer")).toHaveLength(200);
    void act(() => chips("Tokens of the answer")[0]!.focus());
    press("End");
    expect(chips("Tokens of the answer")).toHaveLength(400);
    expect(document.activeElement?.textContent).toBe("·w4999");
  } finally {
    vi.unstubAllGlobals();
  }
});
