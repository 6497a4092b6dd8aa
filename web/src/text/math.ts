/** Formulas, drawn by KaTeX with the fonts that come with the page. Fetched when a text holds the first formula. */

import katex from "katex";
import "katex/dist/katex.min.css";

const REMEMBERED = 500;
const drawn = new Map<string, DocumentFragment>();

/** Draws the formulas below `element` whose TeX still stands there. */
export function drawMath(element: Element): void {
  for (const span of element.querySelectorAll<HTMLElement>("span.math:not([data-drawn])")) {
    const tex = span.textContent ?? "";
    const display = span.classList.contains("math-display");
    span.replaceChildren(formula(tex, display).cloneNode(true));
    if (display) span.tabIndex = 0; // a wide one is scrolled, by keyboard too
    span.dataset["drawn"] = "";
    if (span.scrollWidth > span.clientWidth && display) span.tabIndex = 0; // what scrolls can be reached by keyboard
  }
}

/** A formula is drawn into nodes, not into HTML: nothing is parsed that a stranger wrote. */
function formula(tex: string, display: boolean): DocumentFragment {
  const key = `${display ? "d" : "i"}${tex}`;
  const known = drawn.get(key);
  if (known) return known;
  const place = document.createElement("span");
  katex.render(tex, place, {
    displayMode: display,
    throwOnError: false,
    trust: false,
    strict: "ignore",
    maxSize: 20,
    maxExpand: 200,
    errorColor: "var(--danger)",
  });
  const made = document.createDocumentFragment();
  made.append(...place.childNodes);
  if (drawn.size >= REMEMBERED) drawn.clear();
  drawn.set(key, made);
  return made;
}
