/** What the page knows: models, conversations, what is being written. Components read signals; only this room writes them. */

import { computed, signal } from "@preact/signals";
import { fetchCard, listModels, type ModelCard } from "../api/models";
import { Refusal, type Told } from "../api/refusal";
import { CHAT, go } from "./place";
import { lastConversation, lastModel } from "./preferences";
import { Storage } from "./storage";
import { emptyConversation, path, type Conversation, type Id, type Turn } from "./tree";

export type Panel = "none" | "settings" | "glass";

export const models = signal<readonly ModelCard[]>([]);
/** What went wrong while the list of models was fetched. */
export const modelsRefusal = signal<Told | null>(null);
export const cards = signal<ReadonlyMap<string, ModelCard>>(new Map());

export const conversations = signal<ReadonlyMap<Id, Conversation>>(new Map());
/** The conversation that is shown. It is in `conversations` from its first message on. */
export const current = signal<Conversation>(emptyConversation());
export const currentId = computed<Id>(() => current.value.id);
export const shownTurns = computed<readonly Turn[]>(() => path(current.value));

export const panel = signal<Panel>("none");
/** The answer that the glass box shows. */
export const glassTurn = signal<Id | null>(null);
/** Whether the browser keeps conversations; null until that is known. */
export const keeps = signal<boolean | null>(null);

/** The model that the next answer of the shown conversation comes from. */
export const chosenModel = computed<ModelCard | null>(() => {
  const list = models.value;
  const named = list.find((card) => card.id === current.value.model) ?? list.find((card) => card.id === lastModel.value);
  const found = named ?? list[0];
  return found ? (cards.value.get(found.id) ?? found) : null;
});

/** Newest first. */
export const listed = computed<readonly Conversation[]>(() =>
  [...conversations.value.values()].sort((one, other) => other.changed - one.changed),
);

let storage: Storage | null = null;
const glassEvents = new Map<Id, unknown[]>();
/** Rises whenever a running answer brought something for the glass box. */
export const glassVersion = signal(0);

/** Reads what this browser kept and what the server has. */
export async function start(): Promise<void> {
  await Promise.all([readConversations(), readModels()]);
}

/** What other tabs of this page wrote is read again here, or the tab that writes last would undo it. */
const tabs = typeof BroadcastChannel === "undefined" ? null : new BroadcastChannel("paddock.conversations");
if (tabs) tabs.onmessage = ({ data }: MessageEvent<readonly Id[]>) => void Promise.all(data.map(reread));

async function reread(id: Id): Promise<void> {
  if (unsaved.has(id)) return; // what is being said here is newer
  const found = await storage?.one(id).catch(() => undefined);
  const rest = new Map(conversations.value);
  if (found) rest.set(id, found);
  else rest.delete(id);
  conversations.value = rest;
  if (found && current.value.id === id) current.value = found;
}

async function readConversations(): Promise<void> {
  try {
    storage = await Storage.open();
    const found = await storage.all();
    const whole = found.map(settled);
    conversations.value = new Map([...whole.map((one) => [one.id, one] as const), ...conversations.value]);
    const last = conversations.value.get(lastConversation.value);
    if (last && !shownTurns.value.length) current.value = last;
    keeps.value = true;
  } catch {
    keeps.value = false;
  }
}

/** An answer that was being written when the page was closed is not being written any more. */
function settled(conversation: Conversation): Conversation {
  const turns = Object.values(conversation.turns);
  if (!turns.some((turn) => turn.answer?.state === "running")) return conversation;
  const mended = turns.map((turn) =>
    turn.answer?.state === "running" ? { ...turn, answer: { ...turn.answer, state: "stopped" as const } } : turn,
  );
  return { ...conversation, turns: Object.fromEntries(mended.map((turn) => [turn.id, turn])) };
}

export async function readModels(): Promise<void> {
  try {
    models.value = await listModels();
    modelsRefusal.value = null;
    const first = chosenModel.value;
    if (first) await readCard(first.id);
  } catch (error) {
    const told = toldOf(error);
    modelsRefusal.value = told;
    // A server that is still loading says when to ask again.
    if (told.status === 503 && told.retryAt !== null) setTimeout(() => void readModels(), told.retryAt - Date.now());
  }
}

/** What there is to know of a model; asked of the server once. */
export async function readCard(id: string): Promise<ModelCard | null> {
  const known = cards.value.get(id);
  if (known) return known;
  const card = await fetchCard(id);
  if (card) cards.value = new Map(cards.value).set(id, card);
  return card;
}

