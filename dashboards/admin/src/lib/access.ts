// What people and their tokens may do, in words; and the small reckonings of the access pages.
import { plural } from "./format";

export const ROLES = ["viewer", "operator", "approver", "admin"] as const;
export type Role = (typeof ROLES)[number];

/** Each includes those before it. */
export const ROLE_HELP: Record<Role, string> = {
  viewer: "Reads everything, changes nothing.",
  operator: "Starts, pauses and rolls back changes; freezes pools.",
  approver: "Also agrees to changes that wait for approval.",
  admin: "Also decides who may come in, and looks into processes.",
};

/** The roles that somebody with `most` can hand on: theirs and those before. */
export function rolesUpTo(most: Role): readonly Role[] {
  return ROLES.slice(0, ROLES.indexOf(most) + 1);
}

/** Whether a role allows what another one does. */
export function includes(role: Role, other: Role): boolean {
  return ROLES.indexOf(role) >= ROLES.indexOf(other);
}

/** The greater of the roles everywhere and in single pools. */
export function greatest(role: Role, pools: Readonly<Record<string, Role>>): Role {
  return [role, ...Object.values(pools)].reduce((one, other) => (includes(one, other) ? one : other));
}

/** What somebody may do in a pool: what they may do everywhere, or more. */
export function roleIn(who: { role: Role; pools?: Readonly<Record<string, Role>> }, poolId: string): Role {
  return greatest(who.role, { [poolId]: who.pools?.[poolId] ?? who.role });
}

const BROWSERS: [RegExp, string][] = [
  [/Edg\/(\d+)/, "Edge"],
  [/OPR\/(\d+)/, "Opera"],
  [/Firefox\/(\d+)/, "Firefox"],
  [/(?:Headless)?Chrome\/(\d+)/, "Chrome"],
  [/Version\/(\d+)[.\d]* (?:Mobile\/\S+ )?Safari/, "Safari"],
];
const SYSTEMS: [RegExp, string][] = [
  [/Android/, "Android"],
  [/iPhone|iPad/, "iOS"],
  [/Windows/, "Windows"],
  [/Mac OS X/, "macOS"],
  [/Linux|X11/, "Linux"],
];

/** A User-Agent as a person knows it: "Firefox 142 on Linux". What is no browser keeps its own first word. */
export function browserName(agent: string): string {
  const system = SYSTEMS.find(([pattern]) => pattern.test(agent))?.[1];
  for (const [pattern, name] of BROWSERS) {
    const version = pattern.exec(agent)?.[1];
    if (version) return `${name} ${version}${system ? ` on ${system}` : ""}`;
  }
  return agent.split(" ", 1)[0] || "unknown";
}

type TokenState = "active" | "expired" | "revoked";

export function tokenState(token: { revoked_at: string | null; expires_at: string | null }, now: number): TokenState {
  if (token.revoked_at !== null) return "revoked";
  return token.expires_at !== null && Date.parse(token.expires_at) <= now ? "expired" : "active";
}

/** "2 browser sessions and 1 API token end", for a question before they do. */
export function whatEnds(sessions: number, tokens: number): string {
  const parts = [
    ...(sessions ? [plural(sessions, "browser session")] : []),
    ...(tokens ? [plural(tokens, "API token")] : []),
  ];
  if (parts.length === 0) return "no browser session and no API token is open now";
  return `${parts.join(" and ")} ${sessions + tokens === 1 ? "ends" : "end"} as of the next request`;
}

export const LIFETIMES = [
  { value: "7", label: "7 days" },
  { value: "30", label: "30 days" },
  { value: "90", label: "90 days" },
  { value: "365", label: "1 year" },
  { value: "never", label: "Never (until it is revoked)" },
] as const;

/** When a token of that lifetime ends; null for never. `now` in ms. */
export function expiryOf(lifetime: string, now: number): string | null {
  return lifetime === "never" ? null : new Date(now + Number(lifetime) * 86_400_000).toISOString();
}

/** What starts a node that joins with this token, for a POSIX shell. */
export function nodeCommand(origin: string, token: string): string {
  return [
    `NODE_CONTROLPLANE_URL=${origin} \\`,
    `NODE_ENROLMENT_TOKEN=${token} \\`,
    "NODE_NAME=node-1 NODE_POOL=default NODE_HOST=0.0.0.0 \\",
    "NODE_URL=http://THIS-MACHINE:8000 \\",
    "trimtab node --model DIR",
  ].join("\n");
}
