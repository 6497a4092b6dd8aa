// Text of a token as it can be seen: spaces and control characters get a sign of their own.

const SIGNS: Record<string, string> = { " ": "·", "\n": "⏎", "\r": "␍", "\t": "⇥", "\u00a0": "⍽", "\u3000": "⬚" };

/** Characters that draw nothing, or change what is drawn around them (among them the marks that turn the direction). */
const UNSEEN = /[ \n\r\t\u00a0\u3000]|[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;

export function visible(text: string): string {
  if (text === "") return "∅";
  return text.replace(UNSEEN, (sign) => SIGNS[sign] ?? `⟨${hex(sign)}⟩`);
}

function hex(sign: string): string {
  return (sign.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, "0");
}

/** Whether a line of text ends with this token, so that what follows is shown on a new line. */
export function breaks(text: string): boolean {
  return text.includes("\n");
}
