// The page that the README shows: a plain EventSource follows a stream, survives reconnects, and ends with the stream.

import assert from "node:assert/strict"
import { readFile } from "node:fs/promises"
import { url, withPage } from "./launch.mjs"

const readme = await readFile(new URL("../../README.md", import.meta.url), "utf8")
const script = readme.match(/```html\n<pre id="text">[\s\S]*?```/)[0].slice("```html\n".length, -"```".length)
const stream = `${url}/v1/stream/answer`
const headers = { "Content-Type": "text/plain" }

await withPage(async (page) => {
  await fetch(stream, { method: "PUT", headers, body: "Good " })
  const answers = []
  page.on("response", (response) => response.url().startsWith(stream) && answers.push(response.status()))
  await page.setContent(script.replace("/v1/stream/answer", stream))
  await page.waitForFunction(() => document.querySelector("#text").textContent === "Good ")
  // The server ends connections after a moment here, and the page goes on where it was.
  for (let reconnects = answers.length + 2; answers.length < reconnects; ) await page.waitForEvent("response")
  await fetch(stream, { method: "POST", headers, body: "morning." })
  await page.waitForFunction(() => document.querySelector("#text").textContent === "Good morning.")
  await fetch(stream, { method: "POST", headers: { "Stream-Closed": "true" } })
  await page.waitForFunction(() => document.title === "finished")
  assert.equal(await page.evaluate(() => source.readyState === EventSource.CLOSED), true)

  // A page that does not look for the end is let go all the same: 204 is the end of an EventSource.
  const plain = await page.evaluate(
    (address) =>
      new Promise((resolve) => {
        const source = new EventSource(address)
        source.onerror = () => source.readyState === EventSource.CLOSED && resolve("let go")
      }),
    `${stream}?offset=-1&live=sse`
  )
  assert.equal(plain, "let go")
  assert.equal(answers.at(-1), 204)
})
