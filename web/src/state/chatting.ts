/** What a user does in a conversation: send, stop, ask again, edit. */

import { signal } from "@preact/signals";
import { chat, continuation, type ChatMessage, type Piece } from "../api/stream";
import { bodyOf } from "./sampling";
import { addGlass, change, chosenModel, conversations, current, keepGlass, keepNow, readCard, toldOf } from "./store";
import { add, drop, newId, path, pathTo, revise, type Answer, type Conversation, type Id, type Turn } from "./tree";

/** Answers on their way, by conversation: each has one at most. */
export const running = signal<ReadonlyMap<Id, { turn: Id; abort: AbortController }>>(new Map());

export function isRunning(conversation: Id): boolean {
  return running.value.has(conversation);
}

/** Says `text` at the end of the shown conversation and asks for an answer. */
export function send(text: string): void {
  const conversation = current.value;
  if (isRunning(conversation.id) || !chosenModel.value) return;
  const shown = path(conversation);
  const last = shown[shown.length - 1];
  // What was never answered is not said twice: the new words stand beside the old ones, as another branch.
  const parent = last === undefined ? null : unanswered(last) ? (conversation.turns[last.parent ?? ""]?.parent ?? null) : last.id;
  say(conversation.id, parent, text);
}

/** Whether an answer was refused before its first word. */
export function unanswered(turn: Turn): boolean {
  return turn.role === "assistant" && turn.answer?.state === "failed" && turn.text === "";
}

/** Says `text` in place of what the user said in `id`; the old words stay as a branch. */
export function sayInstead(id: Id, text: string): void {
  const conversation = current.value;
  const turn = conversation.turns[id];
  if (!turn || isRunning(conversation.id)) return;
  say(conversation.id, turn.parent, text);
}

function say(conversation: Id, parent: Id | null, text: string): void {
  const turn: Turn = { id: newId(), parent, role: "user", text, at: Date.now() };
  change(conversation, (before) => add(before, turn));
  void answer(conversation, turn.id);
}

/** Puts the user's own words in place of an answer; the answer stays as a branch. */
export function rewrite(id: Id, text: string): void {
  const conversation = current.value;
  const turn = conversation.turns[id];
  if (!turn || isRunning(conversation.id)) return;
  change(conversation.id, (before) =>
    add(before, { id: newId(), parent: turn.parent, role: "assistant", text, at: Date.now() }),
  );
}

/** Asks for one more answer beside `id`, as another branch. A refusal is no answer: it makes room. */
export function again(id: Id): void {
  const conversation = current.value;
  const turn = conversation.turns[id];
  if (turn?.role !== "assistant" || isRunning(conversation.id)) return;
  if (unanswered(turn)) change(conversation.id, (before) => drop(before, id));
  void answer(conversation.id, turn.parent);
}

/** Goes on where an answer ended; only for models that continue text. */
export function goOn(id: Id): void {
  if (!isRunning(current.value.id)) void answer(current.value.id, id);
}

export function stop(conversation: Id): void {
  running.value.get(conversation)?.abort.abort();
}

/** What the model is told of the turns: a text as it stands, or messages. Answers that never came are left out. */
export function messagesOf(turns: readonly Turn[], system: string): ChatMessage[] {
  const said = turns.filter((turn) => turn.role === "user" || turn.text !== "");
  const messages = said.map((turn): ChatMessage => ({ role: turn.role, content: turn.text }));
  return system.trim() === "" ? messages : [{ role: "system", content: system }, ...messages];
}

export function textOf(turns: readonly Turn[]): string {
  return turns.map((turn) => turn.text).join("");
}

async function answer(id: Id, parent: Id | null): Promise<void> {
  const model = chosenModel.value;
  const conversation = current.value.id === id ? current.value : conversations.value.get(id);
  if (!model || !conversation) return;
  const abort = new AbortController();
  const turn = newId();
  const begun: Answer = {
    model: model.id,
    mode: "chat",
    state: "running",
    sampling: conversation.sampling,
    system: conversation.system,
  };
  change(id, (before) => add(before, { id: turn, parent, role: "assistant", text: "", at: Date.now(), answer: begun }));
  running.value = new Map(running.value).set(id, { turn, abort });
  const writing = new Writing(id, turn, begun);
  try {
    const card = (await readCard(model.id)) ?? model;
    const pieces = asked(card.chat, conversation, parent, model.id, abort.signal);
    writing.answer.mode = card.chat ? "chat" : "text";
    for await (const piece of pieces) writing.take(piece);
    writing.finish("done");
  } catch (error) {
    if (abort.signal.aborted) writing.finish("stopped");
    else writing.finish("failed", error);
  } finally {
    const rest = new Map(running.value);
    rest.delete(id);
    running.value = rest;
    await keepGlass(id, turn);
    await keepNow();
  }
}

function asked(
  chats: boolean,
  conversation: Conversation,
  parent: Id | null,
  model: string,
  signal: AbortSignal,
): AsyncGenerator<Piece> {
  const turns = pathTo(conversation, parent);
  const body = { ...bodyOf(conversation.sampling), model };
  if (!chats) return continuation(textOf(turns), body, signal);
  return chat(messagesOf(turns, conversation.system), body, signal);
}

/** An answer as it grows. Pieces are shown at most once per picture the screen draws. */
class Writing {
  answer: Answer;
  private text = "";
  private reasoning = "";
  private glass: unknown[] = [];
  private frame = 0;
  private readonly started = performance.now();

  constructor(
    private readonly conversation: Id,
    private readonly turn: Id,
    begun: Answer,
  ) {
    this.answer = { ...begun };
  }

  take(piece: Piece): void {
    const { text, reasoning, glass, finish, usage, timings, ignored } = piece;
    this.text += text ?? "";
    this.reasoning += reasoning ?? "";
    if (glass !== undefined) this.glass.push(glass);
    if ((text || reasoning) && this.answer.first === undefined) this.answer.first = this.elapsed();
    this.answer = {
      ...this.answer,
      ...(finish ? { finish } : {}),
      ...(usage ? { usage } : {}),
      ...(timings ? { timings } : {}),
      ...(ignored ? { ignored } : {}),
    };
    // A hidden page draws nothing and still has to keep what it was told.
    if (document.hidden) this.show();
    else this.frame ||= requestAnimationFrame(() => this.show());
  }

  finish(state: Answer["state"], error?: unknown): void {
    this.answer = { ...this.answer, state, seconds: this.elapsed() };
    if (error !== undefined) this.answer.refusal = toldOf(error);
    this.show();
  }

  private elapsed(): number {
    return (performance.now() - this.started) / 1000;
  }

  private show(): void {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    const { text, reasoning, answer } = this;
    change(this.conversation, (before) =>
      revise(before, this.turn, { text, answer: { ...answer }, ...(reasoning ? { reasoning } : {}) }),
    );
    if (this.glass.length) addGlass(this.turn, this.glass.splice(0));
  }
}
