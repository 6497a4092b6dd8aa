import { afterEach, describe, expect, it } from "vitest";
import { decimal, percent, setLanguage, t } from "../../src/i18n";
import { en } from "../../src/i18n/en";
import { LANGUAGES, preferred } from "../../src/i18n/language";
import { ms } from "../../src/i18n/ms";
import type { Plural } from "../../src/i18n/translate";
import { zh } from "../../src/i18n/zh";

afterEach(() => setLanguage("en"));

function forms(text: string | Plural): string[] {
  return typeof text === "string" ? [text] : [text.one ?? text.other, text.other];
}

function holes(text: string | Plural): string[] {
  return [...new Set(forms(text).flatMap((form) => form.match(/\{\w+\}/g) ?? []))].sort();
}

describe.each([
  ["zh", zh],
  ["ms", ms],
] as const)("%s", (_, texts) => {
  it("has the same keys in the same order, and no empty text", () => {
    expect(Object.keys(texts)).toEqual(Object.keys(en));
    expect(
      Object.values<string | Plural>(texts)
        .flatMap(forms)
        .filter((text) => text.trim() === ""),
    ).toEqual([]);
  });

  it("fills the same holes", () => {
    for (const [key, text] of Object.entries<string | Plural>(en)) {
      expect({ [key]: holes(texts[key as keyof typeof en]) }).toEqual({ [key]: holes(text) });
    }
  });
});

describe("a text", () => {
  it("takes the plural its number has", () => {
    expect(t("glassbox.tokens", { n: 1 })).toBe("1 token");
    expect(t("glassbox.tokens", { n: 1234 })).toBe("1,234 tokens");
    setLanguage("zh");
    expect(t("glassbox.tokens", { n: 1 })).toBe("1 个词元");
  });

  it("leaves braces in what is put into it alone", () => {
    expect(t("nav.delete", { title: "{title} $& {n}" })).toBe("Delete “{title} $& {n}”");
  });
});

describe("the language", () => {
  it("is the first of the browser's that there is", () => {
    expect(preferred(["fr-FR", "zh-TW", "ms"])).toBe("zh");
    expect(preferred(["ms-MY"])).toBe("ms");
    expect(preferred(["id"])).toBe("ms");
    expect(preferred(["de", "en-GB"])).toBe("en");
    expect(preferred([])).toBe("en");
  });

  it("is told to the document and kept", () => {
    for (const one of LANGUAGES) {
      setLanguage(one);
      expect(document.documentElement.lang).toBe({ en: "en", zh: "zh-Hans", ms: "ms" }[one]);
      expect(localStorage.getItem("paddock.language")).toBe(one);
    }
  });

  it("writes numbers its way", () => {
    expect(decimal(1234.567)).toBe("1,234.57");
    expect(percent(0.6312)).toBe("63.1%");
    expect(percent(0.00123)).toBe("0.12%");
    expect(percent(1e-9)).toBe("<0.01%");
    expect(percent(0)).toBe("0%");
  });
});
