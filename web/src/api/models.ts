/** What the server says about its models: /v1/models and /v1/models/{id}. */

import { isRecord } from "./refusal";
import { getJson } from "./http";

export interface Setting {
  value: unknown;
  /** Who said so: "model" (its generation_config.json), "default" (Paddock's), or another word of the server. */
  from: string;
}

export interface ModelCard {
  id: string;
  /** The model that this adapter was put on. */
  parent: string | null;
  /** Tokens that prompt and answer may have together. */
  context: number | null;
  /** Whether it takes conversations; otherwise it continues text. */
  chat: boolean;
  /** Whether it writes at all. */
  generates: boolean;
  /** Sampling settings that hold where a request names none. */
  settings: Readonly<Record<string, Setting>>;
}

export function cardOf(raw: unknown): ModelCard | null {
  if (!isRecord(raw) || typeof raw["id"] !== "string") return null;
  const own = isRecord(raw["paddock"]) ? raw["paddock"] : {};
  const context = raw["max_model_len"];
  return {
    id: raw["id"],
    parent: typeof raw["parent"] === "string" ? raw["parent"] : null,
    context: typeof context === "number" ? context : null,
    chat: own["chat"] !== false,
    generates: own["generates"] !== false,
    settings: settingsOf(own["settings"]),
  };
}

function settingsOf(raw: unknown): Record<string, Setting> {
  const found: Record<string, Setting> = {};
  for (const [name, entry] of Object.entries(isRecord(raw) ? raw : {})) {
    if (isRecord(entry) && "value" in entry) {
      found[name] = { value: entry["value"], from: typeof entry["from"] === "string" ? entry["from"] : "" };
    }
  }
  return found;
}

/** Every model. Throws Refusal. */
export async function listModels(): Promise<ModelCard[]> {
  const answer = await getJson("v1/models");
  const list = isRecord(answer) && Array.isArray(answer["data"]) ? answer["data"] : [];
  return list.map(cardOf).filter((card) => card !== null);
}

/** One model, with its settings. Throws Refusal. */
export async function fetchCard(id: string): Promise<ModelCard | null> {
  return cardOf(await getJson(`v1/models/${encodeURIComponent(id)}`));
}
