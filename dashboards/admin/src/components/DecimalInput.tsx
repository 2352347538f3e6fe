import { NumberInput, type NumberInputProps } from "@mantine/core";
import { useState } from "react";

interface DecimalInputProps extends Omit<NumberInputProps, "value" | "onChange"> {
  /** What is no number, such as "" or "-", is shown as it was typed. */
  value: unknown;
  onChange: (value: number | string) => void;
}

/** A number as it is typed: "0.0" on the way to "0.02" is a nought, and stays on the screen as it is. */
export function DecimalInput({ value, onChange, ...rest }: DecimalInputProps) {
  const [typed, setTyped] = useState<number | string>("");
  const said = typeof value === "number" || typeof value === "string" ? value : "";
  return (
    <NumberInput
      {...rest}
      clampBehavior="none"
      value={meaning(typed) === said ? typed : said}
      onChange={(next) => {
        setTyped(next);
        onChange(meaning(next));
      }}
    />
  );
}

function meaning(typed: number | string): number | string {
  if (typeof typed === "number" || typed.trim() === "") return typed;
  const number = Number(typed);
  return Number.isFinite(number) ? number : typed;
}
