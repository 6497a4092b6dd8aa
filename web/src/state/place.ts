/** Where somebody is on the page, as its address says after the #: reload, Back, bookmarks and new tabs go by it.
 *  An address leads to a view, never to what was said: it stays in histories and is passed on. */

import { computed, signal } from "@preact/signals";

/** What the page can show, and how it is called. */
export const VIEWS = { chat: "nav.chat", compare: "nav.compare", catalogue: "nav.catalogue" } as const;
export type View = keyof typeof VIEWS;

/** names, of the catalogue's entries: none is their list, one is that entry, several are side by side. */
export type Place = { view: "chat" | "compare" } | { view: "catalogue"; names: readonly string[] } | { view: "catalogue"; tree: true };

export const CHAT: Place = { view: "chat" };
const COMPARE: Place = { view: "compare" };
export const TREE: Place = { view: "catalogue", tree: true };
const LONGEST = 1000; // characters of an address; six names of the catalogue take a fifth of that

export function addressOf(place: Place): string {
  if ("tree" in place) return "#/tree";
  return ["#", place.view, ...("names" in place ? place.names.map(encodeURIComponent) : [])].join("/");
}

/** The place that an address names; null where it names none. */
export function placeOf(address: string): Place | null {
  if (["", "#", "#/", "#/chat"].includes(address)) return CHAT;
  if (address === "#/compare") return COMPARE;
  if (address === "#/tree") return TREE;
  const [, rest] = /^#\/catalogue((?:\/[^/]+)*)\/?$/.exec(address.slice(0, LONGEST + 1)) ?? [];
  if (rest === undefined || address.length > LONGEST) return null;
  try {
    const names = rest.split("/").slice(1).map(decodeURIComponent);
    // As names these would be steps up in the address that the server is asked under.
    return names.some((name) => name === "." || name === "..") ? null : { view: "catalogue", names };
  } catch {
    return null; // a % that begins nothing
  }
}

export const entryAddress = (...names: string[]): string => addressOf({ view: "catalogue", names });
export const LIST = entryAddress();

export const place = signal<Place>(CHAT);
export const view = computed<View>(() => place.value.view);
/** Whether the address led nowhere, and chat is shown in its place. */
export const astray = signal(false);

/** Shows a place and writes its address. Links need no call: the browser follows them, and `follow` hears of it. */
export function go(to: Place): void {
  astray.value = false;
  if (addressOf(place.value) === addressOf(to)) return; // no second entry in the browser's history
  place.value = to;
  location.hash = addressOf(to);
}

/** Shows what the address says, now and whenever it changes. */
export function followAddress(): void {
  addEventListener("hashchange", follow);
  follow();
}

function follow(): void {
  const found = placeOf(location.hash);
  if (!found) history.replaceState(null, "", addressOf(CHAT)); // or Back would lead astray again
  const moves = addressOf(found ?? CHAT) !== addressOf(place.value);
  // Two changes at once are told twice, and the second time the address is chat's already.
  if (moves || !found) astray.value = !found;
  if (moves) place.value = found ?? CHAT;
}
