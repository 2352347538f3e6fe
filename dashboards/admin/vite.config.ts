import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

// The API that `npm run dev` talks to; the built app is served by the API itself.
const api = process.env.TRIMTAB_URL ?? "http://127.0.0.1:8700";

export default defineConfig({
  plugins: [react()],
  build: {
    target: "es2023",
    assetsInlineLimit: 0, // the content policy allows no data: scripts, and fonts and images are cached better as files
    sourcemap: false,
    manifest: "manifest.json", // hatch_build.py weighs the pages by it, and takes it away
    chunkSizeWarningLimit: 700,
    // Parts that several pages share go into one file: fifty of them, a kilobyte each, pack worse and are fetched one by one.
    // Charts keep a file of their own, as only some pages draw.
    rolldownOptions: {
      output: {
        codeSplitting: {
          groups: [
            {
              name: "shared",
              test: /src\/(components|lib|api)\/(?!charts)|@mantine|floating-ui|react-remove-scroll/,
              minShareCount: 2,
            },
          ],
        },
      },
    },
  },
  server: { host: "127.0.0.1", port: 5173, proxy: { "/api": api } },
  test: { environment: "node", include: ["src/**/*.test.ts"] },
});
