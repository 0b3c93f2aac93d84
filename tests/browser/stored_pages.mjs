// Streams of types that a browser runs: whoever may write one must not act in the name of the server's origin.

import assert from "node:assert/strict"
import { url, withPage } from "./launch.mjs"

const attack = `document.documentElement.setAttribute("data-ran", "yes"); fetch("/v1/stream/stolen", { method: "PUT" })`
const stored = {
  "text/html": `<!doctype html><html><body>stored<script>${attack}</script><img src="x" onerror='${attack}'></body></html>`,
  "image/svg+xml": `<svg xmlns="http://www.w3.org/2000/svg" onload='${attack}'><script>${attack}</script></svg>`,
}

await withPage(async (page) => {
  for (const [type, body] of Object.entries(stored)) {
    const stream = `${url}/v1/stream/${type.replace("/", "-")}`
    await fetch(stream, { method: "PUT", headers: { "Content-Type": type }, body })
    for (const query of ["", "?offset=-1", "?offset=-1&live=long-poll"]) {
      const response = await page.goto(stream + query)
      assert.equal(response.headers()["content-type"], type)
      await page.waitForLoadState("load")
      // The document is shown, and none of its scripts has run; evaluating works in spite of the policy.
      assert.equal(await page.evaluate(() => document.documentElement.getAttribute("data-ran")), null, type)
      assert.equal(await page.evaluate(() => self.origin), "null", "the document is in no origin")
    }
  }
  assert.equal((await fetch(`${url}/v1/stream/stolen`, { method: "HEAD" })).status, 404)
})
