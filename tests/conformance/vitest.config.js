import { defineConfig } from "vitest/config"

export default defineConfig({
  cacheDir: process.env.CONFORMANCE_CACHE_DIR,
  test: {
    include: ["conformance/*.test.js"],
    // Room for a loaded machine: no test of the suite is meant to take even half of it.
    testTimeout: 120_000,
    hookTimeout: 120_000,
    retry: 0,
  },
})
