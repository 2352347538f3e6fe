import { Button } from "@mantine/core";
import { type FormEvent, useState } from "react";
import { useAcceptInvitation, useInvitation } from "../../api/access";
import { fieldProblem, Problem } from "../../api/problem";
import { useSession } from "../../api/queries";
import { FormProblem } from "../../components/FormProblem";
import { NewPassword } from "../../components/NewPassword";
import { Failed, Loading } from "../../components/States";
import { When } from "../../components/When";
import { ROLE_HELP } from "../../lib/access";
import { weakness } from "../../lib/password";
import classes from "./Entry.module.css";
import { EntryFrame } from "./EntryFrame";

/** A link that an admin handed over: who is invited chooses the password that nobody else knows. */
export function InvitationPage({ secret, onLeave }: { secret: string; onLeave: () => void }) {
  const invitation = useInvitation(secret);
  const session = useSession();
  if (invitation.data)
    return (
      <EntryFrame
        title={`Welcome, ${invitation.data.name}`}
        note={
          <>
            You are invited as <strong>{invitation.data.role}</strong>. {ROLE_HELP[invitation.data.role]}
          </>
        }
        foot={
          <>
            <p>
              The link is good once and ends <When at={invitation.data.expires_at} />. Not you? Close this page and tell
              the admin who sent it.
            </p>
            {session.data && (
              <p>
                In this browser <strong>{session.data.name}</strong> is signed in. Accepting signs you in instead.
              </p>
            )}
          </>
        }
      >
        <Choose secret={secret} name={invitation.data.name} onDone={onLeave} />
      </EntryFrame>
    );
  if (invitation.error instanceof Problem && invitation.error.status === 401)
    return (
      <EntryFrame title="This link no longer works">
        <FormProblem error={invitation.error} />
        <Button variant="default" onClick={onLeave}>
          {session.data ? "Go to the fleet" : "Go to the sign-in"}
        </Button>
      </EntryFrame>
    );
  return (
    <EntryFrame {...(invitation.isError ? { title: "The link cannot be looked at now" } : {})}>
      {invitation.isError ? (
        <Failed error={invitation.error} retry={() => void invitation.refetch()} />
      ) : (
        <Loading height={180} />
      )}
    </EntryFrame>
  );
}

function Choose({ secret, name, onDone }: { secret: string; name: string; onDone: () => void }) {
  const accept = useAcceptInvitation();
  const [password, setPassword] = useState("");
  const [weak, setWeak] = useState<string | null>(null);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    const found = weakness(password, name);
    setWeak(found);
    if (found === null) accept.mutate({ secret, password }, { onSuccess: onDone });
  };
  return (
    <form className={classes.form} onSubmit={submit} noValidate>
      <FormProblem error={accept.error} fields={["password"]} />
      {/* Password managers keep the pair. */}
      <input type="text" name="username" autoComplete="username" value={name} readOnly hidden />
      <NewPassword
        label="Choose a password"
        name={name}
        value={password}
        onChange={(value) => {
          setPassword(value);
          setWeak(null);
        }}
        error={weak ?? fieldProblem(accept.error, "password")}
      />
      <Button type="submit" size="sm" fullWidth loading={accept.isPending} disabled={!password}>
        Accept and sign in
      </Button>
    </form>
  );
}
