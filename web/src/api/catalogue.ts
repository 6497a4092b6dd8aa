/** What the server says about open models: /v1/catalogue. */

import { getJson } from "./http";
import { isRecord } from "./refusal";

export type Kind = "model" | "dataset" | "application";

export interface Size {
  /** The name that means this size alone. */
  id: string;
  name: string;
  stated: string | null;
  parameters: number | null;
  active: number | null;
  /** Whether Paddock runs what it is built like. */
  runnable: boolean;
  /** Bytes of the weights, by how many bits they take. */
  bytes: Readonly<Record<string, number>>;
}

export interface Row {
  id: string;
  kind: Kind;
  name: string;
  aliases: readonly string[];
  organisation: string;
  released: string | null;
  about: string;
  access: string;
  languages: readonly string[];
  licence: string | null;
  /** Whether the licence allows commercial use; null: it does not say. */
  commercial: boolean | null;
  family: string | null;
  tasks: readonly string[];
  context: number | null;
  sizes: readonly Size[];
}

export interface Listed {
  rows: readonly Row[];
  /** Names of languages by their codes. */
  languages: Readonly<Record<string, string>>;
}

export interface Fact {
  label: string;
  text: string;
  /** Which of the entry's sources says so; null: worked out. */
  source: number | null;
}

export interface Source {
  title: string;
  url: string;
  date: string | null;
  /** When facts were written down under it, and when it was opened for that, if it was. */
  noted: string | null;
  read: string | null;
}

export interface Neighbour {
  id: string;
  name: string;
}

export interface Entry {
  row: Row;
  size: string | null;
  facts: readonly Fact[];
  sources: readonly Source[];
  notes: readonly string[];
  /** What it was made of and what was made of it, by how. */
  up: Readonly<Record<string, readonly Neighbour[]>>;
  down: Readonly<Record<string, readonly Neighbour[]>>;
}

export interface Line {
  label: string;
  texts: readonly string[];
  differs: boolean;
}

export interface Comparison {
  names: readonly string[];
  lines: readonly Line[];
}

/** Every entry, in brief. Throws Refusal. */
export async function listCatalogue(): Promise<Listed> {
  const raw = record(await getJson("v1/catalogue"));
  return { rows: records(raw["data"]).map(rowOf), languages: texts(raw["languages"]) };
}

/** One entry; `name` may mean one of its sizes. Throws Refusal. */
export async function fetchEntry(name: string): Promise<Entry> {
  const raw = record(await getJson(`v1/catalogue/${encodeURIComponent(name)}`));
  return {
    row: rowOf(raw),
    size: text(raw["size"]),
    facts: records(raw["facts"]).map((one) => ({
      label: text(one["label"]) ?? "",
      text: text(one["text"]) ?? "",
      source: number(one["source"]),
    })),
    sources: records(raw["sources"]).map((one) => ({
      title: text(one["title"]) ?? "",
      url: address(one["url"]),
      date: text(one["date"]),
      noted: text(one["noted"]),
      read: text(one["read"]),
    })),
    notes: words(raw["notes"]),
    up: neighbours(raw["up"]),
    down: neighbours(raw["down"]),
  };
}

/** Several entries side by side. Throws Refusal. */
export async function compareEntries(names: readonly string[]): Promise<Comparison> {
  const query = names.map((name) => `name=${encodeURIComponent(name)}`).join("&");
  const raw = record(await getJson(`v1/catalogue/compare?${query}`));
  return {
    names: words(raw["names"]),
    lines: records(raw["lines"]).map((one) => ({
      label: text(one["label"]) ?? "",
      texts: words(one["texts"]),
      differs: one["differs"] === true,
    })),
  };
}

export function rowOf(raw: Record<string, unknown>): Row {
  const kind = raw["object"];
  const commercial = raw["commercial"];
  return {
    id: text(raw["id"]) ?? "",
    kind: kind === "dataset" || kind === "application" ? kind : "model",
    name: text(raw["name"]) ?? "",
    aliases: words(raw["aliases"]),
    organisation: text(raw["organisation"]) ?? "",
    released: text(raw["released"]),
    about: text(raw["about"]) ?? "",
    access: text(raw["access"]) ?? "",
    languages: words(raw["languages"]),
    licence: text(raw["licence"]),
    commercial: typeof commercial === "boolean" ? commercial : null,
    family: text(raw["family"]),
    tasks: words(raw["tasks"]),
    context: number(raw["context"]),
    sizes: records(raw["sizes"]).map(sizeOf),
  };
}

function sizeOf(raw: Record<string, unknown>): Size {
  const bytes = Object.entries(record(raw["bytes"])).filter((pair): pair is [string, number] => typeof pair[1] === "number");
  return {
    id: text(raw["id"]) ?? "",
    name: text(raw["name"]) ?? "",
    stated: text(raw["stated"]),
    parameters: number(raw["parameters"]),
    active: number(raw["active"]),
    runnable: raw["runnable"] === true,
    bytes: Object.fromEntries(bytes),
  };
}

function record(value: unknown): Record<string, unknown> {
  return isRecord(value) ? value : {};
}

function records(value: unknown): Record<string, unknown>[] {
  return Array.isArray(value) ? value.filter(isRecord) : [];
}

function text(value: unknown): string | null {
  return typeof value === "string" && value !== "" ? value : null;
}

function number(value: unknown): number | null {
  return typeof value === "number" ? value : null;
}

function words(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((one): one is string => typeof one === "string") : [];
}

function texts(value: unknown): Record<string, string> {
  return Object.fromEntries(Object.entries(record(value)).filter((pair): pair is [string, string] => typeof pair[1] === "string"));
}

/** An address that a link may lead to: the user's own files of the catalogue may hold anything. */
function address(value: unknown): string {
  return typeof value === "string" && /^https?:\/\//.test(value) ? value : "";
}

function neighbours(value: unknown): Record<string, Neighbour[]> {
  const kinds = Object.entries(record(value));
  return Object.fromEntries(
    kinds.map(([kind, list]) => [kind, records(list).map((one) => ({ id: text(one["id"]) ?? "", name: text(one["name"]) ?? "" }))]),
  );
}
