/** Sampling settings as a user types them, and as a request says them. What is left empty is the model's to decide. */

export interface Field {
  name: FieldName;
  /** The name under which /v1/models/{id} tells the resolved value. */
  resolved: string;
  min: number;
  max: number;
  step: number | "any";
  whole: boolean;
}

export type FieldName =
  | "temperature"
  | "top_p"
  | "top_k"
  | "min_p"
  | "repetition_penalty"
  | "seed"
  | "max_tokens";

/** Bounds are those of the server's sampler; it checks them again. Seeds end where JavaScript's whole numbers do. */
export const FIELDS: readonly Field[] = [
  { name: "temperature", resolved: "temperature", min: 0, max: 100, step: 0.1, whole: false },
  { name: "top_p", resolved: "top_p", min: 0, max: 1, step: 0.05, whole: false },
  { name: "top_k", resolved: "top_k", min: 0, max: 2 ** 31, step: 1, whole: true },
  { name: "min_p", resolved: "min_p", min: 0, max: 1, step: 0.05, whole: false },
  { name: "repetition_penalty", resolved: "repetition_penalty", min: 0.01, max: 100, step: 0.05, whole: false },
  { name: "max_tokens", resolved: "max_new_tokens", min: 1, max: 2 ** 31, step: 1, whole: true },
  { name: "seed", resolved: "seed", min: 0, max: Number.MAX_SAFE_INTEGER, step: 1, whole: true },
];

export type Numbers = { readonly [name in FieldName]?: number };

export interface Sampling extends Numbers {
  readonly stop?: readonly string[];
}

export const MAX_STOPS = 16;

/** The number a user typed: undefined for nothing, null for what cannot be meant. */
export function numberOf(field: Field, typed: string): number | undefined | null {
  const text = typed.trim().replace(",", ".");
  if (text === "") return undefined;
  if (!/^\d*\.?\d+(e-?\d+)?$/i.test(text)) return null;
  const value = Number(text);
  if (!Number.isFinite(value) || value < field.min || value > field.max) return null;
  if (field.name === "top_p" && value === 0) return null;
  return field.whole && !Number.isInteger(value) ? null : value;
}

/** Stop strings, one a line; \n, \t and \\ stand for what a line cannot hold. */
export function stopsOf(typed: string): string[] {
  const lines = typed.split("\n").filter((line) => line !== "");
  const escapes: Record<string, string> = { n: "\n", t: "\t", "\\": "\\" };
  return lines.map((line) => line.replace(/\\([nt\\])/g, (_, letter: string) => escapes[letter] ?? letter));
}

export function shownStops(stops: readonly string[]): string {
  return stops
    .map((stop) => stop.replace(/\\/g, "\\\\").replace(/\n/g, "\\n").replace(/\t/g, "\\t"))
    .join("\n");
}

/** The fields of a request's body: only those that somebody set. */
export function bodyOf(sampling: Sampling): Record<string, unknown> {
  const body: Record<string, unknown> = {};
  for (const { name } of FIELDS) if (sampling[name] !== undefined) body[name] = sampling[name];
  if (sampling.stop?.length) body["stop"] = sampling.stop;
  return body;
}
