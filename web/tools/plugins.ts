/** What the build does besides Vite's own work. */

import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Plugin } from "vite";

/** Every browser that runs this page reads WOFF2: KaTeX's other two copies of each font stay behind. */
export function onlyWoff2(): Plugin {
  return {
    name: "paddock:only-woff2",
    enforce: "pre",
    transform(code, id) {
      if (!/katex.*\.css$/.test(id.split("?")[0]!)) return null;
      return { code: code.replace(/,\s*url\([^)]+\)\s*format\(["'](?:woff|truetype)["']\)/g, ""), map: null };
    },
  };
}

/** assets/LICENCES.txt: of each package whose code or fonts are in it, its licence as published. */
export function licences(): Plugin {
  return {
    name: "paddock:licences",
    generateBundle(_, bundle) {
      const folders = new Set<string>();
      for (const file of Object.values(bundle)) {
        const sources = file.type === "chunk" ? file.moduleIds : file.originalFileNames;
        for (const source of sources) {
          const folder = packageOf(source);
          if (folder) folders.add(folder);
        }
      }
      const texts = [...folders].map(noticeOf).sort();
      // KaTeX's package says what its code may be used under; what its fonts may be used under is said inside them only.
      const fonts = Object.keys(bundle).some((name) => name.endsWith(".woff2"));
      if (fonts) texts.push(titled("KaTeX's fonts (OFL-1.1)", readFileSync(new URL("katex-fonts.txt", import.meta.url), "utf8")));
      const head = "Paddock's web interface contains code of these projects, under these licences.\n";
      this.emitFile({ type: "asset", fileName: "assets/LICENCES.txt", source: [head, ...texts].join("\n") });
    },
  };
}

function packageOf(source: string): string | null {
  const found = /^\0?(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(source.replaceAll("\\", "/"));
  return found ? resolve(found[1]!) : null;
}

function noticeOf(folder: string): string {
  const about = JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as Record<string, unknown>;
  const name = readdirSync(folder).find((file) => /^(licen[cs]e|copying)(\.|$)/i.test(file));
  if (!name) throw new Error(`no licence in ${String(about["name"])}`);
  const title = `${String(about["name"])} ${String(about["version"])} (${String(about["license"])})`;
  return titled(title, readFileSync(join(folder, name), "utf8"));
}

function titled(title: string, text: string): string {
  const line = "=".repeat(title.length);
  return `${line}\n${title}\n${line}\n\n${text.replaceAll("\r\n", "\n").trim()}\n`;
}
