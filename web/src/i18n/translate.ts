// Texts by key, in the language of the interface. A key that a language lacks does not compile.

import { en } from "./en";
import { decimal, language, tag, type Language } from "./language";
import { ms } from "./ms";
import { zh } from "./zh";

/** A text whose form depends on its {n}. Languages without a plural have only `other`. */
export interface Plural {
  one?: string;
  other: string;
}

export type Key = keyof typeof en;
export type Messages = { readonly [K in Key]: (typeof en)[K] extends string ? string : Plural };

type Template<V> = V extends string ? V : V extends { other: infer Other } ? Other : never;
type HolesIn<S> = S extends `${string}{${infer Hole}}${infer Rest}` ? Hole | HolesIn<Rest> : never;
type Holes<K extends Key> = HolesIn<Template<(typeof en)[K]>>;
type Values<K extends Key> = [Holes<K>] extends [never] ? [] : [values: { [Hole in Holes<K>]: string | number }];

/** Keys whose texts have no holes: those that may stand in a table. */
export type PlainKey = { [K in Key]: [Holes<K>] extends [never] ? K : never }[Key];

const TEXTS: Record<Language, Messages> = { en, zh, ms };

/** The text of `key`, its holes filled; numbers are written the way the language writes them. */
export function t<K extends Key>(key: K, ...[values]: Values<K>): string {
  const text = TEXTS[language()][key] as string | Plural;
  const filling = (values ?? {}) as Record<string, string | number>;
  const template = typeof text === "string" ? text : pluralised(text, filling["n"]);
  return template.replace(/\{(\w+)\}/g, (hole, name: string) => {
    const value = filling[name];
    return value === undefined ? hole : typeof value === "number" ? decimal(value) : value;
  });
}

function pluralised(text: Plural, count: string | number | undefined): string {
  const one = typeof count === "number" && new Intl.PluralRules(tag()).select(count) === "one";
  return one ? (text.one ?? text.other) : text.other;
}
