/** Text of a model, as it grows. */

import { useLayoutEffect, useMemo, useRef } from "preact/hooks";
import { t } from "../i18n";
import { copyText } from "../ui/copying";
import { blocks, nameImages, type Block } from "./markdown";

nameImages((alt) => t("text.image", { alt }));

/** `growing`: more text is coming. */
export function Markdown({ text, growing }: { text: string; growing: boolean }) {
  const known = useRef<ReadonlyMap<string, Block>>(new Map());
  const shown = useMemo(() => {
    const made = blocks(text, growing ? known.current : undefined);
    known.current = new Map(made.map((block) => [block.source, block]));
    return made;
  }, [text, growing]);
  return (
    <div class="prose">
      {shown.map((block, place) => (
        <Shown key={place} html={block.html} growing={growing && place === shown.length - 1} />
      ))}
    </div>
  );
}

function Shown({ html, growing }: { html: string; growing: boolean }) {
  const place = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    if (place.current) finish(place.current, growing);
  }, [html, growing]);
  return <div class="block" dir="auto" ref={place} dangerouslySetInnerHTML={{ __html: html }} />;
}

type Finisher = (element: Element) => void;
const finishers: { math?: Finisher; code?: Finisher } = {};

/** What HTML alone does not do: a button on code, room for wide tables, colours, formulas. */
function finish(element: HTMLElement, growing: boolean): void {
  for (const pre of element.querySelectorAll("pre")) addBar(pre);
  for (const table of element.querySelectorAll("table")) addRoom(table);
  if (element.querySelector("span.math")) {
    use("math", element, () => import("./math").then((found) => found.drawMath));
  }
  // Code is coloured when it is whole: half a string colours everything after it, and each picture would differ.
  if (!growing && element.querySelector("code[data-language]")) {
    use("code", element, () => import("./highlight").then((found) => found.colourCode));
  }
}

/** At once where it was fetched already, so that nothing flickers while a text grows. */
function use(name: "math" | "code", element: HTMLElement, load: () => Promise<Finisher>): void {
  const here = finishers[name];
  if (here) {
    here(element);
    return;
  }
  load().then(
    (found) => {
      finishers[name] = found;
      if (element.isConnected) found(element);
    },
    () => undefined, // it stays readable as it is
  );
}

/** A frame that a wide table scrolls in; the table itself stays one to screen readers. */
function addRoom(table: HTMLTableElement): void {
  if (table.parentElement?.classList.contains("wide")) return;
  const frame = document.createElement("div");
  frame.className = "wide";
  frame.tabIndex = 0;
  frame.setAttribute("role", "group");
  frame.setAttribute("aria-label", t("text.table"));
  table.replaceWith(frame);
  frame.append(table);
}

function addBar(pre: HTMLPreElement): void {
  if (pre.parentElement?.classList.contains("code")) return;
  const code = pre.querySelector("code");
  const frame = document.createElement("div");
  frame.className = "code";
  frame.dir = "ltr";
  const bar = document.createElement("div");
  bar.className = "code-bar";
  const name = document.createElement("span");
  name.textContent = code?.dataset["language"] ?? "";
  const button = document.createElement("button");
  button.type = "button";
  button.className = "small";
  button.textContent = t("code.copy");
  button.addEventListener("click", () => void copyText(code?.textContent ?? ""));
  bar.append(name, button);
  // Code that is too wide scrolls, and what scrolls must be reachable by keyboard.
  pre.tabIndex = 0;
  pre.replaceWith(frame);
  frame.append(bar, pre);
}
