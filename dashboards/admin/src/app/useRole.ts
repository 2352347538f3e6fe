import { useSession } from "../api/queries";

/** Whether who is signed in may look into a node's process; the API checks again. */
export function useIsAdmin(): boolean {
  return useSession().data?.role === "admin";
}

/** Whether who is signed in may change things; the API checks again. */
export function useMayOperate(): boolean {
  const session = useSession();
  return session.data?.role === "operator" || session.data?.role === "admin";
}
