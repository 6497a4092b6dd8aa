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
  private rest = "";
  private searched = 0;
  private name = "";
  private lines: string[] = [];
  private held = 0;

  /** The events that these bytes completed. Throws RangeError for an event longer than memory should hold. */
  push(bytes: Uint8Array): ServerEvent[] {
    this.rest += this.decoder.decode(bytes, { stream: true });
    const found: ServerEvent[] = [];
    const border = /[\r\n]/g;
    border.lastIndex = this.searched;
    let start = 0;
    for (let match = border.exec(this.rest); match; match = border.exec(this.rest)) {
      const end = match.index;
      // The LF of a CRLF may come with the next bytes; an empty line too many would not hurt, a late event would.
      const pair = this.rest.startsWith("\r\n", end);
      if (match[0] === "\r" && end === this.rest.length - 1) break;
      this.take(this.rest.slice(start, end), found);
      start = end + (pair ? 2 : 1);
      border.lastIndex = start;
    }
    this.rest = this.rest.slice(start);
    this.searched = this.rest.endsWith("\r") ? this.rest.length - 1 : this.rest.length;
    if (this.rest.length + this.held > LONGEST) throw new RangeError("an event of the server is too long");
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
      this.held += value.length;
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
