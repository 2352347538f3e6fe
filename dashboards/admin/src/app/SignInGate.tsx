import { type ReactNode, useEffect } from "react";
import { useSignIn } from "../api/access";
import { useSession } from "../api/queries";
import { Failed, Loading } from "../components/States";
import type { EntryLink } from "../lib/entryLink";
import { EntryFrame } from "../pages/signin/EntryFrame";
import { InvitationPage } from "../pages/signin/InvitationPage";
import { SetUpPage } from "../pages/signin/SetUpPage";
import { SignInPage } from "../pages/signin/SignInPage";
import { leaveLink, putOffSetUp, useEntryLink, useSetUpPutOff } from "./entry";

// A token's link is followed once, also where React mounts twice.
let tried: EntryLink | null = null;

/** Shows the app to who is signed in; to others the page that lets them in: an invitation, the set-up, or the sign-in. */
export function SignInGate({ children }: { children: ReactNode }) {
  const link = useEntryLink();
  const byToken = link?.kind === "token" ? link : null;
  const session = useSession(byToken === null);
  const signIn = useSignIn();
  const putOff = useSetUpPutOff(session.data?.session_id);

  const { mutate } = signIn;
  useEffect(() => {
    if (byToken === null || tried === byToken) return;
    tried = byToken;
    mutate({ token: byToken.secret }, { onSettled: leaveLink });
  }, [byToken, mutate]);

  if (link?.kind === "invitation") return <InvitationPage key={link.secret} secret={link.secret} onLeave={leaveLink} />;
  if (byToken !== null || session.isPending)
    return (
      <EntryFrame>
        <Loading height={180} />
      </EntryFrame>
    );
  if (session.data?.set_up_due && !putOff)
    return <SetUpPage onLater={() => putOffSetUp(session.data?.session_id ?? null)} />;
  if (session.data) return children;
  if (session.isError)
    return (
      <EntryFrame title="Trimtab cannot be opened">
        <Failed error={session.error} retry={() => void session.refetch()} />
      </EntryFrame>
    );
  return <SignInPage signIn={signIn} />;
}
