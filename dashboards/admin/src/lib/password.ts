// The rule of `controlplane/accounts/passwords.py`, said while one types. The API judges again.

export const MIN_LENGTH = 15;
export const MAX_LENGTH = 256;
export const MIN_DISTINCT = 5;

/** Characters as the API counts them: by code point. */
export function lengthOf(password: string): number {
  return [...password].length;
}

/** Why the API would not take a password, null if it would. `name`: of whose it is. */
export function weakness(password: string, name: string): string | null {
  const length = lengthOf(password);
  if (length < MIN_LENGTH) return `${MIN_LENGTH - length} more to go: ${length} of at least ${MIN_LENGTH} characters`;
  if (length > MAX_LENGTH) return `at most ${MAX_LENGTH} characters; this has ${length}`;
  if (new Set(password).size < MIN_DISTINCT) return "made of too few different characters";
  let rest = password.toLowerCase();
  if (name.trim()) rest = rest.replaceAll(name.trim().toLowerCase(), "");
  if (lengthOf(rest.replaceAll("trimtab", "")) < Math.floor(MIN_LENGTH / 2))
    return "little is left of it without your name and the product's";
  return null;
}
