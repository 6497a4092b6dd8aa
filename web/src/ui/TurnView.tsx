/** One message, whoever it is of, and what can be done with it. */

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { decimal, t } from "../i18n";
import { again, goOn, isRunning, rewrite, sayInstead, unanswered } from "../state/chatting";
import { focusMessage, isWide } from "../state/layout";
import { change, chosenModel, current, currentId, glassTurn, panel } from "../state/store";
import { choose, siblings, type Answer, type Turn } from "../state/tree";
import { Markdown } from "../text/Markdown";
import { announce } from "./announce";
import { fit } from "./Composer";
import { copyText } from "./copying";
import { Icon, type IconName } from "./icons";
import { RefusalBox } from "./refusals";

export function TurnView({ turn, last }: { turn: Turn; last: boolean }) {
  const [editing, setEditing] = useState(false);
  const edit = useRef<HTMLButtonElement>(null);
  const done = (): void => {
    setEditing(false);
    requestAnimationFrame(() => edit.current?.focus());
  };
  const empty = unanswered(turn);
  return (
    <li id={`turn-${turn.id}`} class={`turn ${turn.role}`} data-state={turn.answer?.state ?? "said"}>
      <h2 class={turn.role === "user" ? "visually-hidden" : "turn-name"}>{nameOf(turn)}</h2>
      {editing ? <Editor turn={turn} done={done} /> : <Said turn={turn} />}
      {!editing && <Ending turn={turn} last={last} />}
      {!editing && turn.answer?.state !== "running" && (
        <div class="acts">
          <Branches turn={turn} />
          {!empty && <CopyAct text={turn.text} />}
          {!empty && <Act icon="edit" name={t("turn.edit")} act={() => setEditing(true)} button={edit} />}
          {!empty && turn.role === "assistant" && <AnswerActs turn={turn} last={last} />}
          {turn.answer && <Numbers answer={turn.answer} />}
        </div>
      )}
    </li>
  );
}

function nameOf(turn: Turn): string {
  if (turn.role === "user") return t("turn.you");
  if (turn.answer) return t("turn.model", { model: turn.answer.model });
  return t("turn.written-by-you", { model: t("turn.assistant") });
}

function Said({ turn }: { turn: Turn }) {
  const growing = turn.answer?.state === "running";
  if (turn.role === "user" || turn.answer?.mode === "text") {
    // A text that goes on: joined with what stands before it, character by character.
    return (
      <div class="plain" dir="auto">
        {turn.text}
        {growing && turn.text === "" && <Waiting />}
      </div>
    );
  }
  return (
    <>
      {turn.reasoning && (
        <details class="reasoning" open={growing && turn.text === ""}>
          <summary>{t("turn.thinking")}</summary>
          <div class="plain" dir="auto">
            {turn.reasoning}
          </div>
        </details>
      )}
      {growing && turn.text === "" && !turn.reasoning ? <Waiting /> : <Markdown text={turn.text} growing={growing} />}
    </>
  );
}

function Waiting() {
  return (
    <span class="waiting">
      <span class="pulse" aria-hidden="true" />
      {t("turn.waiting")}
    </span>
  );
}

/** How an answer ended, where that needs words. */
function Ending({ turn, last }: { turn: Turn; last: boolean }) {
  const { answer } = turn;
  if (!answer || answer.state === "running") return null;
  return (
    <>
      {answer.ignored && <p class="warning">{t("turn.ignored", { fields: answer.ignored.join(", ") })}</p>}
      {answer.refusal && <RefusalBox told={answer.refusal} onRetry={last ? () => tryAgain(turn) : undefined} />}
      {answer.state === "stopped" && <p class="quiet">{t("turn.stopped")}</p>}
      {answer.state === "done" && answer.finish === "length" && <p class="quiet">{t("turn.length")}</p>}
      {answer.state === "done" && turn.text === "" && <p class="quiet">{t("turn.empty")}</p>}
    </>
  );
}

/** The button that was pressed goes away with the refusal; where there is no keyboard on the screen, the box is next. */
function tryAgain(turn: Turn): void {
  again(turn.id);
  if (isWide.value) focusMessage();
}

interface ActProps {
  icon: IconName;
  name: string;
  act: () => void;
  button?: preact.RefObject<HTMLButtonElement | null>;
  pressed?: boolean;
  disabled?: boolean;
}

function Act({ icon, name, act, button, pressed, disabled = false }: ActProps) {
  return (
    <button
      type="button"
      class="icon-button"
      aria-label={name}
      title={name}
      aria-pressed={pressed}
      disabled={disabled}
      onClick={act}
      {...(button ? { ref: button } : {})}
    >
      <Icon name={icon} />
    </button>
  );
}

