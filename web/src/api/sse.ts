/**
 * Server-sent events out of bytes, wherever the network cut them.
 *
 * Lines may end in LF, CR or CRLF; a character of several bytes, a CRLF or a field name may be split between two pieces.
 */

export interface ServerEvent {
  /** "message" where the server named none. */
  event: string;
  data: string;
}

/** Longest unfinished event that is kept, in characters: a broken server must not fill the memory of the browser. */
const LONGEST = 64 * 2 ** 20;

export class EventParser {
  private readonly decoder = new TextDecoder("utf-8");
  private unfinished: string[] = []; // pieces of a line whose end has not come
  private returned = false; // whether the last character was a CR, so that an LF now belongs to it
  private name = "";
  private lines: string[] = [];
  private held = 0;

  /** The events that these bytes completed. Throws RangeError for an event longer than memory should hold. */
  push(bytes: Uint8Array): ServerEvent[] {
    const text = this.decoder.decode(bytes, { stream: true });
    const found: ServerEvent[] = [];
    if (text === "") return found;
    let start = this.returned && text.startsWith("\n") ? 1 : 0;
    this.returned = text.endsWith("\r");
    const border = /\r\n|\r|\n/g;
    border.lastIndex = start;
    for (let match = border.exec(text); match; match = border.exec(text)) {
      this.unfinished.push(text.slice(start, match.index));
      this.take(this.unfinished.join(""), found);
      this.unfinished = [];
      start = border.lastIndex;
    }
    this.unfinished.push(text.slice(start));
    this.held += text.length - start;
    if (this.held > LONGEST) throw new RangeError("an event of the server is too long");
    return found;
  }

  private take(line: string, found: ServerEvent[]): void {
    if (line === "") {
      if (this.lines.length) found.push({ event: this.name || "message", data: this.lines.join("\n") });
      this.name = "";
      this.lines = [];
      this.held = 0;
      return;
    }
    const colon = line.indexOf(":");
    if (colon === 0) return; // a comment: the server lives
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + (line[colon + 1] === " " ? 2 : 1));
    if (field === "data") {
      this.lines.push(value);
      this.held += line.length;
    } else if (field === "event") {
      this.name = value;
    }
  }
}

/** The events of a response's body as they come. Leaving the loop early hangs up. */
export async function* events(body: ReadableStream<Uint8Array>): AsyncGenerator<ServerEvent> {
  const parser = new EventParser();
  const reader = body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield* parser.push(value);
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}
