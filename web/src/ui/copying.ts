/** The clipboard. */

import { t } from "../i18n";
import { announce } from "./announce";

/** Copies and says so, to eyes by the caller and to ears here. Gives whether the browser let it. */
export async function copyText(text: string): Promise<boolean> {
  const done = (await copyNow(text)) || copyOldWay(text);
  announce(t(done ? "turn.copied" : "turn.copy-failed"));
  return done;
}

async function copyNow(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false; // refused, or a page without a certificate, which has no clipboard
  }
}

function copyOldWay(text: string): boolean {
  const place = document.createElement("textarea");
  const focused = document.activeElement;
  place.value = text;
  place.className = "visually-hidden";
  document.body.append(place);
  place.select();
  try {
    return document.execCommand("copy");
  } catch {
    return false;
  } finally {
    place.remove();
    if (focused instanceof HTMLElement) focused.focus();
  }
}
