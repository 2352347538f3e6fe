/** An error answer of the API (RFC 9457 problem+json), or the network's own failure as status 0. */
export class Problem extends Error {
  readonly status: number;
  readonly detail: string;
  readonly fields: { field: string; message: string }[];

  constructor(status: number, title: string, detail: string, fields: { field: string; message: string }[] = []) {
    super(title);
    this.name = "Problem";
    this.status = status;
    this.detail = detail;
    this.fields = fields;
  }

  static unreachable(): Problem {
    return new Problem(
      0,
      "The control plane does not answer",
      "The API process may be restarting or the network is down. The page tries again by itself.",
    );
  }

  static from(status: number, body: unknown): Problem {
    if (typeof body !== "object" || body === null) {
      return new Problem(status, `The API answered ${status}`, "It gave no reason. Its log has the details.");
    }
    const { title, detail, errors } = body as { title?: unknown; detail?: unknown; errors?: unknown };
    return new Problem(
      status,
      typeof title === "string" && title ? title : `The API answered ${status}`,
      typeof detail === "string" ? detail : "",
      Array.isArray(errors) ? errors.filter(isField) : [],
    );
  }
}

function isField(value: unknown): value is { field: string; message: string } {
  if (typeof value !== "object" || value === null) return false;
  const { field, message } = value as { field?: unknown; message?: unknown };
  return typeof field === "string" && typeof message === "string";
}

/** What an error says of one field of a form, null for nothing. A field within it (`pools.x` in `pools`) counts. */
export function fieldProblem(error: unknown, field: string): string | null {
  if (!(error instanceof Problem)) return null;
  const found = error.fields.find((one) => one.field === field || one.field.startsWith(`${field}.`));
  return found?.message ?? null;
}

/** Whether an error says something that none of these fields shows. */
export function isBeside(error: unknown, fields: readonly string[]): boolean {
  return error !== null && error !== undefined && !fields.some((field) => fieldProblem(error, field) !== null);
}

/** What a person can do about it, in one sentence. */
export function wayOut(problem: Problem): string {
  switch (problem.status) {
    case 0:
      return "Check that `trimtab up` (or the API process) is running.";
    case 401:
      return "Sign in again.";
    case 403:
      return "Ask an admin for a higher role: viewers read, operators change.";
    case 404:
      return "It may have been removed, or the link is of another installation.";
    case 409:
      return "Reload to see what changed in between, then try again.";
    case 422:
      return "Mend the fields named and try again.";
    default:
      return "Try again; if it stays, the API's log names the cause under this time.";
  }
}
