/** What a user reads when a server refuses: its own words once, and one way out. */

import { expect, test } from "vitest";
import type { Told } from "../src/api/refusal";
import { t } from "../src/i18n";
import { refusalText } from "../src/ui/refusals";

const refused: Told = { kind: "refused", status: 400, code: null, param: null, message: "", retryAt: null };

test("a text that is too long is told once how to be shorter", () => {
  const message = "a prompt of 600 tokens and 1 new one do not fit; expected at most 512 tokens in all; shorten the prompt";
  const text = refusalText({ ...refused, code: "context_length_exceeded", message });
  expect(text).toBe(
    `A prompt of 600 tokens and 1 new one do not fit; expected at most 512 tokens in all. ${t("error.context-fix")}`,
  );
});

test("other refusals are told in the server's words, as a sentence", () => {
  expect(refusalText({ ...refused, message: "n: not 20; shorten the list" })).toBe("N: not 20; shorten the list.");
});
