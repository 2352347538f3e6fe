import { useInfiniteQuery, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { api, body } from "./client";
import { keys } from "./keys";
import type { components } from "./schema";

type Schemas = components["schemas"];
export type Webhook = Schemas["WebhookOut"];
export type WebhookOrder = Schemas["WebhookIn"];
export type WebhookChange = Schemas["WebhookChange"];
export type Delivery = Schemas["DeliveryOut"];

export const useWebhooks = () =>
  useQuery({
    queryKey: keys.webhooks,
    queryFn: ({ signal }) => body(api.GET("/api/v1/webhooks", { signal })),
    select: (page) => page.items,
  });

/** Newest first. Looked at every five seconds: what is delivered is no event. */
export const useDeliveries = (webhookId: string) =>
  useInfiniteQuery({
    queryKey: keys.deliveries(webhookId),
    queryFn: ({ pageParam: cursor, signal }) =>
      body(
        api.GET("/api/v1/webhooks/{webhook_id}/deliveries", {
          params: { path: { webhook_id: webhookId }, query: { limit: 20, cursor } },
          signal,
        }),
      ),
    initialPageParam: "",
    getNextPageParam: (page) => page.next_cursor || undefined,
    refetchInterval: 5_000,
  });

export const useDelivery = (id: string) =>
  useQuery({
    queryKey: keys.delivery(id),
    queryFn: ({ signal }) =>
      body(api.GET("/api/v1/webhook-deliveries/{delivery_id}", { params: { path: { delivery_id: id } }, signal })),
  });

function useWebhookCall<Input, Output>(call: (input: Input) => Promise<Output>) {
  const queries = useQueryClient();
  return useMutation({ mutationFn: call, onSettled: () => queries.invalidateQueries({ queryKey: keys.webhooks }) });
}

export const useCreateWebhook = () =>
  useWebhookCall((order: WebhookOrder) => body(api.POST("/api/v1/webhooks", { body: order })));

const at = (id: string) => ({ path: { webhook_id: id } });

export const useChangeWebhook = (id: string) =>
  useWebhookCall((change: WebhookChange) =>
    body(api.PATCH("/api/v1/webhooks/{webhook_id}", { params: at(id), body: change })),
  );

export const useRemoveWebhook = (id: string) =>
  useWebhookCall(() => body(api.DELETE("/api/v1/webhooks/{webhook_id}", { params: at(id) })));

export const useTestWebhook = (id: string) =>
  useWebhookCall(() => body(api.POST("/api/v1/webhooks/{webhook_id}/test", { params: at(id) })));

/** A new signing secret; the one before is good for a day more, so that the receiver can change over. */
export const useRotateSecret = (id: string) =>
  useWebhookCall(() =>
    body(api.POST("/api/v1/webhooks/{webhook_id}/secret", { params: at(id), body: { keep_s: 86_400 } })),
  );

export const useRedeliver = () =>
  useWebhookCall((deliveryId: string) =>
    body(
      api.POST("/api/v1/webhook-deliveries/{delivery_id}/redeliver", { params: { path: { delivery_id: deliveryId } } }),
    ),
  );
