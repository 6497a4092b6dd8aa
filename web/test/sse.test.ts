// @vitest-environment node
import { describe, expect, it } from "vitest";
import { EventParser, events, type ServerEvent } from "../src/api/sse";

const encoder = new TextEncoder();

function inPieces(text: string, borders: readonly number[]): ServerEvent[] {
  const bytes = encoder.encode(text);
  const parser = new EventParser();
  const ends = [...borders, bytes.length];
  let from = 0;
  return ends.flatMap((end) => {
    const found = parser.push(bytes.slice(from, end));
    from = end;
    return found;
  });
}

const STREAM =
  "\uFEFF: hello\n\n" +
  'data: {"text":"汉字 🐴"}\n\n' +
  "event: glass\r\ndata: one\r\ndata:two\r\ndata\r\n\r\n" +
  "id: 7\nretry: 10\nnobody knows: this\ndata:  spaced\n\n" +
  "data: old\r\rdata: [DONE]\n\n" +
  "data: never finished";

const EVENTS: ServerEvent[] = [
  { event: "message", data: '{"text":"汉字 🐴"}' },
  { event: "glass", data: "one\ntwo\n" },
  { event: "message", data: " spaced" },
  { event: "message", data: "old" },
  { event: "message", data: "[DONE]" },
];

describe("server-sent events", () => {
  it("are read whole", () => {
    expect(inPieces(STREAM, [])).toEqual(EVENTS);
  });

  it("are the same wherever one border lies", () => {
    const length = encoder.encode(STREAM).length;
    for (let border = 0; border <= length; border++) expect(inPieces(STREAM, [border])).toEqual(EVENTS);
  });

  it("are the same byte by byte", () => {
    const length = encoder.encode(STREAM).length;
    expect(inPieces(STREAM, [...Array(length).keys()])).toEqual(EVENTS);
  });

  it("come at once, not with the next", () => {
    const parser = new EventParser();
    expect(parser.push(encoder.encode("data: a\n\n"))).toHaveLength(1);
    expect(parser.push(encoder.encode("data: b\r\n\r"))).toHaveLength(1);
    expect(parser.push(encoder.encode("\ndata: c\n\n"))).toHaveLength(1);
  });

  it("of no data are none", () => {
    expect(inPieces("event: x\n\n\n\n:\n\nid: 1\n\n", [])).toEqual([]);
  });

  it("that never end are refused before they fill the memory", () => {
    const parser = new EventParser();
    const piece = encoder.encode("x".repeat(2 ** 20));
    expect(() => {
      for (let count = 0; count < 65; count++) parser.push(piece);
    }).toThrow(RangeError);
  });

  it("come out of a body, and leaving hangs up", async () => {
    let cancelled = false;
    const body = new ReadableStream<Uint8Array>({
      pull(controller) {
        controller.enqueue(encoder.encode("data: again\n\n"));
      },
      cancel() {
        cancelled = true;
      },
    });
    const found: string[] = [];
    for await (const { data } of events(body)) if (found.push(data) === 3) break;
    expect(found).toEqual(["again", "again", "again"]);
    expect(cancelled).toBe(true);
  });
});
