/** Why somebody is back from the identity provider without being signed in, by the word behind `#sign-in=`. */
const WORDS: Record<string, string> = {
  unavailable: "The identity provider cannot be reached now. Try again in a moment, or sign in another way.",
  cancelled: "The sign-in was cancelled at the identity provider.",
  expired: "The sign-in took too long, or was begun in another browser. Try again.",
  refused:
    "What the identity provider answered does not hold. Try again; if it stays so, an admin finds why in the log.",
  "not-allowed": "None of your groups has a role here. Ask an admin.",
  disabled: "An admin disabled your user here. Only an admin can enable it again.",
  "name-taken": "Somebody here already has your name, and comes in another way. Ask an admin.",
  "no-name": "The identity provider tells no name that you could go by here. Ask an admin.",
  "too-many": "Too many failed sign-ins from here. Try again in a minute.",
};

/** In words, for whoever is back; null for any other address. */
export function signInOutcome(hash: string): string | null {
  const word = new URLSearchParams(hash.replace(/^#/, "")).get("sign-in");
  return word === null ? null : (WORDS[word] ?? "The sign-in did not work out. Try again.");
}
