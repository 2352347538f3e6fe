import { PasswordInput } from "@mantine/core";
import { lengthOf, MIN_LENGTH, weakness } from "../lib/password";
import classes from "../pages/signin/Entry.module.css";

interface NewPasswordProps {
  label?: string;
  /** Of whose password it is: one built on the name is refused. */
  name: string;
  value: string;
  onChange: (value: string) => void;
  error: string | null;
}

/** A password that is being chosen. Says while one types how far it is; there is no second field, since it can be shown. */
export function NewPassword({ label = "Password", name, value, onChange, error }: NewPasswordProps) {
  const weak = weakness(value, name);
  const enough = weak === null;
  return (
    <div>
      <PasswordInput
        label={label}
        description="At least 15 characters. Four plain words with spaces do well; digits and signs are not needed."
        required
        withAsterisk={false}
        autoComplete="new-password"
        maxLength={256}
        value={value}
        onChange={(event) => onChange(event.currentTarget.value)}
        error={error}
        visibilityToggleButtonProps={{ "aria-label": "Show the password", tabIndex: 0 }}
      />
      <div className={classes.meter} data-enough={enough || undefined} aria-hidden="true">
        <span style={{ width: `${Math.min(100, (lengthOf(value) / MIN_LENGTH) * 100)}%` }} />
      </div>
      <p className={classes.hint} data-enough={enough || undefined} aria-live="polite">
        {value === "" || error ? "" : enough ? "Long enough. Longer is better." : weak}
      </p>
    </div>
  );
}
