import createClient from "openapi-fetch";
import { Problem } from "./problem";
import type { paths } from "./schema";

/** Typed by `docs/openapi.json`: a change of the API that breaks a page does not compile. */
export const api = createClient<paths>({
  baseUrl: typeof window === "undefined" ? "" : window.location.origin,
  credentials: "same-origin",
  querySerializer: (query) => {
    const known = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
    return new URLSearchParams(known.map(([name, value]) => [name, String(value)])).toString();
  },
});

/** The answer's body. Throws Problem for every other outcome, the network's included. */
export async function body<T>(call: Promise<{ data?: T; error?: unknown; response: Response }>): Promise<T> {
  let result: { data?: T; error?: unknown; response: Response };
  try {
    result = await call;
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw Problem.unreachable();
  }
  if (!result.response.ok) throw Problem.from(result.response.status, result.error);
  return result.data as T;
}
