import { Button, PasswordInput } from "@mantine/core";
import { type FormEvent, useState } from "react";
import type { useSignIn } from "../../api/mutations";
import { Problem } from "../../api/problem";
import { useTitle } from "../../app/useTitle";
import { Logo } from "../../components/Logo";
import classes from "./SignInPage.module.css";

function messageOf(error: Error | null): string | null {
  if (!error) return null;
  if (error instanceof Problem && error.status === 401)
    return "This token is not valid here. It may have been revoked.";
  return error instanceof Problem && error.detail ? `${error.message}: ${error.detail}` : error.message;
}

export function SignInPage({ signIn }: { signIn: ReturnType<typeof useSignIn> }) {
  useTitle("Sign in");
  const [token, setToken] = useState("");
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (token.trim()) signIn.mutate(token.trim());
  };
  return (
    <main className={classes.page}>
      <form className={classes.card} onSubmit={submit}>
        <div className={classes.brand}>
          <Logo size={34} />
          <span>Trimtab</span>
        </div>
        <h1 className={classes.title}>Sign in</h1>
        <p className="muted">
          Open the link that <span className="mono">trimtab up</span> printed, or paste an API token.
        </p>
        <PasswordInput
          label="API token"
          placeholder="tt_…"
          autoComplete="current-password"
          autoFocus
          value={token}
          onChange={(event) => setToken(event.currentTarget.value)}
          error={messageOf(signIn.error)}
          visibilityToggleButtonProps={{ "aria-label": "Show the token" }}
        />
        <Button type="submit" size="sm" fullWidth loading={signIn.isPending} disabled={!token.trim()}>
          Sign in
        </Button>
      </form>
    </main>
  );
}
