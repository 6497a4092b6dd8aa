/**
 * Markdown into safe HTML, block by block.
 *
 * What a model writes is a stranger's text. HTML in it is shown as the characters it is made of; no address in it is
 * ever fetched, for a picture's address can carry what was said to whoever owns it; a link says where it goes.
 */

import DOMPurify from "dompurify";
import { Marked, type Token, type TokenizerAndRendererExtension, type Tokens } from "marked";

/** One block of a text: what it was written as, and how it is shown. */
export interface Block {
  source: string;
  html: string;
}

export function escape(text: string): string {
  const names: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
  return text.replace(/[&<>"']/g, (letter) => names[letter]!);
}

const LONGEST_ADDRESS = 2048;

/** An address that a link may have: of the web or of a mailbox, else null. */
export function safeAddress(raw: string): URL | null {
  if (raw.length > LONGEST_ADDRESS || !/^(?:https?:\/\/|mailto:)/i.test(raw)) return null;
  try {
    return new URL(raw);
  } catch {
    return null;
  }
}

/** What a reader sees of where a link goes: the host that will really be asked. */
function target(address: URL): string {
  return address.protocol === "mailto:" ? address.pathname : address.host;
}

/** `plain`: the link's words, beside which its host is not said again where they are the address already. */
function link(address: URL, inner: string, plain: string): string {
  const where = target(address);
  const bare = (text: string): string => text.trim().toLowerCase().replace(/^mailto:|\/$/g, "");
  const known = [where, address.href].some((one) => bare(one) === bare(plain));
  const shown = known ? "" : ` <span class="target">(${escape(where)})</span>`;
  const href = escape(address.href);
  return `<a href="${href}" title="${href}" rel="noopener noreferrer nofollow" target="_blank">${inner}</a>${shown}`;
}

const PICTURE = /^data:image\/(?:png|jpeg|gif|webp);base64,[a-z0-9+/=\s]+$/i;

interface MathToken extends Tokens.Generic {
  text: string;
  display: boolean;
}

/** The span's text is the TeX itself, so it can be read before KaTeX is there, and without it. */
function mathSpan(token: Tokens.Generic): string {
  const { text, display } = token as MathToken;
  return `<span class="${display ? "math math-display" : "math"}">${escape(text)}</span>`;
}

const blockMath: TokenizerAndRendererExtension = {
  name: "blockMath",
  level: "block",
  start: (source) => /(?:^|\n) {0,3}(?:\$\$|\\\[)/.exec(source)?.index,
  tokenizer(source): MathToken | undefined {
    const found = /^ {0,3}(?:\$\$((?:\\.|[^\\$]){1,4000}?)\$\$|\\\[([\s\S]{1,4000}?)\\\])[ \t]*(?:\n|$)/.exec(source);
    if (!found) return undefined;
    return { type: "blockMath", raw: found[0], text: (found[1] ?? found[2] ?? "").trim(), display: true };
  },
  renderer: (token) => `<p>${mathSpan(token)}</p>\n`,
};

/** `$x$`, `$$x$$`, `\(x\)`, `\[x\]` inside a line. A single dollar opens before something, closes after something and
 *  never before a digit: "$5 and $6" is money. */
const inlineMath: TokenizerAndRendererExtension = {
  name: "inlineMath",
  level: "inline",
  // A run of three dollars or more opens nothing: stopping at each of ten thousand would take minutes.
  start: (source) => /(?<!\$)\$\$?(?![$\s])|\\[([]/.exec(source)?.index,
  tokenizer(source): MathToken | undefined {
    const found =
      /^\$\$((?:\\.|[^\\$]){1,4000}?)\$\$/.exec(source) ??
      /^\$(?![\s$])((?:\\.|[^\\$\n]){1,4000}?)(?<!\s)\$(?![\d$])/.exec(source) ??
      /^\\\(([\s\S]{1,4000}?)\\\)/.exec(source) ??
      /^\\\[([\s\S]{1,4000}?)\\\]/.exec(source);
    if (!found) return undefined;
    const display = found[0].startsWith("$$") || found[0].startsWith("\\[");
    return { type: "inlineMath", raw: found[0], text: found[1]!.trim(), display };
  },
  renderer: mathSpan,
};

/** The word after a fence, as a class that names it. */
function language(info: string | undefined): string {
  const word = /^[\w+#.-]{1,32}/.exec(info ?? "")?.[0].toLowerCase();
  return word ? ` data-language="${escape(word)}"` : "";
}

let imageLabel = (alt: string): string => alt;

/** How the place of a picture that is not loaded is called. */
export function nameImages(how: (alt: string) => string): void {
  imageLabel = how;
}

const marked = new Marked({
  gfm: true,
  breaks: true,
  extensions: [blockMath, inlineMath],
  tokenizer: {
    // HTML is no part of the language here: what looks like it is text.
    html: () => undefined,
    tag: () => undefined,
  },
  renderer: {
    code: ({ text, lang }) => `<pre><code${language(lang)}>${escape(text)}\n</code></pre>\n`,
    link({ href, tokens, text }) {
      const inner = this.parser.parseInline(tokens);
      const address = safeAddress(href);
      return address ? link(address, inner, text) : `${inner} <span class="target">(${escape(href.slice(0, 200))})</span>`;
    },
    image({ href, text }) {
      const label = escape(text);
      if (PICTURE.test(href)) return `<img src="${escape(href)}" alt="${label}">`;
      const address = safeAddress(href);
      const named = escape(imageLabel(text));
      return address ? link(address, named, "") : named;
    },
    checkbox: ({ checked }) => `<input type="checkbox" disabled${checked ? " checked" : ""}> `,
  },
});

const ALLOWED = {
  ALLOWED_TAGS: [
    ...["p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "pre", "code", "ul", "ol", "li", "input"],
    ...["strong", "em", "del", "a", "img", "span", "table", "thead", "tbody", "tr", "th", "td"],
  ],
  ALLOWED_ATTR: ["href", "title", "rel", "target", "src", "alt", "class", "start", "align", "type", "checked", "disabled", "data-language"],
  ALLOWED_URI_REGEXP: /^(?:https?:\/\/|mailto:|data:image\/(?:png|jpeg|gif|webp);base64,)/i,
  // The rest of the attributes hold no address; without this the pattern above would be asked of them too.
  ADD_URI_SAFE_ATTR: ["title", "rel", "target", "alt", "class", "start", "align", "type", "data-language"],
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
};

/** HTML with nothing in it but what Markdown can say. Second lock on the same door: the renderer lets none through. */
export function sanitised(html: string): string {
  return DOMPurify.sanitize(html, ALLOWED);
}

/** The blocks of a text. `known` are blocks made before, by their source: a text that grows at its end changes the last. */
export function blocks(text: string, known?: ReadonlyMap<string, Block>): Block[] {
  const tokens = marked.lexer(text).filter((token: Token) => token.type !== "space" && token.type !== "def");
  return tokens.map((token: Token) => {
    return known?.get(token.raw) ?? { source: token.raw, html: sanitised(marked.parser([token])) };
  });
}

/** A whole text. */
export function html(text: string): string {
  return blocks(text)
    .map((block) => block.html)
    .join("");
}
