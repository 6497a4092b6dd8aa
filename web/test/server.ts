/** A server for tests: answers that come when the test says so. */

export interface Asked {
  path: string;
  body: Record<string, unknown>;
  signal: AbortSignal | undefined;
}

const encoder = new TextEncoder();

export class FakeServer {
  readonly asked: Asked[] = [];
  chat = true;
  /** How the next requests for answers are met; the last holds for all further ones. */
  answers: (() => Response)[] = [];

  readonly fetch = async (input: RequestInfo | URL, options: RequestInit = {}): Promise<Response> => {
    const path = new URL(String(input)).pathname;
    if (path.startsWith("/v1/models")) return this.models(path);
    if (path === "/tokenize") return Response.json({ count: 12, max_model_len: 512 });
    const body = JSON.parse(String(options.body)) as Record<string, unknown>;
    this.asked.push({ path, body, signal: options.signal ?? undefined });
    const next = this.answers.length > 1 ? this.answers.shift() : this.answers[0];
    return next!();
  };

  private models(path: string): Response {
    const card = { id: "tiny", object: "model", parent: null, max_model_len: 512, paddock: { chat: this.chat, settings: {} } };
    return Response.json(path === "/v1/models" ? { data: [card] } : card);
  }
}

export function chunk(content: string, more: object = {}): string {
  return `data: ${JSON.stringify({ choices: [{ index: 0, delta: { content }, text: content, finish_reason: null }], ...more })}\n\n`;
}

export const END =
  `data: ${JSON.stringify({ choices: [{ index: 0, delta: {}, finish_reason: "stop" }] })}\n\n` +
  `data: ${JSON.stringify({ choices: [], usage: { prompt_tokens: 7, completion_tokens: 2, prompt_tokens_details: { cached_tokens: 3 } } })}\n\n` +
  "data: [DONE]\n\n";

/** A whole answer at once. */
export function stream(...events: string[]): Response {
  return new Response(encoder.encode(events.join("")), { headers: { "Content-Type": "text/event-stream" } });
}

/** An answer whose events the test sends one by one. */
export function slow(): { response: Response; say: (text: string) => void; breakOff: () => void } {
  let control!: ReadableStreamDefaultController<Uint8Array>;
  const body = new ReadableStream<Uint8Array>({ start: (given) => void (control = given) });
  return {
    response: new Response(body),
    say: (text) => control.enqueue(encoder.encode(text)),
    breakOff: () => control.error(new TypeError("network error")),
  };
}

export function refused(status: number, error: object, headers: Record<string, string> = {}): Response {
  return Response.json({ error: { message: "no", type: "x", param: null, code: null, ...error } }, { status, headers });
}
