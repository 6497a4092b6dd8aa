/** What the build does besides Vite's own work. */

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
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
      const head = "Paddock's web interface contains code of these projects, under these licences.\n";
      this.emitFile({ type: "asset", fileName: "assets/LICENCES.txt", source: [head, ...texts].join("\n") });
    },
  };
}

function packageOf(source: string): string | null {
  const found = /^\0?(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(source.replaceAll("\\", "/"));
  return found ? found[1]! : null;
}

function noticeOf(relative: string): string {
  const folder = relative.startsWith("node_modules") ? join(process.cwd(), relative) : relative;
  const about = JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as Record<string, unknown>;
  const name = readdirSync(folder).find((file) => /^(licen[cs]e|copying)(\.|$)/i.test(file));
  if (!name || !existsSync(join(folder, name))) throw new Error(`${dirname(folder)}: no licence in ${String(about["name"])}`);
  const text = readFileSync(join(folder, name), "utf8").replaceAll("\r\n", "\n").trim();
  const title = `${String(about["name"])} ${String(about["version"])} (${String(about["license"])})`;
  return `${"=".repeat(title.length)}\n${title}\n${"=".repeat(title.length)}\n\n${text}\n`;
}
