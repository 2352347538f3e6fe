import { localStorageColorSchemeManager, MantineProvider } from "@mantine/core";
import { QueryClientProvider } from "@tanstack/react-query";
import { BrowserRouter } from "react-router";
import { LiveContext, live, queries } from "./live";
import { styleNonce } from "./nonce";
import { RouteFailed } from "./RouteFailed";
import { Pages } from "./routes";
import { cssVariables, theme } from "./theme";

const schemes = localStorageColorSchemeManager({ key: "trimtab-scheme" });

export function App() {
  return (
    <MantineProvider
      theme={theme}
      cssVariablesResolver={cssVariables}
      colorSchemeManager={schemes}
      defaultColorScheme="auto"
      getStyleNonce={() => styleNonce}
    >
      <QueryClientProvider client={queries}>
        <LiveContext value={live}>
          <BrowserRouter>
            <RouteFailed>
              <Pages />
            </RouteFailed>
          </BrowserRouter>
        </LiveContext>
      </QueryClientProvider>
    </MantineProvider>
  );
}
