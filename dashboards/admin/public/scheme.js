// Sets the colour scheme before the first paint, so that a dark page never flashes white. Outside the bundle: it must block.
(() => {
  let stored = null;
  try {
    stored = localStorage.getItem("trimtab-scheme");
  } catch {
    // Storage may be switched off; then the system's choice holds.
  }
  const dark = stored === "dark" || (stored !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.setAttribute("data-mantine-color-scheme", dark ? "dark" : "light");
})();
