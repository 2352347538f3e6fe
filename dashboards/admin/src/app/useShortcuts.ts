import { useMantineColorScheme } from "@mantine/core";
import { spotlight } from "@mantine/spotlight";
import { useEffect, useRef } from "react";
import { useNavigate } from "react-router";
import { PLACES } from "./places";

/** `g` waits this long for the key that names the place. */
const CHORD_MS = 1_200;

function isTyping(target: EventTarget | null): boolean {
  return (
    target instanceof HTMLElement &&
    (target.isContentEditable || target.matches("input, textarea, select, [role=textbox], [role=combobox]"))
  );
}

/** Keys that work everywhere but in a field: g then a letter goes to a place, / searches, t changes the scheme, ? helps. */
export function useShortcuts(showHelp: () => void): void {
  const navigate = useNavigate();
  const { toggleColorScheme } = useMantineColorScheme();
  const chordUntil = useRef(0);

  useEffect(() => {
    const pressed = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || isTyping(event.target)) return;
      if (document.querySelector("[role=dialog]")) return;
      const inChord = Date.now() < chordUntil.current;
      chordUntil.current = 0;
      const place = inChord ? PLACES.find((candidate) => candidate.key === event.key) : undefined;
      if (place) void navigate(place.to);
      else if (event.key === "g") chordUntil.current = Date.now() + CHORD_MS;
      else if (event.key === "/") spotlight.open();
      else if (event.key === "?") showHelp();
      else if (event.key === "t") toggleColorScheme();
      else return;
      event.preventDefault();
    };
    window.addEventListener("keydown", pressed);
    return () => window.removeEventListener("keydown", pressed);
  }, [navigate, showHelp, toggleColorScheme]);
}
