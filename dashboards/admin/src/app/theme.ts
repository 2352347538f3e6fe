import {
  type CSSVariablesResolver,
  createTheme,
  defaultVariantColorsResolver,
  type MantineColorsTuple,
  type VariantColorsResolver,
} from "@mantine/core";

/** Sea green, light to dark; 7 carries white text at 5.6:1. */
const tide: MantineColorsTuple = [
  "#e3f7f3",
  "#c6ece4",
  "#96dccd",
  "#62cbb5",
  "#3dd6b5",
  "#1fa48f",
  "#0e8a78",
  "#0a7568",
  "#095d53",
  "#07463f",
];

/** Greys of the dark scheme with the hue of the tokens: text first, deepest last. */
const dark: MantineColorsTuple = [
  "#e4edf1",
  "#c3d1d8",
  "#9aafba",
  "#6b808c",
  "#3a4c57",
  "#223039",
  "#18232b",
  "#10181f",
  "#0c1319",
  "#0a1015",
];

/** Filled controls take their colours from the tokens, which hold their contrast in both schemes. */
const variants: VariantColorsResolver = (input) => {
  const usual = defaultVariantColorsResolver(input);
  if (input.variant !== "filled") return usual;
  const severe = input.color === "red";
  const background = severe ? "var(--bad)" : "var(--accent)";
  return {
    ...usual,
    background,
    hover: `color-mix(in srgb, ${background} 88%, var(--text))`,
    color: severe ? "var(--surface)" : "var(--on-accent)",
  };
};

export const theme = createTheme({
  colors: { tide, dark },
  primaryColor: "tide",
  primaryShade: { light: 7, dark: 4 },
  variantColorResolver: variants,
  fontFamily: 'Geist, ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, sans-serif',
  fontFamilyMonospace: "var(--mono)",
  headings: { fontFamily: "inherit", fontWeight: "600" },
  defaultRadius: 6,
  cursorType: "pointer",
  respectReducedMotion: true,
  fontSizes: { xs: "12px", sm: "13px", md: "14px", lg: "16px", xl: "19px" },
  components: {
    Button: { defaultProps: { size: "xs" } },
    Modal: { defaultProps: { centered: true, overlayProps: { backgroundOpacity: 0.5, blur: 2 } } },
    Tooltip: { defaultProps: { openDelay: 250, withArrow: true, multiline: true } },
    ActionIcon: { defaultProps: { variant: "subtle", color: "gray" } },
  },
});

/** Mantine's own surfaces follow the tokens of `styles/tokens.css`, which already differ by scheme. */
export const cssVariables: CSSVariablesResolver = () => {
  const shared = {
    "--mantine-color-body": "var(--surface)",
    "--mantine-color-text": "var(--text)",
    "--mantine-color-dimmed": "var(--muted)",
    "--mantine-color-placeholder": "var(--muted)",
    "--mantine-color-default": "var(--surface)",
    "--mantine-color-default-hover": "var(--raised)",
    "--mantine-color-default-border": "var(--line-strong)",
    "--mantine-color-anchor": "var(--accent)",
    "--mantine-color-error": "var(--bad)",
    "--mantine-color-gray-light-color": "var(--text)",
  };
  return { variables: {}, light: shared, dark: shared };
};
