import { NativeSelect, Switch } from "@mantine/core";
import type { Knob, KnobValue } from "../../api/types";
import { DecimalInput } from "../../components/DecimalInput";
import { knobProblem, knobText } from "../../lib/settings";

interface KnobFieldProps {
  knob: Knob;
  value: KnobValue;
  /** What the API has against it. */
  said: string | null;
  onChange: (value: KnobValue) => void;
}

/** The field that fits a knob, made from what the contract says of it. */
export function KnobField({ knob, value, said, onChange }: KnobFieldProps) {
  const label = <span className="mono">{knob.name}</span>;
  switch (knob.kind) {
    case "bool":
      return (
        <Switch
          label={label}
          description={knob.help}
          checked={value === true}
          error={said}
          onChange={(event) => onChange(event.currentTarget.checked)}
        />
      );
    case "choice":
      return (
        <NativeSelect
          size="xs"
          label={label}
          description={knob.help}
          value={String(value)}
          data={knob.choices}
          error={said}
          onChange={(event) => onChange(event.currentTarget.value)}
        />
      );
    default:
      return (
        <DecimalInput
          size="xs"
          label={label}
          description={`${knob.help} ${bounds(knob)}`}
          value={value}
          allowDecimal={knob.kind === "float"}
          step={knob.kind === "float" ? 0.1 : 1}
          error={knobProblem(knob, value) ?? said}
          onChange={(next) => onChange(next)}
        />
      );
  }
}

function bounds(knob: Knob): string {
  if (knob.minimum === null || knob.maximum === null) return "";
  return `${knobText(knob.minimum)} to ${knobText(knob.maximum)}${knob.unit && knob.unit !== "ratio" ? ` ${knob.unit}` : ""}.`;
}
