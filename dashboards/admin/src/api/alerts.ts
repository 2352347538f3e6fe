import { useInfiniteQuery, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { api, body } from "./client";
import { keys } from "./keys";
import type { components } from "./schema";

type Schemas = components["schemas"];
export type Alert = Schemas["AlertOut"];
export type AlertRule = Schemas["AlertRuleOut"];
export type AlertRuleOrder = Schemas["AlertRuleIn"];

export const useAlerts = (firing: boolean) =>
  useInfiniteQuery({
    queryKey: [...keys.alerts, "list", firing],
    queryFn: ({ pageParam: cursor, signal }) =>
      body(
        api.GET("/api/v1/alerts", { params: { query: { ...(firing ? { firing } : {}), limit: 30, cursor } }, signal }),
      ),
    initialPageParam: "",
    getNextPageParam: (page) => page.next_cursor || undefined,
  });

export const useAlertRules = () =>
  useQuery({
    queryKey: keys.alertRules,
    queryFn: ({ signal }) => body(api.GET("/api/v1/alert-rules", { signal })),
    select: (page) => page.items,
  });

function useRuleCall<Input, Output>(call: (input: Input) => Promise<Output>) {
  const queries = useQueryClient();
  return useMutation({ mutationFn: call, onSettled: () => queries.invalidateQueries({ queryKey: keys.alerts }) });
}

/** Makes a rule, or puts another in the place of one. */
export const useSaveRule = (id: string | null) =>
  useRuleCall((order: AlertRuleOrder) =>
    id === null
      ? body(api.POST("/api/v1/alert-rules", { body: order }))
      : body(api.PUT("/api/v1/alert-rules/{rule_id}", { params: { path: { rule_id: id } }, body: order })),
  );

export const useRemoveRule = (id: string) =>
  useRuleCall(() => body(api.DELETE("/api/v1/alert-rules/{rule_id}", { params: { path: { rule_id: id } } })));
