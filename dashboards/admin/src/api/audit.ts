import { keepPreviousData, useInfiniteQuery, useMutation } from "@tanstack/react-query";
import { api, body } from "./client";
import { keys } from "./keys";
import type { components } from "./schema";

export type AuditEntry = components["schemas"]["AuditEntry"];
export type Verification = components["schemas"]["VerificationOut"];

/** What to look for; empty words look for nothing. The names are the API's and those in the page's address. */
export interface AuditFilter {
  text: string;
  actor: string;
  kind: string;
  severity: "" | "info" | "warning" | "error";
  pool_id: string;
  since: string;
}

/** Entries of the history, newest first. */
export const useAudit = (filter: AuditFilter, limit = 50) =>
  useInfiniteQuery({
    queryKey: keys.auditOf({ ...filter, limit }),
    queryFn: ({ pageParam: cursor, signal }) => {
      const { severity, ...rest } = filter;
      const query = { ...rest, ...(severity ? { severity } : {}), limit, cursor };
      return body(api.GET("/api/v1/audit", { params: { query }, signal }));
    },
    initialPageParam: "",
    getNextPageParam: (page) => page.next_cursor || undefined,
    placeholderData: keepPreviousData,
  });

/** Reads the whole chain: asked for by a person, never by itself. */
export const useVerifyAudit = () => useMutation({ mutationFn: () => body(api.GET("/api/v1/audit/verification")) });

/** The address of a file with all entries that the filter finds. */
export function exportAddress(filter: AuditFilter, format: "csv" | "jsonl"): string {
  const said = Object.entries(filter).filter(([, value]) => value !== "");
  return `/api/v1/audit/export?${new URLSearchParams([["format", format], ...said])}`;
}
