/** Which entries somebody means. */

import type { Kind, Row, Size } from "../api/catalogue";

export interface Wanted {
  words: string;
  kind: Kind;
  task: string;
  language: string;
  family: string;
  /** Only licences that are known to allow commercial use. */
  commercial: boolean;
  /** Only what Paddock runs itself. */
  runnable: boolean;
  /** Gigabytes that the weights may take at 4 bits; null: any. */
  most: number | null;
}

export const ANYTHING: Wanted = {
  words: "",
  kind: "model",
  task: "",
  language: "",
  family: "",
  commercial: false,
  runnable: false,
  most: null,
};

export const MOST = 4; // entries side by side
export const SMALLEST = "4 bits";

/** The rows that are as wanted, each with those of its sizes that are: first those called so, then the newest. */
export function chosen(rows: readonly Row[], wanted: Wanted): Row[] {
  const phrase = folded(wanted.words);
  const words = phrase.split(" ").filter(Boolean);
  const called = (row: Row): number => (phrase && [row.id, row.name, ...row.aliases].some((name) => folded(name).startsWith(phrase)) ? 0 : 1);
  const ofSizes = wanted.runnable || wanted.most !== null;
  return rows
    .filter((row) => row.kind === wanted.kind)
    .filter((row) => !wanted.commercial || row.commercial === true)
    .filter((row) => !wanted.language || row.languages.includes(wanted.language))
    .filter((row) => !wanted.task || row.kind !== "model" || row.tasks.includes(wanted.task))
    .filter((row) => !wanted.family || row.kind !== "model" || row.family === wanted.family)
    .filter((row) => words.every((word) => said(row).includes(word)))
    .map((row) => (ofSizes && row.kind === "model" ? { ...row, sizes: row.sizes.filter((size) => isMeant(size, wanted)) } : row))
    .filter((row) => !ofSizes || row.kind !== "model" || row.sizes.length > 0)
    .sort((one, other) => called(one) - called(other) || (other.released ?? "").localeCompare(one.released ?? "") || one.name.localeCompare(other.name));
}

function isMeant(size: Size, wanted: Wanted): boolean {
  if (wanted.runnable && !size.runnable) return false;
  if (wanted.most === null) return true;
  const bytes = size.bytes[SMALLEST];
  return bytes !== undefined && bytes <= wanted.most * 1e9;
}

function said(row: Row): string {
  return folded([row.id, row.name, ...row.aliases, row.organisation, row.family ?? "", row.about].join(" "));
}

function folded(text: string): string {
  return text.toLowerCase().replace(/[\s_-]+/g, " ").trim();
}

/** Every value of a field among the models, in order. */
export function values(rows: readonly Row[], of: (row: Row) => readonly (string | null)[]): string[] {
  const found = new Set(rows.flatMap((row) => of(row)).filter((value): value is string => value !== null && value !== ""));
  return [...found].sort((one, other) => one.localeCompare(other));
}

/** A number of parameters as people say it: 6.7B, 350M. */
export function count(parameters: number): string {
  for (const [unit, size] of [["T", 1e12], ["B", 1e9], ["M", 1e6], ["K", 1e3]] as const) {
    if (parameters >= size) return `${Number((parameters / size).toPrecision(3))}${unit}`;
  }
  return String(parameters);
}
