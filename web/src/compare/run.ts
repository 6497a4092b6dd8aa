/** One side of a comparison: a prompt sent, and what came back so far. */

import { Refusal, type Told } from "../api/refusal";
import type { ModelCard } from "../api/models";
import { chat, continuation, type Piece } from "../api/stream";
import { absorb, EMPTY, type AnswerRecord, type Piece as GlassPiece } from "../glassbox/record";
import { bodyOf, type Sampling } from "../state/sampling";

export type State = "idle" | "running" | "done" | "length" | "stopped" | "failed";

export interface Run {
  state: State;
  text: string;
  record: AnswerRecord;
  told?: Told;
}

export const NOTHING: Run = { state: "idle", text: "", record: EMPTY };

export interface Question {
  prompt: string;
  card: ModelCard;
  sampling: Sampling;
}

/** Streams the answer to `question`, reporting what there is after each piece. Never throws. */
export async function answer(question: Question, signal: AbortSignal, report: (run: Run) => void): Promise<void> {
  const begun = performance.now();
  let run: Run = { ...NOTHING, state: "running" };
  let state: State = "done";
  report(run);
  try {
    for await (const piece of asked(question, signal)) {
      run = withPiece(run, piece, performance.now() - begun);
      if (piece.finish === "length") state = "length";
      report(run);
    }
    report({ ...run, state });
  } catch (error) {
    if (signal.aborted) report({ ...run, state: "stopped" });
    else report({ ...run, state: "failed", told: toldOf(error) });
  }
}

function asked({ prompt, card, sampling }: Question, signal: AbortSignal): AsyncGenerator<Piece> {
  const body = { ...bodyOf(sampling), model: card.id };
  return card.chat ? chat([{ role: "user", content: prompt }], body, signal) : continuation(prompt, body, signal);
}

function withPiece(run: Run, piece: Piece, elapsed: number): Run {
  const record = piece.glass === undefined ? run.record : absorb(run.record, piece.glass as GlassPiece);
  const first = record.firstMs === undefined && (piece.text !== undefined || record.tokens.length > 0);
  return { ...run, text: run.text + (piece.text ?? ""), record: first ? { ...record, firstMs: elapsed } : record };
}

function toldOf(error: unknown): Told {
  return (error instanceof Refusal ? error : new Refusal({ kind: "broken", message: String(error) })).told;
}
