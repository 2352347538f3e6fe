import { TextInput, type TextInputProps } from "@mantine/core";
import { type KeyboardEvent, useState } from "react";

interface DecimalInputProps extends Omit<TextInputProps, "value" | "onChange"> {
  /** What is no number, such as "" or "-", is shown as it was typed. */
  value: unknown;
  onChange: (value: number | string) => void;
  allowDecimal?: boolean;
  /** By how much the arrow keys move it. */
  step?: number;
}

/** A number as it is typed: "0.0" on the way to "0.02" is a nought, and what is none stays for its message to point at. */
export function DecimalInput({ value, onChange, allowDecimal = true, step = 1, ...rest }: DecimalInputProps) {
  const [typed, setTyped] = useState("");
  const said = typeof value === "number" || typeof value === "string" ? value : "";
  const change = (text: string) => {
    setTyped(text);
    onChange(meaning(text));
  };
  const move = (event: KeyboardEvent) => {
    const way = { ArrowUp: 1, ArrowDown: -1 }[event.key];
    const from = Number(said);
    if (way === undefined || !Number.isFinite(from)) return;
    event.preventDefault();
    change(String(Number((from + way * step).toPrecision(12))));
  };
  return (
    <TextInput
      {...rest}
      inputMode={allowDecimal ? "decimal" : "numeric"}
      autoComplete="off"
      value={meaning(typed) === said ? typed : String(said)}
      onChange={(event) => change(event.currentTarget.value)}
      onKeyDown={move}
    />
  );
}

function meaning(typed: string): number | string {
  if (typed.trim() === "") return typed;
  const number = Number(typed);
  return Number.isFinite(number) ? number : typed;
}
