/** The conversation: what was said, and the box to say more. */

import type { ComponentChildren, VNode } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { t } from "../i18n";
import { running } from "../state/chatting";
import { astray } from "../state/place";
import { chosenModel, current, models, modelsRefusal, readModels, shownTurns } from "../state/store";
import type { Answer, Turn } from "../state/tree";
import { announce, Reader } from "./announce";
import { Composer } from "./Composer";
import { Icon } from "./icons";
import { RefusalBox } from "./refusals";
import { TurnView } from "./TurnView";

export function Chat() {
  const { id } = current.value;
  return (
    <div class="chat">
      <Scroller key={id}>
        <Astray />
        <Notices />
        {shownTurns.value.length === 0 ? <Empty /> : <Turns />}
      </Scroller>
      <Composer key={`composer-${id}`} />
      <Aloud key={`aloud-${id}`} />
    </div>
  );
}

function Turns() {
  const turns = shownTurns.value;
  // A turn that has not changed is not drawn again with every piece of the last one.
  const drawn = useRef(new WeakMap<Turn, { last: boolean; view: VNode }>());
  const draw = (turn: Turn, last: boolean): VNode => {
    const known = drawn.current.get(turn);
    if (known?.last === last) return known.view;
    const view = <TurnView key={turn.id} turn={turn} last={last} />;
    drawn.current.set(turn, { last, view });
    return view;
  };
  return (
    <ol class="turns" aria-label={t("chat.label")}>
      {turns.map((turn, place) => draw(turn, place === turns.length - 1))}
    </ol>
  );
}

/** Says that the address led nowhere; the address itself may hold anything, and is not repeated. */
function Astray() {
  const lost = astray.value;
  useEffect(() => {
    if (lost) announce(t("nav.astray"));
  }, [lost]);
  return lost ? <p class="notice">{t("nav.astray")}</p> : null;
}

/** What stands in the way of an answer, before one is asked for. */
function Notices() {
  const model = chosenModel.value;
  const refusal = modelsRefusal.value;
  if (refusal && !models.value.length) return <RefusalBox told={refusal} onRetry={() => void readModels()} />;
  if (!model) return null;
  if (!model.generates) return <p class="notice">{t("model.reads-only", { model: model.id })}</p>;
  return model.chat ? null : <p class="notice">{t("model.text-why", { model: model.id })}</p>;
}

function Empty() {
  const model = chosenModel.value;
  return (
    <div class="empty">
      <p class="empty-title">{t(model?.chat === false ? "chat.empty-text" : "chat.empty")}</p>
      {model && <p class="quiet">{t("chat.empty-hint", { model: model.id })}</p>}
    </div>
  );
}

const NEAR = 80; // pixels from the end within which a reader follows it

/** Keeps the end in sight while an answer grows, unless the reader has gone up to read. */
function Scroller({ children }: { children: ComponentChildren }) {
  const place = useRef<HTMLDivElement>(null);
  const follows = useRef(true);
  const [away, setAway] = useState(false);
  const turns = shownTurns.value;
  const last = turns[turns.length - 1];
  const toEnd = (): void => {
    const element = place.current;
    if (element) element.scrollTop = element.scrollHeight;
  };
  useLayoutEffect(() => {
    if (follows.current) toEnd();
  }, [last]);
  useEffect(() => {
    // What was just said is what the user wants to see, wherever they were.
    follows.current = true;
    toEnd();
  }, [turns.length]);
  const watch = (): void => {
    const element = place.current!;
    const near = element.scrollHeight - element.scrollTop - element.clientHeight < NEAR;
    follows.current = near;
    setAway(!near);
  };
  return (
    <div class="scroller-frame">
      {/* What scrolls must be reachable by keyboard. */}
      <div class="scroller" ref={place} onScroll={watch} tabIndex={0} role="region" aria-label={t("chat.label")}>
        <div class="column">{children}</div>
      </div>
      {away && (
        <button type="button" class="icon-button to-end" aria-label={t("chat.to-end")} title={t("chat.to-end")} onClick={toEnd}>
          <Icon name="down" />
        </button>
      )}
    </div>
  );
}

/** A refusal says itself: it is an alert. */
function ended(answer: Answer | undefined): string {
  if (answer?.refusal) return "";
  return t(answer?.state === "stopped" ? "turn.stopped" : "turn.announce-done");
}

/** Reads the growing answer to a screen reader, sentence by sentence. */
function Aloud() {
  const { id } = current.value;
  const now = running.value.get(id);
  const reading = useRef<{ turn: string; reader: Reader } | null>(null);
  const turn = now ? current.value.turns[now.turn] : undefined;
  useEffect(() => {
    if (now && reading.current?.turn !== now.turn) {
      reading.current = { turn: now.turn, reader: new Reader() };
      announce(t("turn.announce-start"));
      return;
    }
    const begun = reading.current;
    if (!begun) return;
    const text = current.value.turns[begun.turn]?.text ?? "";
    const next = begun.reader.next(text, !now);
    if (!now) {
      reading.current = null;
      announce(`${next} ${ended(current.value.turns[begun.turn]?.answer)}`);
    } else if (next) {
      announce(next);
    }
  }, [now, turn?.text]);
  return null;
}
