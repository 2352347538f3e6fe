import { useSession } from "../api/queries";
import { includes, type Role, roleIn } from "../lib/access";

/** Whether who is signed in has a role in a pool, so that a page offers what they may do; the API checks again. */
function useHasRole(role: Role, poolId: string): boolean {
  const session = useSession();
  return session.data ? includes(roleIn(session.data, poolId), role) : false;
}

/** Whether they may look into the process of one of the pool's nodes. */
export const useIsAdmin = (poolId: string): boolean => useHasRole("admin", poolId);

function useHasRoleEverywhere(role: Role): boolean {
  const session = useSession();
  return session.data ? includes(session.data.role, role) : false;
}

/** Whether they are an admin of the installation. */
export const useIsAdminEverywhere = (): boolean => useHasRoleEverywhere("admin");

/** Whether they are an operator of the installation. */
export const useMayOperateEverywhere = (): boolean => useHasRoleEverywhere("operator");

/** Whether they may change the pool. */
export const useMayOperate = (poolId: string): boolean => useHasRole("operator", poolId);
