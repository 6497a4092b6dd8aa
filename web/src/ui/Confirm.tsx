/** A question before something that cannot be undone. */

import { useEffect, useRef } from "preact/hooks";
import { t } from "../i18n";

export interface ConfirmProps {
  question: string;
  yes: string;
  onYes: () => void;
  /** After either answer. */
  onEnd: () => void;
}

export function Confirm({ question, yes, onYes, onEnd }: ConfirmProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog ref={dialog} class="confirm" aria-label={question} onClose={onEnd}>
      <p dir="auto">{question}</p>
      <div class="row end">
        <button type="button" onClick={() => dialog.current?.close()}>
          {t("app.cancel")}
        </button>
        <button
          type="button"
          class="danger"
          onClick={() => {
            dialog.current?.close();
            onYes();
          }}
        >
          {yes}
        </button>
      </div>
    </dialog>
  );
}
