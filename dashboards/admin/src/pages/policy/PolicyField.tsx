import { NativeSelect, Switch, Textarea, TextInput } from "@mantine/core";
import { useState } from "react";
import { fieldProblem } from "../../api/problem";
import { DecimalInput } from "../../components/DecimalInput";
import { type Field, fieldTrouble, type Json, jsonText, unitOf, valueAt } from "../../lib/policy";
import classes from "./Policy.module.css";
import type { Draft } from "./usePolicyDraft";

interface PolicyFieldProps {
  field: Field;
  draft: Draft;
  error: Error | null;
}

/** The field that fits a value. What the API said of it stays until it is changed. */
export function PolicyField({ field, draft, error }: PolicyFieldProps) {
  const value = valueAt(draft.document, field.path);
  const changed = draft.changes.some(({ path }) => path === field.path || path.startsWith(`${field.path}.`));
  const trouble = fieldTrouble(field, value) ?? (changed ? fieldProblem(error, field.path) : null);
  const set = (next: Json) => draft.set(field.path, next);
  const common = {
    size: "xs",
    label: <Label field={field} changed={changed} />,
    description: helpOf(field),
    error: trouble,
    name: field.path,
  } as const;
  switch (field.kind) {
    case "number":
    case "integer":
      return (
        <DecimalInput
          {...common}
          value={value}
          allowDecimal={field.kind === "number"}
          rightSection={unitOf(field.path) ? <span className={classes.unit}>{unitOf(field.path)}</span> : null}
          rightSectionWidth={unitOf(field.path) === "an hour" ? 56 : 36}
          onChange={set}
        />
      );
    case "choice":
      return (
        <NativeSelect
          {...common}
          value={typeof value === "string" ? value : ""}
          data={field.choices}
          onChange={(event) => set(event.currentTarget.value)}
        />
      );
    case "switch":
      return (
        <Switch
          label={common.label}
          description={common.description}
          checked={value === true}
          onChange={(event) => set(event.currentTarget.checked)}
        />
      );
    case "text":
      return (
        <TextInput
          {...common}
          value={typeof value === "string" ? value : ""}
          onChange={(event) => set(event.currentTarget.value)}
        />
      );
    default:
      return <JsonField {...common} value={value} onChange={set} />;
  }
}

function Label({ field, changed }: { field: Field; changed: boolean }) {
  return (
    <>
      <span className={field.path.startsWith("autonomy.") ? "mono" : undefined}>{field.label}</span>
      {changed && <span className={classes.changed}> changed</span>}
    </>
  );
}

function helpOf(field: Field): string {
  const usual = typeof field.usual === "number" || typeof field.usual === "string" ? `Default ${field.usual}.` : "";
  if (!field.help) return usual;
  return `${field.help.charAt(0).toUpperCase()}${field.help.slice(1)}. ${usual}`;
}

interface JsonFieldProps {
  label: React.ReactNode;
  description: string;
  error: string | null;
  name: string;
  value: Json | undefined;
  onChange: (value: Json) => void;
}

/** A list or a part that may be absent, as JSON. What cannot be read yet is kept as typed and said to be so. */
function JsonField({ value, onChange, error, ...rest }: JsonFieldProps) {
  const [typed, setTyped] = useState<string | null>(null);
  const [unreadable, setUnreadable] = useState(false);
  const change = (text: string) => {
    setTyped(text);
    try {
      onChange(JSON.parse(text) as Json);
      setUnreadable(false);
    } catch {
      setUnreadable(true);
    }
  };
  return (
    <Textarea
      {...rest}
      size="xs"
      className={classes.wide}
      classNames={{ input: "mono" }}
      autosize
      minRows={1}
      maxRows={12}
      spellCheck={false}
      value={unreadable && typed !== null ? typed : jsonText(value)}
      error={unreadable ? "this is no JSON yet: it is not part of your changes" : error}
      onChange={(event) => change(event.currentTarget.value)}
    />
  );
}
