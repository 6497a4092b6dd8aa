// What is known of one answer beside its text, put together from the "paddock" objects of its chunks.

export interface Token {
  id: number;
  text: string;
}

export interface PromptToken extends Token {
  special: boolean;
}

/** A token with its log-probability in the model's raw distribution. */
export interface Rival extends Token {
  logprob: number;
}

/** A token with its probability after a stage of the sampler. */
export interface Candidate extends Token {
  p: number;
}

export interface Stage {
  name: string;
  survivors: number;
  /** The likeliest only, most likely first. */
  top: Candidate[];
}

/** draw: the uniform number, null where the likeliest was taken. probability: the token's at the end of all stages.
 *  Neither is there where the server did not trace the sampler, and then there are no stages. */
export interface WrittenToken extends Rival {
  top: Rival[];
  draw?: number | null;
  probability?: number;
  stages?: Stage[];
  /** What all candidates before the token have together: below <= draw < below + probability. */
  below?: number;
}

/** prompt_n: tokens read. cache_n: tokens reused. Both times in milliseconds. */
export interface Timings {
  cache_n: number;
  prompt_n: number;
  prompt_ms: number;
  predicted_n: number;
  predicted_ms: number;
}

export interface Setting {
  value: unknown;
  origin: string;
}

export interface Prompt {
  text: string;
  tokens: PromptToken[];
  cached: number;
}

/** The "paddock" object of one chunk. */
export interface Piece {
  prompt?: Prompt;
  settings?: Record<string, Setting>;
  tokens?: WrittenToken[];
  timings?: Timings;
  cached_tokens?: number;
  seed?: number | null;
}

/** firstMs: milliseconds from sending the request to the first token, as seen here. */
export interface AnswerRecord {
  prompt?: Prompt;
  settings?: Record<string, Setting>;
  tokens: WrittenToken[];
  timings?: Timings;
  cached?: number;
  seed?: number | null;
  firstMs?: number;
}

export const EMPTY: AnswerRecord = { tokens: [] };

/**
 * The record with one more piece. A new value each time, so that it can be compared by identity; its tokens are copied,
 * which costs less than drawing them even for thousands.
 */
export function absorb(record: AnswerRecord, piece: Piece): AnswerRecord {
  const cached = piece.cached_tokens ?? piece.prompt?.cached ?? record.cached;
  return {
    ...record,
    ...(piece.prompt && { prompt: piece.prompt }),
    ...(piece.settings && { settings: piece.settings }),
    ...(piece.timings && { timings: piece.timings }),
    ...(piece.seed !== undefined && { seed: piece.seed }),
    ...(cached !== undefined && { cached }),
    tokens: piece.tokens?.length ? [...record.tokens, ...piece.tokens] : record.tokens,
  };
}

/** Tokens a second after the first one, as the engine counts them; undefined where there was only one. */
export function decodeRate(timings: Timings): number | undefined {
  const { predicted_n: count, predicted_ms: ms } = timings;
  return count > 1 && ms > 0 ? ((count - 1) * 1000) / ms : undefined;
}

/** Prompt tokens read a second, the reused ones not counted. */
export function promptRate(timings: Timings): number | undefined {
  return timings.prompt_n > 0 && timings.prompt_ms > 0 ? (timings.prompt_n * 1000) / timings.prompt_ms : undefined;
}

/**
 * The part of [0, 1) that belonged to the chosen token. Undefined where it is not known: the server did not say where it
 * begins, and the token is not among those listed of the last stage.
 */
export function interval(token: WrittenToken): [number, number] | undefined {
  if (token.below !== undefined && token.probability !== undefined) {
    return [token.below, Math.min(1, token.below + token.probability)];
  }
  let below = 0;
  for (const candidate of token.stages?.at(-1)?.top ?? []) {
    if (candidate.id === token.id) return [below, Math.min(1, below + candidate.p)];
    below += candidate.p;
  }
  return undefined;
}

/** The five classes a probability is shown in, from 0 (unlikely) to 4 (nearly certain). */
export const BOUNDS = [0.1, 0.3, 0.6, 0.9];

export function likelihood(p: number): number {
  return BOUNDS.filter((bound) => p >= bound).length;
}
