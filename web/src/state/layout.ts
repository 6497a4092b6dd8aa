/** What of the page is open. */

import { signal } from "@preact/signals";

/** As wide as the list of conversations beside the conversation needs; style.css has the same number. */
const wide = matchMedia("(min-width: 52rem)");

export const isWide = signal(wide.matches);
export const navOpen = signal(wide.matches);

wide.addEventListener("change", () => {
  isWide.value = wide.matches;
  navOpen.value = wide.matches;
});

/** Puts the list away; the keyboard goes back to the button that opens it. */
export function closeNav(): void {
  navOpen.value = false;
  requestAnimationFrame(() => document.querySelector<HTMLElement>("[aria-controls=sidebar]")?.focus());
}

/** After a choice in the list: on a narrow screen it lies over the conversation, and goes away. */
export function leaveNav(): void {
  if (!isWide.value) closeNav();
}

export const MESSAGE = "message"; // id of the message box

export function focusMessage(): void {
  // After the picture is drawn: the box may be new.
  requestAnimationFrame(() => document.getElementById(MESSAGE)?.focus());
}
