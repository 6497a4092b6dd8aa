/** Whom the server takes this browser for. */

import { getJson } from "./http";
import { isRecord } from "./refusal";

/** The name of the key that was shown at the login; null where none was needed. Throws Refusal. */
export async function session(): Promise<string | null> {
  const answer = await getJson("session");
  if (!isRecord(answer) || answer["by"] !== "cookie") return null;
  return typeof answer["name"] === "string" ? answer["name"] : null;
}
