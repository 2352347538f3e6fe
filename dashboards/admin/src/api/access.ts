import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { api, body } from "./client";
import { keys } from "./keys";
import type { components } from "./schema";

type Schemas = components["schemas"];
export type User = Schemas["UserOut"];
export type Invitation = Schemas["InvitationOut"];
export type WebSession = Schemas["WebSessionOut"];
export type ApiToken = Schemas["TokenOut"];
export type EnrolmentToken = Schemas["EnrolmentTokenOut"];
/** Whose sessions or tokens: everybody's needs an admin. */
export type Whose = "all" | "own";

/** What the entrance must know before anybody is signed in. */
export const useSignInWays = () =>
  useQuery({
    queryKey: keys.signInWays,
    queryFn: ({ signal }) => body(api.GET("/api/v1/session/ways", { signal })),
    refetchInterval: false,
  });

export const useUsers = () =>
  useQuery({
    queryKey: keys.users,
    queryFn: ({ signal }) => body(api.GET("/api/v1/users", { signal })),
    select: (page) => page.items,
  });

/** Asked for again whenever something shows it: a question about what would end must count what is open now. */
export const useWebSessions = (whose: Whose) =>
  useQuery({
    queryKey: keys.webSessions(whose),
    staleTime: 0,
    refetchInterval: 10_000, // no event tells of a sign-in
    queryFn: ({ signal }) =>
      whose === "all"
        ? body(api.GET("/api/v1/sessions", { signal }))
        : body(api.GET("/api/v1/account/sessions", { signal })),
    select: (page) => page.items,
  });

/** Newest first, ended ones too. */
export const useTokens = (whose: Whose) =>
  useQuery({
    queryKey: keys.tokens(whose),
    staleTime: 0,
    queryFn: ({ signal }) =>
      whose === "all"
        ? body(api.GET("/api/v1/tokens", { signal }))
        : body(api.GET("/api/v1/account/tokens", { signal })),
    select: (page) => page.items.toReversed(),
  });

export const useEnrolmentTokens = () =>
  useQuery({
    queryKey: keys.enrolmentTokens,
    queryFn: ({ signal }) => body(api.GET("/api/v1/enrolment-tokens", { signal })),
    select: (page) => page.items,
  });

/** A change of who may come in. Only what the access pages show grows old by it. */
function useAccessChange<Input, Output>(change: (input: Input) => Promise<Output>) {
  const queries = useQueryClient();
  return useMutation({
    mutationFn: change,
    onSettled: () => queries.invalidateQueries({ queryKey: keys.access }),
  });
}

/** A change of who is signed in: everything is asked for again, in the new name, but for the link that was used up by it. */
function useEntrance<Input>(enter: (input: Input) => Promise<unknown>) {
  const queries = useQueryClient();
  return useMutation({
    mutationFn: enter,
    onSuccess: () => queries.invalidateQueries({ predicate: (query) => query.queryKey[0] !== "invitation" }),
  });
}

/** Opens a session by name and password, or by a token. */
export const useSignIn = () =>
  useEntrance((order: Schemas["SignIn"]) => body(api.POST("/api/v1/session", { body: order })));

export const useSetUp = () =>
  useEntrance((order: Schemas["SetUp"]) => body(api.POST("/api/v1/set-up", { body: order })));

/** Whom a link is for. A link is good once, so the answer is not asked for again. */
export const useInvitation = (secret: string) =>
  useQuery({
    queryKey: ["invitation", secret],
    queryFn: ({ signal }) => body(api.POST("/api/v1/invitations/look", { body: { secret }, signal })),
    staleTime: Number.POSITIVE_INFINITY,
    refetchInterval: false,
    retry: false,
  });

export const useAcceptInvitation = () =>
  useEntrance((order: Schemas["Acceptance"]) => body(api.POST("/api/v1/invitations/accept", { body: order })));

export const useChangePassword = () =>
  useAccessChange((order: Schemas["PasswordChange"]) => body(api.PUT("/api/v1/account/password", { body: order })));

export const useCreateUser = () =>
  useAccessChange((order: Schemas["UserIn"]) => body(api.POST("/api/v1/users", { body: order })));

export const useChangeUser = (id: string) =>
  useAccessChange((patch: Schemas["UserPatch"]) =>
    body(api.PATCH("/api/v1/users/{user_id}", { params: { path: { user_id: id } }, body: patch })),
  );

export const useResetUser = (id: string) =>
  useAccessChange(() => body(api.POST("/api/v1/users/{user_id}/reset", { params: { path: { user_id: id } } })));

export const useEndSession = (whose: Whose) =>
  useAccessChange((id: string) => {
    const params = { path: { session_id: id } };
    return whose === "all"
      ? body(api.DELETE("/api/v1/sessions/{session_id}", { params }))
      : body(api.DELETE("/api/v1/account/sessions/{session_id}", { params }));
  });

export const useCreateToken = (whose: Whose) =>
  useAccessChange((order: Schemas["TokenIn"]) =>
    whose === "all"
      ? body(api.POST("/api/v1/tokens", { body: order }))
      : body(api.POST("/api/v1/account/tokens", { body: order })),
  );

export const useRevokeToken = (whose: Whose) =>
  useAccessChange((id: string) => {
    const params = { path: { token_id: id } };
    return whose === "all"
      ? body(api.DELETE("/api/v1/tokens/{token_id}", { params }))
      : body(api.DELETE("/api/v1/account/tokens/{token_id}", { params }));
  });

export const useCreateEnrolmentToken = () =>
  useAccessChange((order: Schemas["EnrolmentTokenIn"]) => body(api.POST("/api/v1/enrolment-tokens", { body: order })));

export const useRevokeEnrolmentToken = () =>
  useAccessChange((id: string) =>
    body(api.DELETE("/api/v1/enrolment-tokens/{token_id}", { params: { path: { token_id: id } } })),
  );
