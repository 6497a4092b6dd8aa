/** Answers as they are written: /v1/chat/completions and /v1/completions. */

import { postJson } from "./http";
import { isRecord, Refusal, refusalIn } from "./refusal";
import { events } from "./sse";

export interface Usage {
  prompt: number;
  completion: number;
  /** How many of the prompt's tokens were not computed again. */
  cached: number;
}

/** What one event of the stream brought. */
export interface Piece {
  text?: string;
  reasoning?: string;
  /** "stop", "length", "tool_calls", ... */
  finish?: string;
  usage?: Usage;
  /** What the glass box shows, as the server sent it. */
  glass?: unknown;
  /** Of the engine: prompt_n, prompt_ms, predicted_n, predicted_ms, cache_n. */
  timings?: Record<string, number>;
  /** Fields of the request that had no effect. */
  ignored?: string[];
}

export interface ChatMessage {
  role: "system" | "user" | "assistant";
  content: string;
}

/** Streams a conversation's answer. Throws Refusal, and AbortError where `signal` ended it. */
export function chat(
  messages: readonly ChatMessage[],
  body: Readonly<Record<string, unknown>>,
  signal?: AbortSignal,
): AsyncGenerator<Piece> {
  return pieces("v1/chat/completions", { ...body, messages }, signal);
}

/** Streams what follows `prompt`. Throws as `chat` does.
 *
 * A completion of which nobody said how long it may be ends after 16 tokens, as OpenAI's does; a conversation's answer
 * takes what fits. Here both take what fits.
 */
export async function* continuation(
  prompt: string,
  body: Readonly<Record<string, unknown>>,
  signal?: AbortSignal,
): AsyncGenerator<Piece> {
  const asked = body["max_tokens"] === undefined ? { max_tokens: await room(prompt, body["model"], signal) } : {};
  yield* pieces("v1/completions", { ...body, ...asked, prompt }, signal);
}

const UNBOUNDED = 512; // tokens of an answer by a model whose context has no end

/** How many tokens fit behind `prompt`; 1 where none does, so that the server refuses it with its numbers. */
async function room(prompt: string, model: unknown, signal?: AbortSignal): Promise<number> {
  const response = await postJson("tokenize", { model, prompt }, signal);
  const counted: unknown = await response.json().catch(() => null);
  if (!isRecord(counted) || typeof counted["count"] !== "number") throw new Refusal({ kind: "broken", message: "" });
  const context = counted["max_model_len"];
  return typeof context === "number" ? Math.max(1, context - counted["count"]) : UNBOUNDED;
}

async function* pieces(path: string, body: object, signal?: AbortSignal): AsyncGenerator<Piece> {
  const whole = { ...body, stream: true, stream_options: { include_usage: true }, glass_box: true };
  const response = await postJson(path, whole, signal);
  const ignored = response.headers.get("X-Paddock-Ignored");
  if (ignored) yield { ignored: ignored.split(/, */) };
  if (!response.body) throw new Refusal({ kind: "broken", message: "" });
  try {
    for await (const { data } of events(response.body)) {
      if (data === "[DONE]") return;
      yield pieceOf(data);
    }
  } catch (error) {
    if (error instanceof Refusal || signal?.aborted) throw error;
    throw new Refusal({ kind: "broken", message: "" }); // the connection went away in the middle
  }
  throw new Refusal({ kind: "broken", message: "" }); // it ended, and not as a whole answer does
}

export function pieceOf(data: string): Piece {
  const chunk: unknown = parsed(data);
  if (!isRecord(chunk)) throw new Refusal({ kind: "broken", message: "" });
  const refusal = refusalIn(chunk);
  if (refusal) throw refusal;
  const piece: Piece = {};
  const choice: unknown = Array.isArray(chunk["choices"]) ? chunk["choices"][0] : undefined;
  if (isRecord(choice)) {
    const delta = isRecord(choice["delta"]) ? choice["delta"] : {};
    const text = delta["content"] ?? choice["text"];
    if (typeof text === "string" && text) piece.text = text;
    const reasoning = delta["reasoning_content"];
    if (typeof reasoning === "string" && reasoning) piece.reasoning = reasoning;
    if (typeof choice["finish_reason"] === "string") piece.finish = choice["finish_reason"];
  }
  const glass = chunk["paddock"];
  if (isRecord(glass)) piece.glass = glass;
  if (isRecord(chunk["usage"])) piece.usage = usageOf(chunk["usage"]);
  const timings = isRecord(glass) ? glass["timings"] : undefined;
  if (isRecord(timings)) piece.timings = numbersOf(timings);
  return piece;
}

function parsed(data: string): unknown {
  try {
    return JSON.parse(data);
  } catch {
    return null;
  }
}

function usageOf(raw: Record<string, unknown>): Usage {
  const details = isRecord(raw["prompt_tokens_details"]) ? raw["prompt_tokens_details"] : {};
  const count = (value: unknown): number => (typeof value === "number" ? value : 0);
  return {
    prompt: count(raw["prompt_tokens"]),
    completion: count(raw["completion_tokens"]),
    cached: count(details["cached_tokens"]),
  };
}

function numbersOf(raw: Record<string, unknown>): Record<string, number> {
  return Object.fromEntries(Object.entries(raw).filter((entry): entry is [string, number] => typeof entry[1] === "number"));
}
