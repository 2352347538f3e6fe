import { type ReactNode, useId } from "react";
import { nearest } from "../lib/whatIf";
import { DecimalInput } from "./DecimalInput";
import classes from "./SlideField.module.css";

interface SlideFieldProps {
  name: string;
  label: ReactNode;
  /** As typed: what is no number stays as it is. */
  value: string;
  steps: readonly number[];
  unit: string;
  error: string | null;
  whole?: boolean;
  onChange: (value: string) => void;
}

/** A number by hand or by slider. The slider stops where it makes sense to; the field takes everything. */
export function SlideField({ name, label, value, steps, unit, error, whole = false, onChange }: SlideFieldProps) {
  const id = useId();
  const known = Number(value);
  const place = value.trim() !== "" && Number.isFinite(known) ? nearest(steps, known) : 0;
  return (
    <div className={classes.field}>
      <label htmlFor={id} className={classes.label}>
        {label}
      </label>
      <input
        type="range"
        className={classes.slider}
        min={0}
        max={steps.length - 1}
        step={1}
        value={place}
        aria-label={`${name}, slider`}
        aria-valuetext={`${value} ${unit}`}
        onChange={(event) => onChange(String(steps[event.currentTarget.valueAsNumber] ?? ""))}
      />
      <DecimalInput
        id={id}
        name={name}
        size="xs"
        className={classes.number ?? ""}
        value={asTyped(value)}
        allowDecimal={!whole}
        error={error}
        rightSection={<span className={classes.unit}>{unit}</span>}
        rightSectionWidth={unit.length > 3 ? 72 : 30}
        onChange={(next) => onChange(String(next))}
      />
    </div>
  );
}

function asTyped(value: string): number | string {
  const number = Number(value);
  return value.trim() !== "" && Number.isFinite(number) ? number : value;
}
