import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { current, glassOf, glassTurn, glassVersion } from "../state/store";
import type { Id } from "../state/tree";
import { GlassBox } from "./GlassBox";
import { absorb, EMPTY, type AnswerRecord, type Piece } from "./record";

/** The glass box of the answer that was chosen, growing while it is written. */
export function GlassPanel(): JSX.Element {
  const turn = glassTurn.value;
  const record = useGlassRecord(turn, glassVersion.value);
  const first = turn === null ? undefined : current.value.turns[turn]?.answer?.first;
  const timed = record && first !== undefined ? { ...record, firstMs: first * 1000 } : record;
  return <GlassBox record={timed} name={turn ?? ""} />;
}

interface Read {
  turn: Id;
  count: number;
  record: AnswerRecord;
}

/** The record of a turn; with each `version` only the events that are new are read. */
function useGlassRecord(turn: Id | null, version: number): AnswerRecord | undefined {
  const [read, setRead] = useState<Read>();
  useEffect(() => {
    if (turn === null) return;
    let wanted = true;
    void glassOf(turn).then((events) => {
      if (wanted) setRead((before) => grown(before, turn, events));
    });
    return () => {
      wanted = false;
    };
  }, [turn, version]);
  return read && read.turn === turn ? read.record : undefined;
}

function grown(before: Read | undefined, turn: Id, events: readonly unknown[]): Read {
  const known = before?.turn === turn ? before : { turn, count: 0, record: EMPTY };
  if (known.count === events.length) return known;
  return { turn, count: events.length, record: gathered(events.slice(known.count) as Piece[], known.record) };
}

/** Many pieces at once; tokens are joined once, not once a piece. */
function gathered(pieces: readonly Piece[], record: AnswerRecord): AnswerRecord {
  const tokens = pieces.flatMap((piece) => piece.tokens ?? []);
  const rest = pieces.map(({ tokens: _, ...other }) => other);
  return rest.reduce<AnswerRecord>(absorb, absorb(record, { tokens }));
}
