/** The box to write a message in. */

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { t } from "../i18n";
import { isRunning, send, stop } from "../state/chatting";
import { focusMessage, isWide, MESSAGE } from "../state/layout";
import { chosenModel, current } from "../state/store";
import { Icon } from "./icons";

/** Words not yet sent, by conversation: going to another one and back does not lose them. */
const drafts = new Map<string, string>();

export function Composer() {
  const { id } = current.value;
  const [text, setText] = useState(drafts.get(id) ?? "");
  const box = useRef<HTMLTextAreaElement>(null);
  const model = chosenModel.value;
  const busy = isRunning(id);
  const ready = !busy && text.trim() !== "" && model?.generates === true;
  useLayoutEffect(() => fit(box.current), [text]);
  useEffect(() => {
    if (isWide.value) box.current?.focus(); // on a phone the keyboard would cover half of it
  }, []);
  const write = (now: string): void => {
    setText(now);
    drafts.set(id, now);
  };
  const submit = (): void => {
    if (!ready) return;
    send(model.chat ? text.trim() : text);
    write("");
    focusMessage();
  };
  return (
    <form
      class="composer"
      onSubmit={(event) => {
        event.preventDefault();
        submit();
      }}
    >
      <div class="composer-box">
        <label class="visually-hidden" for={MESSAGE}>
          {t("chat.message")}
        </label>
        <textarea
          id={MESSAGE}
          ref={box}
          rows={1}
          dir="auto"
          value={text}
          placeholder={t(model?.chat === false ? "chat.placeholder-text" : "chat.placeholder")}
          enterkeyhint="send"
          aria-describedby="keys"
          onInput={(event) => write(event.currentTarget.value)}
          onKeyDown={(event) => {
            // An input method takes Enter for itself while it composes a character.
            if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
            event.preventDefault();
            submit();
          }}
        />
        {busy ? (
          <button type="button" class="round stop" aria-label={t("chat.stop")} title={t("chat.stop")} onClick={() => stop(id)}>
            <Icon name="stop" />
          </button>
        ) : (
          <button type="submit" class="round" aria-label={t("chat.send")} title={t("chat.send")} disabled={!ready}>
            <Icon name="send" />
          </button>
        )}
      </div>
      <p class="quiet keys" id="keys">
        {t("chat.keys")}
      </p>
    </form>
  );
}

/** As high as its text, up to what the style allows. */
export function fit(box: HTMLTextAreaElement | null): void {
  if (!box) return;
  box.style.height = "auto";
  box.style.height = `${box.scrollHeight}px`;
}
