/** What a user likes, kept in localStorage: small, and read before the first picture is drawn. */

import { effect, signal, type Signal } from "@preact/signals";

export type Theme = "auto" | "light" | "dark";

function kept<Value extends string>(name: string, fallback: Value, known?: readonly Value[]): Signal<Value> {
  const key = `paddock.${name}`;
  let first: Value = fallback;
  try {
    const found = localStorage.getItem(key) as Value | null;
    if (found !== null && (!known || known.includes(found))) first = found;
  } catch {
    // The browser keeps nothing: it holds for this visit.
  }
  const value = signal<Value>(first);
  effect(() => {
    const now = value.value;
    try {
      localStorage.setItem(key, now);
    } catch {
      // As above.
    }
  });
  return value;
}

export const theme = kept<Theme>("theme", "auto", ["auto", "light", "dark"]);
export const lastModel = kept<string>("model", "");
export const lastConversation = kept<string>("conversation", "");

effect(() => {
  document.documentElement.dataset["theme"] = theme.value;
});
