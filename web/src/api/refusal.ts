/** What a server did not do, and why. */

export type Kind = "refused" | "unreachable" | "broken";

export interface Told {
  kind: Kind;
  /** The HTTP status, 0 where there was none. */
  status: number;
  message: string;
  code: string | null;
  param: string | null;
  /** When to try again, in milliseconds since 1970, where the server said so. */
  retryAt: number | null;
}

export class Refusal extends Error {
  readonly told: Told;

  constructor(told: Partial<Told> & { message: string }) {
    super(told.message);
    this.told = { kind: "refused", status: 0, code: null, param: null, retryAt: null, ...told };
  }
}

const LONGEST = 2000;

/** The refusal in a response that is not "ok", whatever its body is. */
export async function refusalOf(response: Response): Promise<Refusal> {
  const text = await response.text().catch(() => "");
  let body: unknown = null;
  try {
    body = JSON.parse(text);
  } catch {
    // A proxy's page: the status says what there is to know.
  }
  const found = refusalIn(body, response.status);
  const seconds = Number(response.headers.get("Retry-After"));
  const retryAt = Number.isFinite(seconds) && seconds > 0 ? Date.now() + Math.min(seconds, 3600) * 1000 : null;
  const said = found?.told ?? { message: `${response.status} ${response.statusText}`.trim() };
  return new Refusal({ ...said, status: response.status, retryAt });
}

/** The refusal that a JSON value holds (OpenAI's error object), or null. */
export function refusalIn(value: unknown, status = 0): Refusal | null {
  const error = isRecord(value) ? value["error"] : null;
  if (!isRecord(error) || typeof error["message"] !== "string") return null;
  return new Refusal({
    status,
    message: error["message"].slice(0, LONGEST),
    code: typeof error["code"] === "string" ? error["code"] : null,
    param: typeof error["param"] === "string" ? error["param"] : null,
  });
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
