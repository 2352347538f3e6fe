import { Button, PasswordInput, TextInput } from "@mantine/core";
import { type FormEvent, useState } from "react";
import { type useSignIn, useSignInWays } from "../../api/access";
import { FormProblem } from "../../components/FormProblem";
import { Failed, Loading } from "../../components/States";
import { signInOutcome } from "../../lib/signInOutcome";
import classes from "./Entry.module.css";
import { EntryFrame } from "./EntryFrame";

type SignIn = ReturnType<typeof useSignIn>;
type Way = "password" | "token";

/** By name and password where there are users, and always by a token. */
export function SignInPage({ signIn }: { signIn: SignIn }) {
  const ways = useSignInWays();
  const [asked, setAsked] = useState<Way | null>(signIn.error ? "token" : null);
  const [outcome] = useState(() => signInOutcome(window.location.hash));
  if (ways.data === undefined)
    return (
      <EntryFrame {...(ways.isError ? { title: "Trimtab cannot be opened" } : {})}>
        {ways.isError ? <Failed error={ways.error} retry={() => void ways.refetch()} /> : <Loading height={180} />}
      </EntryFrame>
    );
  const way = asked ?? (ways.data.password ? "password" : "token");
  const turn = (to: Way) => {
    signIn.reset();
    setAsked(to);
  };
  return (
    <EntryFrame title="Sign in" foot={<Help users={ways.data.password} />}>
      {outcome && (
        <p role="alert" className={classes.note}>
          {outcome}
        </p>
      )}
      {ways.data.oidc && <AtProvider way={ways.data.oidc} />}
      {way === "password" ? <ByPassword signIn={signIn} /> : <ByToken signIn={signIn} users={ways.data.password} />}
      {ways.data.password && (
        <button
          type="button"
          className={classes.switch}
          onClick={() => turn(way === "password" ? "token" : "password")}
        >
          {way === "password" ? "Use an API token instead" : "Use name and password instead"}
        </button>
      )}
    </EntryFrame>
  );
}

/** A link, not a script: the browser goes to the provider and comes back to the page that was asked for. */
function AtProvider({ way }: { way: { name: string; url: string } }) {
  const then = window.location.pathname + window.location.search;
  return (
    <Button component="a" href={`${way.url}?then=${encodeURIComponent(then)}`} variant="default" size="sm" fullWidth>
      Sign in with {way.name}
    </Button>
  );
}

function ByPassword({ signIn }: { signIn: SignIn }) {
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  const submit = (event: FormEvent) => {
    event.preventDefault();
    signIn.mutate({ name: name.trim(), password });
  };
  return (
    <form className={classes.form} onSubmit={submit}>
      <FormProblem error={signIn.error} />
      <TextInput
        label="Name"
        autoComplete="username"
        autoCapitalize="none"
        spellCheck={false}
        autoFocus
        value={name}
        onChange={(event) => setName(event.currentTarget.value)}
      />
      <PasswordInput
        label="Password"
        autoComplete="current-password"
        value={password}
        onChange={(event) => setPassword(event.currentTarget.value)}
        visibilityToggleButtonProps={{ "aria-label": "Show the password", tabIndex: 0 }}
      />
      <Button type="submit" size="sm" fullWidth loading={signIn.isPending} disabled={!name.trim() || !password}>
        Sign in
      </Button>
    </form>
  );
}

function ByToken({ signIn, users }: { signIn: SignIn; users: boolean }) {
  const [token, setToken] = useState("");
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (token.trim()) signIn.mutate({ token: token.trim() });
  };
  return (
    <form className={classes.form} onSubmit={submit}>
      <FormProblem error={signIn.error} />
      {!users && (
        <p className="small muted">
          Nobody has a password here yet. Open the link that <span className="mono">trimtab up</span> printed: it leads
          to the set-up of the first admin.
        </p>
      )}
      <PasswordInput
        label="API token"
        placeholder="tt_…"
        autoComplete="off"
        autoFocus
        value={token}
        onChange={(event) => setToken(event.currentTarget.value)}
        visibilityToggleButtonProps={{ "aria-label": "Show the token", tabIndex: 0 }}
      />
      <Button type="submit" size="sm" fullWidth loading={signIn.isPending} disabled={!token.trim()}>
        Sign in
      </Button>
    </form>
  );
}

function Help({ users }: { users: boolean }) {
  return users ? (
    <p>Password lost, or none yet? An admin gives you a link on the access page, with which you choose one.</p>
  ) : (
    <p>
      Started without <span className="mono">trimtab up</span>? The token is what{" "}
      <span className="mono">CONTROLPLANE_ADMIN_TOKEN</span> was set to.
    </p>
  );
}
