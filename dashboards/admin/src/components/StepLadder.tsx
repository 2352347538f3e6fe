import type { RolloutStep } from "../api/types";
import { words } from "../lib/format";
import classes from "./StepLadder.module.css";
import { stepLook } from "./tones";

/** The steps of a rollout as a ladder; the current one is marked for eyes and readers. */
export function StepLadder({ steps, compact = false }: { steps: RolloutStep[]; compact?: boolean }) {
  return (
    <ol className={classes.ladder} data-compact={compact || undefined}>
      {steps.map((step) => {
        const look = stepLook(step.state);
        const Icon = look.icon;
        return (
          <li
            key={step.index}
            className={classes.step}
            data-tone={look.tone}
            aria-current={look.tone === "accent" ? "step" : undefined}
          >
            <span className={classes.dot}>
              <Icon size={12} strokeWidth={2.6} />
            </span>
            <span className={classes.name}>
              {words(step.name)}
              {step.nodes > 0 && (
                <span className={classes.count}> · {step.nodes === 1 ? "1 node" : `${step.nodes} nodes`}</span>
              )}
            </span>
            <span className={compact ? "visually-hidden" : classes.state}>{look.text}</span>
          </li>
        );
      })}
    </ol>
  );
}