export function toldOf(error: unknown): Told {
  if (error instanceof Refusal) return error.told;
  return new Refusal({ kind: "broken", message: error instanceof Error ? error.message : String(error) }).told;
}

/** Changes a conversation wherever it is. It is kept by the browser soon after. */
export function change(id: Id, how: (conversation: Conversation) => Conversation): void {
  const before = current.value.id === id ? current.value : conversations.value.get(id);
  if (!before) return; // deleted in the meantime
  const after = how(before);
  if (current.value.id === id) current.value = after;
  if (conversations.value.has(id) || Object.keys(after.turns).length) {
    conversations.value = new Map(conversations.value).set(id, after);
    if (current.value.id === id) lastConversation.value = id; // the page opens with it next time
    keepSoon(id);
  }
}

export function open(id: Id): void {
  const found = conversations.value.get(id);
  if (!found) return;
  current.value = found;
  lastConversation.value = id;
  glassTurn.value = null;
  if (panel.value === "glass") panel.value = "none";
  go(CHAT);
}

/** A fresh conversation, with the model, system prompt and settings of the one before. */
export function begin(): void {
  const { model, system, sampling } = current.value;
  current.value = emptyConversation({ model, system, sampling });
  lastConversation.value = current.value.id;
  glassTurn.value = null;
  if (panel.value === "glass") panel.value = "none";
  go(CHAT);
}

export function rename(id: Id, title: string): void {
  change(id, (conversation) => ({ ...conversation, title: title.trim().slice(0, 200) }));
}

export async function forget(id: Id): Promise<void> {
  const conversation = conversations.value.get(id);
  const rest = new Map(conversations.value);
  rest.delete(id);
  conversations.value = rest;
  unsaved.delete(id);
  for (const turn of Object.keys(conversation?.turns ?? {})) glassEvents.delete(turn);
  if (current.value.id === id) {
    current.value = emptyConversation({ model: current.value.model });
    glassTurn.value = null;
    if (panel.value === "glass") panel.value = "none";
  }
  await storage?.remove(id);
  tabs?.postMessage([id]);
}

/** Adds conversations that a file brought. */
export function adopt(brought: readonly Conversation[]): void {
  conversations.value = new Map([...conversations.value, ...brought.map((one) => [one.id, one] as const)]);
  for (const one of brought) keepSoon(one.id);
}

export function chooseModel(id: string): void {
  lastModel.value = id;
  change(current.value.id, (conversation) => ({ ...conversation, model: id }));
  readCard(id).catch((error: unknown) => (modelsRefusal.value = toldOf(error)));
}

// Writing is put off, so that an answer of a thousand pieces is not written a thousand times.
const SOON = 800;
const unsaved = new Set<Id>();
let waiting: ReturnType<typeof setTimeout> | undefined;

function keepSoon(id: Id): void {
  unsaved.add(id);
  waiting ??= setTimeout(() => void keepNow(), SOON);
}

/** Writes what has changed. Called also when the page is about to be hidden or closed. */
export async function keepNow(): Promise<void> {
  clearTimeout(waiting);
  waiting = undefined;
  const ids = [...unsaved];
  unsaved.clear();
  if (!storage) return;
  try {
    const now = ids.flatMap((id) => conversations.value.get(id) ?? []);
    await Promise.all(now.map((conversation) => storage!.put(conversation)));
    tabs?.postMessage(now.map((conversation) => conversation.id));
  } catch {
    keeps.value = false;
  }
}

/** What the glass box shows of a turn, as the server sent it: in memory if it is of this visit, else what was kept. */
export async function glassOf(turn: Id): Promise<readonly unknown[]> {
  const here = glassEvents.get(turn);
  if (here) return here;
  const found = (await storage?.glass(turn).catch(() => undefined)) ?? [];
  return glassEvents.get(turn) ?? found;
}

export function addGlass(turn: Id, events: readonly unknown[]): void {
  const known = glassEvents.get(turn);
  if (known) known.push(...events);
  else glassEvents.set(turn, [...events]);
  glassVersion.value += 1;
}

export async function keepGlass(conversation: Id, turn: Id): Promise<void> {
  const events = glassEvents.get(turn);
  if (!events || !conversations.value.has(conversation)) return;
  await storage?.putGlass({ turn, conversation, events }).catch(() => undefined);
}
