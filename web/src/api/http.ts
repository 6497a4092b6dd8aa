/** Requests to the server this page came from; there is no other. */

import { Refusal, refusalOf } from "./refusal";

/** An address of the API, relative to the page: a proxy may have put both below a path of its own. */
function address(path: string): string {
  return new URL(path, document.baseURI).href;
}

/** A response that is "ok". Throws Refusal; where nobody is logged in any more, the page goes to the login. */
export async function send(path: string, options: RequestInit = {}): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(address(path), { credentials: "same-origin", cache: "no-store", ...options });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Refusal({ kind: "unreachable", message: "" });
  }
  if (response.ok) return response;
  const refusal = await refusalOf(response);
  if (response.status === 401) toLogin();
  throw refusal;
}

export async function getJson(path: string): Promise<unknown> {
  const response = await send(path);
  return await response.json().catch(() => {
    throw new Refusal({ kind: "broken", status: response.status, message: "" });
  });
}

export function postJson(path: string, body: unknown, signal?: AbortSignal): Promise<Response> {
  return send(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    ...(signal ? { signal } : {}),
  });
}

const LOGGED_OUT = "paddock.logged-out";

/** The server shows its login instead of this page. Once in ten seconds, or a page that is let in while its API is not
 *  would load for ever. */
function toLogin(): void {
  const last = Number(sessionStorage.getItem(LOGGED_OUT));
  if (Date.now() - last < 10_000) return;
  sessionStorage.setItem(LOGGED_OUT, String(Date.now()));
  location.reload();
}
