import { Button, TextInput } from "@mantine/core";
import { type FormEvent, useState } from "react";
import { useSetUp } from "../../api/access";
import { fieldProblem } from "../../api/problem";
import { FormProblem } from "../../components/FormProblem";
import { NewPassword } from "../../components/NewPassword";
import { weakness } from "../../lib/password";
import classes from "./Entry.module.css";
import { EntryFrame } from "./EntryFrame";

const FIELDS = ["name", "password"];

/** The first admin. Whoever holds the installation's token is here, and no user exists yet. */
export function SetUpPage({ onLater }: { onLater: () => void }) {
  const setUp = useSetUp();
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  const [weak, setWeak] = useState<string | null>(null);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    const found = weakness(password, name);
    setWeak(found);
    if (found === null) setUp.mutate({ name: name.trim(), password });
  };
  return (
    <EntryFrame
      title="Set up the first admin"
      note="You came by this installation's own link. From now on the history can say who did what."
      foot={
        <>
          <p>
            The link stays valid. It is the way back in if all passwords are lost, so keep it as you would a key. The
            command line uses the same token.
          </p>
          <p>Others join by an invitation, which you make on the access page.</p>
        </>
      }
    >
      <form className={classes.form} onSubmit={submit} noValidate>
        <FormProblem error={setUp.error} fields={FIELDS} />
        <TextInput
          label="Your name"
          description="Stands in the history. Lower case; an e-mail address will do."
          autoComplete="username"
          autoCapitalize="none"
          spellCheck={false}
          autoFocus
          value={name}
          onChange={(event) => setName(event.currentTarget.value)}
          error={fieldProblem(setUp.error, "name")}
        />
        <NewPassword
          name={name}
          value={password}
          onChange={(value) => {
            setPassword(value);
            setWeak(null);
          }}
          error={weak ?? fieldProblem(setUp.error, "password")}
        />
        <Button type="submit" size="sm" fullWidth loading={setUp.isPending} disabled={!name.trim() || !password}>
          Create the admin
        </Button>
      </form>
      <button type="button" className={classes.switch} onClick={onLater}>
        Skip for now
      </button>
    </EntryFrame>
  );
}
