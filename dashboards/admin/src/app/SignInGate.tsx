import { type ReactNode, useEffect, useState } from "react";
import { useSignIn } from "../api/mutations";
import { useSession } from "../api/queries";
import { Failed, Loading } from "../components/States";
import { SignInPage } from "../pages/signin/SignInPage";

/** Takes the token out of `/#token=…` and out of the address at once, so that it stays in no history or shared link. */
function takeToken(): string | null {
  const token = new URLSearchParams(window.location.hash.slice(1)).get("token");
  if (token) window.history.replaceState(window.history.state, "", window.location.pathname + window.location.search);
  return token;
}

// Read once when the page loads, before the router sees the address.
const tokenOfLink = takeToken();
let linkUsed = false;

/** Shows the app to who is signed in, and the sign-in page to who is not. */
export function SignInGate({ children }: { children: ReactNode }) {
  const [followsLink, setFollowsLink] = useState(tokenOfLink !== null && !linkUsed);
  const session = useSession(!followsLink);
  const signIn = useSignIn();

  const { mutate } = signIn;
  useEffect(() => {
    if (tokenOfLink === null || linkUsed) return;
    linkUsed = true;
    mutate(tokenOfLink, { onSettled: () => setFollowsLink(false) });
  }, [mutate]);

  if (followsLink || session.isPending)
    return (
      <Centred>
        <Loading height={220} />
      </Centred>
    );
  if (session.data) return children;
  if (session.isError)
    return (
      <Centred>
        <Failed error={session.error} retry={() => void session.refetch()} />
      </Centred>
    );
  return <SignInPage signIn={signIn} />;
}

function Centred({ children }: { children: ReactNode }) {
  return <main style={{ maxWidth: 460, margin: "18vh auto 0", padding: 16 }}>{children}</main>;
}