function CopyAct({ text }: { text: string }) {
  const [copied, setCopied] = useState(false);
  const act = async (): Promise<void> => {
    if (!(await copyText(text))) return;
    setCopied(true);
    setTimeout(() => setCopied(false), 1500);
  };
  return <Act icon={copied ? "check" : "copy"} name={t(copied ? "turn.copied" : "turn.copy")} act={() => void act()} />;
}

function AnswerActs({ turn, last }: { turn: Turn; last: boolean }) {
  const busy = isRunning(currentId.value);
  const goesOn = last && turn.answer?.mode === "text" && turn.text !== "" && chosenModel.value?.chat === false;
  const shown = panel.value === "glass" && glassTurn.value === turn.id;
  const toggleGlass = (): void => {
    glassTurn.value = turn.id;
    panel.value = shown ? "none" : "glass";
  };
  return (
    <>
      <Act icon="again" name={t("turn.again")} act={() => again(turn.id)} disabled={busy} />
      {turn.answer && <Act icon="glass" name={t("turn.glass")} act={toggleGlass} pressed={shown} />}
      {goesOn && <Act icon="on" name={t("turn.continue")} act={() => goOn(turn.id)} disabled={busy} />}
    </>
  );
}

/** Which of the branches that begin here is shown. */
function Branches({ turn }: { turn: Turn }) {
  const id = currentId.value;
  const beside = siblings(current.value, turn.id);
  const place = beside.indexOf(turn.id);
  if (beside.length < 2) return null;
  const go = (step: number): void => {
    const next = beside[place + step];
    if (next === undefined) return;
    change(id, (before) => choose(before, next));
    announce(t("turn.branch", { place: place + step + 1, count: beside.length }));
    // The turn that is shown now has buttons of its own: the keyboard goes on with the same one, or what there is.
    requestAnimationFrame(() => {
      const buttons = document.getElementById(`turn-${next}`)?.querySelectorAll<HTMLButtonElement>(".branches button");
      const [back, forth] = step < 0 ? [0, 1] : [1, 0];
      (buttons?.[back]?.disabled ? buttons[forth] : buttons?.[back])?.focus();
    });
  };
  return (
    <span class="branches" role="group" aria-label={t("turn.branch", { place: place + 1, count: beside.length })}>
      <Act icon="left" name={t("turn.previous")} act={() => go(-1)} disabled={place === 0} />
      <span aria-hidden="true">
        {place + 1}/{beside.length}
      </span>
      <Act icon="right" name={t("turn.next")} act={() => go(1)} disabled={place === beside.length - 1} />
    </span>
  );
}

function Numbers({ answer }: { answer: Answer }) {
  const tokens = answer.usage?.completion;
  if (!tokens) return null;
  const rate = rateOf(answer);
  return (
    <span class="numbers">
      {rate === null ? t("turn.tokens", { tokens }) : t("turn.numbers", { tokens, rate: decimal(rate, rate < 10 ? 1 : 0) })}
    </span>
  );
}

/** Tokens a second after the first, by the engine's clock. */
function rateOf({ timings }: Answer): number | null {
  const count = timings?.["predicted_n"];
  const milliseconds = timings?.["predicted_ms"];
  if (!count || !milliseconds || count < 2) return null;
  return ((count - 1) * 1000) / milliseconds;
}

/** The words of a turn to change; what they were stays as a branch. */
function Editor({ turn, done }: { turn: Turn; done: () => void }) {
  const [text, setText] = useState(turn.text);
  const box = useRef<HTMLTextAreaElement>(null);
  const busy = isRunning(currentId.value);
  const user = turn.role === "user";
  useLayoutEffect(() => fit(box.current), [text]);
  useEffect(() => {
    box.current?.focus();
    box.current?.setSelectionRange(turn.text.length, turn.text.length);
  }, []);
  const submit = (): void => {
    if (busy || text.trim() === "") return;
    if (user) sayInstead(turn.id, text);
    else rewrite(turn.id, text);
    done();
    if (isWide.value) focusMessage();
  };
  return (
    <form
      class="editor"
      onSubmit={(event) => {
        event.preventDefault();
        submit();
      }}
    >
      <textarea
        ref={box}
        dir="auto"
        value={text}
        aria-label={t("turn.edit-label")}
        aria-describedby={`edit-${turn.id}`}
        onInput={(event) => setText(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key === "Escape") {
            event.stopPropagation();
            done();
          } else if (event.key === "Enter" && user && !event.shiftKey && !event.isComposing && event.keyCode !== 229) {
            event.preventDefault();
            submit();
          }
        }}
      />
      <div class="row">
        <small class="quiet" id={`edit-${turn.id}`}>
          {t("turn.edit-hint")}
        </small>
        <span class="spacer" />
        <button type="button" onClick={done}>
          {t("app.cancel")}
        </button>
        <button type="submit" class="primary" disabled={busy || text.trim() === ""}>
          {t(user ? "turn.edit-send" : "turn.edit-keep")}
        </button>
      </div>
    </form>
  );
}
