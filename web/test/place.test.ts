import { beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { addressOf, astray, CHAT, entryAddress, followAddress, go, LIST, place, placeOf, TREE, view, type Place } from "../src/state/place";

const PLACES: readonly [string, Place][] = [
  ["#/chat", CHAT],
  ["#/compare", { view: "compare" }],
  ["#/catalogue", { view: "catalogue", names: [] }],
  ["#/catalogue/mistral-7b", { view: "catalogue", names: ["mistral-7b"] }],
  ["#/catalogue/llama-1/falcon", { view: "catalogue", names: ["llama-1", "falcon"] }],
  ["#/tree", TREE],
];

describe("an address", () => {
  it.each(PLACES)("%s stands for one place", (address, there) => {
    expect(addressOf(there)).toBe(address);
    expect(placeOf(address)).toEqual(there);
  });

  it.each(["", "#", "#/"])("%j is where the page begins", (address) => {
    expect(placeOf(address)).toEqual(CHAT);
  });

  it.each(["meta-llama/Llama-2-7b", "a b?c#d&e=%41", "通义千问", "compare", "<img src=x>", "📎"])("holds the name %j whole", (name) => {
    expect(placeOf(entryAddress(name, "x"))).toEqual({ view: "catalogue", names: [name, "x"] });
    expect(placeOf(`${entryAddress(name)}/`)).toEqual({ view: "catalogue", names: [name] });
  });

  it.each([
    "#message",
    "#/nowhere",
    "#/chat/0b9c2",
    "#/compare/x",
    "#/tree/x",
    "#/Catalogue",
    "#/cataloguex",
    "#/catalogue//x",
    "#/catalogue/%",
    "#/catalogue/%ff",
    "#/catalogue/..",
    "#/catalogue/%2e%2e/x",
    "#/__proto__",
    `#/catalogue/${"x".repeat(1000)}`,
    `#/catalogue${"/".repeat(100_000)}`,
  ].map((address) => [address.slice(0, 40), address] as const))("that is none: %j", (_, address) => {
    expect(placeOf(address)).toBeNull();
  });
});

describe("going", () => {
  beforeAll(followAddress);
  beforeEach(() => {
    history.replaceState(null, "", "#/chat");
    go(CHAT);
  });

  it("writes the address, once, and is undone by Back", async () => {
    const before = history.length;
    go({ view: "compare" });
    go({ view: "compare" });
    expect(view.value).toBe("compare");
    expect(location.hash).toBe("#/compare");
    expect(history.length).toBe(before + 1);
    history.back();
    await vi.waitFor(() => expect(view.value).toBe("chat"));
    history.forward();
    await vi.waitFor(() => expect(view.value).toBe("compare"));
  });

  it("follows an address that somebody wrote", async () => {
    location.hash = entryAddress("mistral-7b");
    await vi.waitFor(() => expect(place.value).toEqual({ view: "catalogue", names: ["mistral-7b"] }));
    location.hash = LIST;
    await vi.waitFor(() => expect(place.value).toEqual({ view: "catalogue", names: [] }));
  });

  it("leads from an unknown address to chat, which Back and reload do not undo, and says so until one goes on", async () => {
    go(TREE);
    location.hash = "#/nowhere";
    await vi.waitFor(() => expect(astray.value).toBe(true));
    expect(view.value).toBe("chat");
    expect(location.hash).toBe("#/chat");
    history.back();
    await vi.waitFor(() => expect(place.value).toEqual(TREE));
    expect(astray.value).toBe(false);
  });
});
