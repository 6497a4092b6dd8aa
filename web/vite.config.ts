import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";
import { licences, onlyWoff2 } from "./tools/plugins.ts";

export default defineConfig({
  // Relative addresses: a proxy may put the whole server below a path of its own.
  base: "./",
  plugins: [onlyWoff2(), licences()],
  build: {
    outDir: fileURLToPath(new URL("../src/paddock/serve/web", import.meta.url)),
    emptyOutDir: true,
    target: "es2022",
    // Nothing as a data: address; the page's policy takes fonts and styles from its own server only.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 400,
  },
  // `npm run dev` shows the page while it is worked on; a server beside it answers.
  server: { proxy: { "/v1": "http://127.0.0.1:8000", "/tokenize": "http://127.0.0.1:8000", "/session": "http://127.0.0.1:8000" } },
  test: { environment: "jsdom", include: ["test/**/*.test.{ts,tsx}"] },
});
