/** The interface's texts. */

import { en } from "./en";

export type Key = keyof typeof en;

/** The text of a key, with what is named put into its braces. */
export function t(key: Key, values: Readonly<Record<string, string | number>> = {}): string {
  return en[key].replace(/\{(\w+)\}/g, (whole, name: string) => (name in values ? String(values[name]) : whole));
}
