/** The glass box: how an answer came about. Loaded when it is opened first. */

import { useEffect, useState } from "preact/hooks";
import { glassOf, glassVersion } from "../state/store";
import type { Conversation, Turn } from "../state/tree";

export interface GlassBoxProps {
  conversation: Conversation;
  /** A model's answer: `turn.answer` is there. */
  turn: Turn;
}

/** The panel's content; its frame, heading and close button are the page's (ui/Panel.tsx). */
export default function GlassBox({ turn }: GlassBoxProps) {
  const [events, setEvents] = useState<readonly unknown[]>([]);
  const version = turn.answer?.state === "running" ? glassVersion.value : 0;
  useEffect(() => {
    let here = true;
    void glassOf(turn.id).then((found) => here && setEvents([...found]));
    return () => {
      here = false;
    };
  }, [turn.id, turn.answer?.state, version]);
  return (
    <ol class="glass-raw">
      {events.map((event, place) => (
        <li key={place}>
          <code>{JSON.stringify(event)}</code>
        </li>
      ))}
    </ol>
  );
}
