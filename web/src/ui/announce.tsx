/** What a screen reader is told without the focus moving: whole sentences, and not at every token. */

import { signal } from "@preact/signals";

const said = signal("");

export function announce(text: string): void {
  // The same words twice are two messages: a space more makes them a change.
  said.value = said.peek() === text ? `${text}\u00A0` : text;
}

export function Announcer() {
  return (
    <div class="visually-hidden" role="status" aria-live="polite" aria-atomic="true">
      {said.value}
    </div>
  );
}

const PAUSE = 4000;

/** Reads a growing text aloud in pieces: finished sentences, at most every four seconds. */
export class Reader {
  private told = 0;
  private last = 0;

  /** What may be said now of `text`, "" for nothing yet. `whole`: no more comes. */
  next(text: string, whole: boolean, now: number = performance.now()): string {
    if (!whole && now - this.last < PAUSE) return "";
    const rest = text.slice(this.told);
    const end = whole ? rest.length : lastSentence(rest);
    if (end === 0) return "";
    this.told += end;
    this.last = now;
    return rest.slice(0, end).trim();
  }
}

/** Where the last whole sentence ends; 0 where none does. */
function lastSentence(text: string): number {
  let end = 0;
  for (const match of text.matchAll(/[.!?…](?=\s)|[。！？]|\n/g)) end = match.index + match[0].length;
  return end;
}
