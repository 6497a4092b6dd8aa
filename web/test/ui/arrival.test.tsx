import "fake-indexeddb/auto";
import { render } from "preact";
import { act } from "preact/test-utils";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { setLanguage } from "../../src/i18n";
import { FakeServer } from "../server";

// jsdom has no media queries; what asks for one does so while it is imported.
vi.hoisted(() => vi.stubGlobal("matchMedia", () => Object.assign(new EventTarget(), { matches: true })));
const { App } = await import("../../src/ui/app");
const { CHAT, followAddress, go } = await import("../../src/state/place");
const store = await import("../../src/state/store");

followAddress();
let root: HTMLElement;

beforeEach(async () => {
  vi.stubGlobal("fetch", new FakeServer().fetch);
  go(CHAT);
  await store.start();
  root = document.body.appendChild(document.createElement("div"));
  await act(() => render(<App />, root));
});

afterEach(() => {
  render(null, root);
  root.remove();
  setLanguage("en");
});

const TITLES = {
  "#/compare": { en: "Compare · Paddock", zh: "对比 · Paddock", ms: "Banding · Paddock" },
  "#/catalogue": { en: "Catalogue · Paddock", zh: "模型目录 · Paddock", ms: "Katalog · Paddock" },
  "#/catalogue/falcon": { en: "falcon · Catalogue · Paddock", zh: "falcon · 模型目录 · Paddock", ms: "falcon · Katalog · Paddock" },
  "#/tree": { en: "Tree by year · Catalogue · Paddock", zh: "年代树 · 模型目录 · Paddock", ms: "Pokok mengikut tahun · Katalog · Paddock" },
} as const;

it.each(Object.entries(TITLES))("the title and the keyboard follow to %s", async (address, titles) => {
  location.hash = address;
  await vi.waitFor(() => expect(document.title).toBe(titles.en));
  await vi.waitFor(() => expect(document.activeElement?.tagName).toBe("H1"));
  expect(titles.en).toContain(document.activeElement!.textContent);
  for (const language of ["zh", "ms"] as const) {
    await act(() => setLanguage(language));
    await vi.waitFor(() => expect(document.title).toBe(titles[language]));
  }
});

it.each([
  ["en", "This address leads to nothing on this page"],
  ["zh", "此地址在本页没有对应的内容"],
  ["ms", "Alamat ini tidak membawa ke mana-mana"],
] as const)("an unknown address is told in %s, without repeating it", async (language, words) => {
  setLanguage(language);
  location.hash = "#/call-0800-123";
  await vi.waitFor(() => expect(document.querySelector(".notice")?.textContent).toContain(words));
  await vi.waitFor(() => expect(document.querySelector("[role=status]")?.textContent).toContain(words));
  expect(document.body.textContent).not.toContain("0800");
  await act(() => store.begin());
  expect(document.body.querySelector(".notice")).toBeNull();
});

it("no conversation is in an address", async () => {
  location.hash = "#/compare";
  await vi.waitFor(() => expect(document.title).toContain("Compare"));
  store.change(store.current.value.id, (before) => ({ ...before, title: "My secret", system: "hush" }));
  await act(() => store.begin());
  expect(location.hash).toBe("#/chat");
  expect(location.search).toBe("");
});
