import { isBeside, Problem } from "../api/problem";
import classes from "./FormProblem.module.css";
import { WarnIcon } from "./icons";

interface FormProblemProps {
  error: Error | null;
  /** Fields of the form, which show what is said of them themselves. */
  fields?: readonly string[];
}

/** What the API has against a form as a whole, in its own words. The form keeps what was typed. */
export function FormProblem({ error, fields = [] }: FormProblemProps) {
  return (
    <div role="alert" className={classes.slot}>
      {error && isBeside(error, fields) && (
        <p className={classes.problem}>
          <WarnIcon size={15} />
          <span>
            <strong>{error.message}</strong>
            {error instanceof Problem && error.detail && <span className={classes.detail}>{error.detail}</span>}
          </span>
        </p>
      )}
    </div>
  );
}
