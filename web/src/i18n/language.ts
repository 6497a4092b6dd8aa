// Which language the interface speaks, and numbers and dates the way it writes them.

import { effect, signal } from "@preact/signals";

export const LANGUAGES = ["en", "zh", "ms"] as const;
export type Language = (typeof LANGUAGES)[number];

/** Each language's name in itself: a reader finds their own. */
export const NAMES: Record<Language, string> = { en: "English", zh: "简体中文", ms: "Bahasa Melayu" };

/** What Intl and <html lang> are told. */
const TAGS: Record<Language, string> = { en: "en", zh: "zh-Hans", ms: "ms" };

const KEPT = "paddock.language";

const current = signal<Language>(chosen() ?? preferred(navigator.languages));

/** The first of the browser's languages that there are texts in, else English. Indonesian readers are served Malay. */
export function preferred(wishes: readonly string[]): Language {
  for (const wish of wishes) {
    const base = wish.toLowerCase().split("-")[0];
    const found = LANGUAGES.find((one) => one === base) ?? (base === "id" ? "ms" : undefined);
    if (found) return found;
  }
  return "en";
}

function chosen(): Language | undefined {
  try {
    const kept = localStorage.getItem(KEPT);
    return LANGUAGES.find((one) => one === kept);
  } catch {
    return undefined; // storage is forbidden: the browser's wish is asked every time
  }
}

/** The language; a component that calls this is drawn again when it changes. */
export function language(): Language {
  return current.value;
}

export function tag(): string {
  return TAGS[current.value];
}

/** Speaks another language from now on, and keeps it for the next visit. */
export function setLanguage(next: Language): void {
  current.value = next;
  try {
    localStorage.setItem(KEPT, next);
  } catch {
    return; // it holds until the page is closed
  }
}

// Screen readers, hyphenation and fonts go by what the document says.
effect(() => {
  document.documentElement.lang = tag();
});

const made = new Map<string, Intl.NumberFormat>();

function format(kind: string, options: Intl.NumberFormatOptions): Intl.NumberFormat {
  const name = `${tag()} ${kind}`;
  let found = made.get(name);
  if (!found) made.set(name, (found = new Intl.NumberFormat(tag(), options)));
  return found;
}

/** A number with at most `digits` decimals. */
export function decimal(value: number, digits = 2): string {
  return format(`d${digits}`, { maximumFractionDigits: digits }).format(value);
}

/** A share of one as a percentage: 0.1234 is 12.3 %; what is small keeps two digits that count. */
export function percent(share: number): string {
  if (share > 0 && share < 0.0001) return `<${percent(0.0001)}`;
  const digits = share < 0.01 ? 2 : 1;
  return format(`p${digits}`, { style: "percent", maximumFractionDigits: digits }).format(share);
}

/** A moment as a short date and time. */
export function moment(time: number | Date): string {
  return new Intl.DateTimeFormat(tag(), { dateStyle: "medium", timeStyle: "short" }).format(time);
}
