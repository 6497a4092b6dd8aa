/** Conversations as a file: written by this page, and read from anybody. */

import { isRecord } from "../api/refusal";
import { FIELDS, numberOf, type Sampling } from "./sampling";
import { newId, type Answer, type Conversation, type Id, type Turn } from "./tree";

export const FORMAT = "paddock.conversations";
const VERSION = 1;
const MAX_BYTES = 64 * 2 ** 20;
const MAX_TURNS = 100_000;

/** Why a file was not read: a key of the interface's texts, and where in the file. */
export class ImportError extends Error {
  constructor(readonly place: string) {
    super(place);
  }
}

export function exported(conversations: readonly Conversation[]): string {
  return `${JSON.stringify({ format: FORMAT, version: VERSION, conversations }, null, 1)}\n`;
}

/** The conversations of a file, under new ids: what is here already stays as it is. Throws ImportError. */
export function imported(text: string): Conversation[] {
  if (text.length > MAX_BYTES) throw new ImportError("size");
  let file: unknown;
  try {
    file = JSON.parse(text);
  } catch {
    throw new ImportError("json");
  }
  if (!isRecord(file) || file["format"] !== FORMAT || file["version"] !== VERSION) throw new ImportError("format");
  const list = file["conversations"];
  if (!Array.isArray(list)) throw new ImportError("conversations");
  return list.map((raw: unknown, place) => conversationOf(raw, `conversations[${place}]`));
}

function conversationOf(raw: unknown, place: string): Conversation {
  const found = record(raw, place);
  const turnsRaw = Object.entries(record(found["turns"], `${place}.turns`));
  if (turnsRaw.length > MAX_TURNS) throw new ImportError(`${place}.turns`);
  const ids = new Map<string, Id>(turnsRaw.map(([id]) => [id, newId()]));
  const turns: Record<Id, Turn> = {};
  for (const [old, entry] of turnsRaw) {
    const turn = turnOf(entry, ids.get(old)!, ids, `${place}.turns[${JSON.stringify(old)}]`);
    // A parent stands before its children, so that no turn can be its own ancestor.
    if (turn.parent !== null && !turns[turn.parent]) throw new ImportError(`${place}.turns[${JSON.stringify(old)}].parent`);
    turns[turn.id] = turn;
  }
  const chosen: Record<Id, Id> = {};
  for (const [above, below] of Object.entries(record(found["chosen"] ?? {}, `${place}.chosen`))) {
    const from = above === "" ? "" : ids.get(above);
    const to = typeof below === "string" ? ids.get(below) : undefined;
    if (from !== undefined && to !== undefined) chosen[from] = to;
  }
  return {
    id: newId(),
    title: text(found["title"] ?? "", `${place}.title`),
    created: time(found["created"]),
    changed: time(found["changed"]),
    model: typeof found["model"] === "string" ? found["model"] : null,
    system: text(found["system"] ?? "", `${place}.system`),
    sampling: samplingOf(found["sampling"]),
    turns,
    chosen,
  };
}

function turnOf(raw: unknown, id: Id, ids: ReadonlyMap<string, Id>, place: string): Turn {
  const found = record(raw, place);
  const role = found["role"];
  if (role !== "user" && role !== "assistant") throw new ImportError(`${place}.role`);
  const above = found["parent"] ?? null;
  const parent = above === null ? null : typeof above === "string" ? ids.get(above) : undefined;
  if (parent === undefined) throw new ImportError(`${place}.parent`);
  const turn: Turn = { id, parent, role, text: text(found["text"], `${place}.text`), at: time(found["at"]) };
  const answer = answerOf(found["answer"]);
  const reasoning = found["reasoning"];
  return {
    ...turn,
    ...(typeof reasoning === "string" ? { reasoning } : {}),
    ...(answer ? { answer } : {}),
  };
}

function answerOf(raw: unknown): Answer | undefined {
  if (!isRecord(raw)) return undefined;
  const usage = raw["usage"];
  const count = (value: unknown): number => (typeof value === "number" ? value : 0);
  return {
    model: typeof raw["model"] === "string" ? raw["model"] : "",
    mode: raw["mode"] === "text" ? "text" : "chat",
    state: raw["state"] === "done" ? "done" : "stopped",
    sampling: samplingOf(raw["sampling"]),
    system: typeof raw["system"] === "string" ? raw["system"] : "",
    ...(typeof raw["finish"] === "string" ? { finish: raw["finish"] } : {}),
    ...(typeof raw["first"] === "number" ? { first: raw["first"] } : {}),
    ...(typeof raw["seconds"] === "number" ? { seconds: raw["seconds"] } : {}),
    ...(isRecord(usage)
      ? { usage: { prompt: count(usage["prompt"]), completion: count(usage["completion"]), cached: count(usage["cached"]) } }
      : {}),
  };
}

function samplingOf(raw: unknown): Sampling {
  if (!isRecord(raw)) return {};
  const numbers = FIELDS.flatMap((field) => {
    const value = raw[field.name];
    const checked = typeof value === "number" ? numberOf(field, String(value)) : undefined;
    return typeof checked === "number" ? [[field.name, checked] as const] : [];
  });
  const stop = Array.isArray(raw["stop"]) ? raw["stop"].filter((one): one is string => typeof one === "string") : [];
  return { ...Object.fromEntries(numbers), ...(stop.length ? { stop } : {}) };
}

function record(value: unknown, place: string): Record<string, unknown> {
  if (!isRecord(value)) throw new ImportError(place);
  return value;
}

function text(value: unknown, place: string): string {
  if (typeof value !== "string") throw new ImportError(place);
  return value;
}

function time(value: unknown): number {
  return typeof value === "number" && Number.isFinite(value) ? value : Date.now();
}
