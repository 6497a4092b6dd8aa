/** What a server did not do, said to a user: what was refused, why, and what helps. */

import { useEffect, useState } from "preact/hooks";
import type { Told } from "../api/refusal";
import { t, type Key } from "../i18n";
import { Icon } from "./icons";

/** The heading of a refusal. */
export function refusalTitle(told: Told): string {
  return t(titleKey(told));
}

function titleKey({ kind, status, code }: Told): Key {
  if (kind === "unreachable") return "error.unreachable";
  if (kind === "broken") return "error.broken";
  if (code === "context_length_exceeded") return "error.context";
  if (status === 429) return "error.busy";
  if (status === 503) return "error.down";
  if (status === 401 || status === 403) return "error.access";
  if (status === 404) return "error.missing";
  return status >= 500 ? "error.server" : "error.title";
}

/** The server's own words, and the fix where this page knows one that the server cannot. */
export function refusalText(told: Told): string {
  if (told.kind === "unreachable") return t("error.unreachable-fix");
  if (tooLong(told)) return `${sentence(told.message.replace(/; (ask for|shorten) [^;]*$/, ""))} ${t("error.context-fix")}`;
  const said = sentence(told.message);
  if (told.kind === "broken") return [said, t("error.broken-fix")].filter(Boolean).join(" ");
  return said;
}

/** Whether the same request can only be refused again. */
function tooLong(told: Told): boolean {
  return told.code === "context_length_exceeded";
}

/** The server's messages are made to stand in a line of a log: here they are sentences. */
function sentence(text: string): string {
  if (text === "") return text;
  const begun = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?。！？]$/.test(begun) ? begun : `${begun}.`;
}

export interface RefusalBoxProps {
  told: Told;
  /** What the button does; without it there is none. */
  onRetry?: (() => void) | undefined;
}

/** A refusal with its way out. */
export function RefusalBox({ told, onRetry }: RefusalBoxProps) {
  const left = useSecondsTo(told.retryAt);
  return (
    <div class="refusal" role="alert">
      <strong>{refusalTitle(told)}</strong>
      <p dir="auto">{refusalText(told)}</p>
      {onRetry && !tooLong(told) && (
        <button type="button" class="small" onClick={onRetry} disabled={left > 0}>
          <Icon name="again" />
          {left > 0 ? t("error.wait", { seconds: left }) : t("error.retry")}
        </button>
      )}
    </div>
  );
}

function useSecondsTo(moment: number | null): number {
  const secondsLeft = (): number => (moment === null ? 0 : Math.max(0, Math.ceil((moment - Date.now()) / 1000)));
  const [left, setLeft] = useState(secondsLeft);
  useEffect(() => {
    setLeft(secondsLeft());
    if (secondsLeft() === 0) return;
    const timer = setInterval(() => {
      const now = secondsLeft();
      setLeft(now);
      if (now === 0) clearInterval(timer);
    }, 250);
    return () => clearInterval(timer);
  }, [moment]);
  return left;
}
