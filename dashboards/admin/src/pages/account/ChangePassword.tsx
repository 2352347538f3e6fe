import { Button, PasswordInput } from "@mantine/core";
import { type FormEvent, useState } from "react";
import { useChangePassword } from "../../api/access";
import { fieldProblem } from "../../api/problem";
import { FormProblem } from "../../components/FormProblem";
import { NewPassword } from "../../components/NewPassword";
import { Panel } from "../../components/Panel";
import { weakness } from "../../lib/password";
import classes from "./Account.module.css";

/** Another password for oneself. Whoever had the old one may be in a session, so the others end. */
export function ChangePassword({ name }: { name: string }) {
  const change = useChangePassword();
  const [present, setPresent] = useState("");
  const [password, setPassword] = useState("");
  const [weak, setWeak] = useState<string | null>(null);
  const typed = () => {
    setWeak(null);
    if (change.isSuccess) change.reset();
  };
  const submit = (event: FormEvent) => {
    event.preventDefault();
    const found = weakness(password, name);
    setWeak(found);
    if (found !== null) return;
    const emptied = () => {
      setPresent("");
      setPassword("");
    };
    change.mutate({ present, password }, { onSuccess: emptied });
  };
  return (
    <Panel title="Change your password">
      <form className={classes.form} onSubmit={submit} noValidate>
        <FormProblem error={change.error} fields={["present", "password"]} />
        <input type="text" name="username" autoComplete="username" value={name} readOnly hidden />
        <PasswordInput
          label="Present password"
          autoComplete="current-password"
          value={present}
          onChange={(event) => {
            setPresent(event.currentTarget.value);
            typed();
          }}
          error={fieldProblem(change.error, "present")}
          visibilityToggleButtonProps={{ "aria-label": "Show the present password", tabIndex: 0 }}
        />
        <NewPassword
          label="New password"
          name={name}
          value={password}
          onChange={(value) => {
            setPassword(value);
            typed();
          }}
          error={weak ?? fieldProblem(change.error, "password")}
        />
        <div className="row">
          <Button type="submit" loading={change.isPending} disabled={!present || !password}>
            Change password
          </Button>
          <span className="small muted" role="status">
            {change.isSuccess ? "Changed. Your other sessions have ended." : "Ends your other sessions; tokens stay."}
          </span>
        </div>
      </form>
    </Panel>
  );
}
