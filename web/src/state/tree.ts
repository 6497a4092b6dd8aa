/**
 * A conversation is a tree: an edited message or a second answer is a branch, and nothing said is ever lost.
 *
 * All functions are pure: they give a new conversation and leave the old one as it was.
 */

import type { Told } from "../api/refusal";
import type { Usage } from "../api/stream";
import type { Sampling } from "./sampling";

export type Id = string;
export type Role = "user" | "assistant";

/** How an answer came about and ended. */
export interface Answer {
  model: string;
  /** "chat": through the model's template. "text": the model continued the words as they stand. */
  mode: "chat" | "text";
  state: "running" | "done" | "stopped" | "failed";
  sampling: Sampling;
  system: string;
  /** The server's finish reason. */
  finish?: string;
  usage?: Usage;
  timings?: Record<string, number>;
  /** Seconds to the first piece, and to the end, as this page saw them. */
  first?: number;
  seconds?: number;
  refusal?: Told;
  ignored?: readonly string[];
}

export interface Turn {
  readonly id: Id;
  readonly parent: Id | null;
  readonly role: Role;
  readonly text: string;
  /** Milliseconds since 1970. */
  readonly at: number;
  readonly reasoning?: string;
  /** Of what a model wrote; not of an answer that a user wrote in its place. */
  readonly answer?: Answer;
}

export interface Conversation {
  readonly id: Id;
  /** What the user called it; empty: it is shown under its first words. */
  readonly title: string;
  readonly created: number;
  readonly changed: number;
  readonly model: string | null;
  readonly system: string;
  readonly sampling: Sampling;
  /** In the order they were made. */
  readonly turns: Readonly<Record<Id, Turn>>;
  /** Which child of a turn is shown; "" stands for the beginning. Without an entry it is the newest. */
  readonly chosen: Readonly<Record<Id, Id>>;
}

export function newId(): Id {
  // randomUUID exists on secure pages only, and a server in the house may have no certificate.
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function emptyConversation(from: Partial<Pick<Conversation, "model" | "system" | "sampling">> = {}): Conversation {
  const now = Date.now();
  return {
    id: newId(),
    title: "",
    created: now,
    changed: now,
    model: from.model ?? null,
    system: from.system ?? "",
    sampling: from.sampling ?? {},
    turns: {},
    chosen: {},
  };
}

type Children = ReadonlyMap<Id | null, readonly Id[]>;
const known = new WeakMap<Conversation["turns"], Children>();

function children(conversation: Conversation): Children {
  let found = known.get(conversation.turns);
  if (!found) {
    const made = new Map<Id | null, Id[]>();
    for (const turn of Object.values(conversation.turns)) {
      const beside = made.get(turn.parent);
      if (beside) beside.push(turn.id);
      else made.set(turn.parent, [turn.id]);
    }
    known.set(conversation.turns, (found = made));
  }
  return found;
}

/** The turns that are shown, from the first to the last. */
export function path(conversation: Conversation): Turn[] {
  const below = children(conversation);
  const shown: Turn[] = [];
  let ids = below.get(null);
  let place: Id = "";
  while (ids?.length) {
    const wanted = conversation.chosen[place];
    const id = wanted !== undefined && ids.includes(wanted) ? wanted : ids[ids.length - 1]!;
    const turn = conversation.turns[id]!;
    shown.push(turn);
    place = id;
    ids = below.get(id);
  }
  return shown;
}

/** The turns from the first to `id`, whether shown or not. */
export function pathTo(conversation: Conversation, id: Id | null): Turn[] {
  const found: Turn[] = [];
  let turn = id === null ? undefined : conversation.turns[id];
  while (turn) {
    found.push(turn);
    turn = turn.parent === null ? undefined : conversation.turns[turn.parent];
  }
  return found.reverse();
}

/** A turn and those beside it, in the order they were made. */
export function siblings(conversation: Conversation, id: Id): readonly Id[] {
  const turn = conversation.turns[id];
  return turn ? (children(conversation).get(turn.parent) ?? []) : [];
}

/** With `turn` under its parent, shown. Throws RangeError for a parent that is not there, or an id that is. */
export function add(conversation: Conversation, turn: Turn): Conversation {
  if (turn.parent !== null && !conversation.turns[turn.parent]) throw new RangeError("no such turn");
  if (conversation.turns[turn.id]) throw new RangeError("a turn comes once");
  return {
    ...conversation,
    changed: turn.at,
    turns: { ...conversation.turns, [turn.id]: turn },
    chosen: { ...conversation.chosen, [turn.parent ?? ""]: turn.id },
  };
}

/** With some of a turn's members changed; unchanged where there is no such turn any more. */
export function revise(conversation: Conversation, id: Id, patch: Partial<Omit<Turn, "id" | "parent">>): Conversation {
  const turn = conversation.turns[id];
  if (!turn) return conversation;
  return { ...conversation, turns: { ...conversation.turns, [id]: { ...turn, ...patch } } };
}

/** With the branch that `id` begins shown in place of its siblings'. */
export function choose(conversation: Conversation, id: Id): Conversation {
  const turn = conversation.turns[id];
  if (!turn) return conversation;
  return { ...conversation, chosen: { ...conversation.chosen, [turn.parent ?? ""]: id } };
}

/** Without a turn that nothing follows; unchanged where something does. */
export function drop(conversation: Conversation, id: Id): Conversation {
  if (!conversation.turns[id] || children(conversation).has(id)) return conversation;
  const { [id]: _, ...turns } = conversation.turns;
  return { ...conversation, turns };
}

const TITLE = 60;

/** What a conversation is listed under; empty for one without words. */
export function titleOf(conversation: Conversation): string {
  if (conversation.title) return conversation.title;
  const first = path(conversation).find((turn) => turn.text.trim() !== "");
  const words = (first?.text ?? "").trim().replace(/\s+/g, " ");
  const letters = Array.from(words.slice(0, 4 * TITLE));
  return letters.length > TITLE ? `${letters.slice(0, TITLE - 1).join("")}…` : letters.join("");
}

/** Whether every word of `query` is in the title or in what was said. */
export function matches(conversation: Conversation, query: string): boolean {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return true;
  const texts = [titleOf(conversation), ...Object.values(conversation.turns).map((turn) => turn.text)];
  const all = texts.join("\n").toLowerCase();
  return words.every((word) => all.includes(word));
}
