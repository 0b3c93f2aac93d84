// A page of the server's own origin in a real browser. Arguments of every program: the server's URL, the browser's program.

import { chromium } from "playwright-core"

// On a crowded machine everything takes longer; nothing here depends on how long.
const PATIENCE_MS = 120_000

export const [url, executablePath] = process.argv.slice(2)

export const withPage = async (run) => {
  // As root, which containers are, Chromium does not start with its sandbox.
  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"], timeout: PATIENCE_MS })
  try {
    const page = await browser.newPage({ ignoreHTTPSErrors: true })
    page.setDefaultTimeout(PATIENCE_MS)
    await page.goto(`${url}/healthz`)
    await run(page, browser)
  } finally {
    await browser.close()
  }
  console.log("all seen")
}
