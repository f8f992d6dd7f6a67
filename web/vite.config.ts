import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

// `npm run dev` serves the page with hot reload and passes calls on to a control plane (or to `npm run mock`).
const controlPlane = process.env["CONTROL_PLANE_URL"] ?? "http://127.0.0.1:8787";

export default defineConfig({
  plugins: [react()],
  build: {
    outDir: "dist",
    emptyOutDir: true,
    // The page's policy allows no data: fonts or scripts, so nothing is inlined.
    assetsInlineLimit: 0,
    target: ["chrome123", "firefox121", "safari17.5"],
    modulePreload: { polyfill: false },
    reportCompressedSize: true,
  },
  server: {
    proxy: {
      "/api": { target: controlPlane, headers: { origin: controlPlane } },
      "/sessions": { target: controlPlane, ws: true, headers: { origin: controlPlane } },
    },
  },
  test: {
    environment: "node",
    include: ["src/**/*.test.ts"],
  },
});
