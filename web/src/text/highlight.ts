/** Code in colours. Fetched when a text holds the first code whose language is named. */

import hljs from "highlight.js/lib/core";
import bash from "highlight.js/lib/languages/bash";
import c from "highlight.js/lib/languages/c";
import cpp from "highlight.js/lib/languages/cpp";
import css from "highlight.js/lib/languages/css";
import diff from "highlight.js/lib/languages/diff";
import go from "highlight.js/lib/languages/go";
import java from "highlight.js/lib/languages/java";
import javascript from "highlight.js/lib/languages/javascript";
import json from "highlight.js/lib/languages/json";
import markdown from "highlight.js/lib/languages/markdown";
import python from "highlight.js/lib/languages/python";
import rust from "highlight.js/lib/languages/rust";
import sql from "highlight.js/lib/languages/sql";
import typescript from "highlight.js/lib/languages/typescript";
import xml from "highlight.js/lib/languages/xml";
import yaml from "highlight.js/lib/languages/yaml";

const LANGUAGES = {
  bash, c, cpp, css, diff, go, java, javascript, json, markdown, python, rust, sql, typescript, xml, yaml,
};
for (const [name, language] of Object.entries(LANGUAGES)) hljs.registerLanguage(name, language);

const LONGEST = 50_000; // characters of one piece of code that is coloured

/** Colours the code below `element` whose language is named and known. */
export function colourCode(element: Element): void {
  for (const code of element.querySelectorAll<HTMLElement>("code[data-language]:not([data-coloured])")) {
    const language = code.dataset["language"]!;
    const text = code.textContent ?? "";
    code.dataset["coloured"] = "";
    if (text.length > LONGEST || !hljs.getLanguage(language)) continue;
    // What highlight.js gives is the escaped text in spans with classes of its own.
    code.innerHTML = hljs.highlight(text, { language, ignoreIllegals: true }).value;
  }
}
