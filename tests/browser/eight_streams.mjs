// Eight event streams in one page, and appends from that page. Arguments: the URL, the browser, and the protocol to expect.

import assert from "node:assert/strict"
import { url, withPage } from "./launch.mjs"

const protocol = process.argv[4]
const COUNT = 8
const CONNECTIONS_MAX = 6

await withPage(async (page) => {
  await page.evaluate(async (count) => {
    window.names = Array.from({ length: count }, (_, number) => `/v1/stream/eight-${number}`)
    window.headers = { "Content-Type": "text/plain" }
    for (const name of names) await fetch(name, { method: "PUT", headers, body: "old " })
    window.seen = names.map(() => "")
    window.opened = 0
    window.sources = names.map((name, number) => {
      const source = new EventSource(`${name}?offset=-1&live=sse`)
      source.onopen = () => (opened += 1)
      source.addEventListener("data", (event) => (seen[number] += event.data))
      return source
    })
  }, COUNT)
  if (protocol === "http/1.1") return await someAreSilent(page)

  await page.waitForFunction(() => seen.every((text) => text === "old "))
  await page.evaluate(async () => {
    for (const name of names) await fetch(name, { method: "POST", headers, body: "new" })
  })
  await page.waitForFunction(() => seen.every((text) => text === "old new"))
  // An entry of an event stream is made when it ends, so those of the appends have to tell.
  const protocols = await page.evaluate(() =>
    performance.getEntriesByType("resource").map((entry) => entry.nextHopProtocol)
  )
  assert.deepEqual([...new Set(protocols)], [protocol])
  assert.equal(await page.evaluate(() => opened), COUNT, "no stream has been cut off meanwhile")
})

// The seventh is opened when one of the six has ended, and the eighth is not.
async function someAreSilent(page) {
  await page.waitForFunction((most) => opened === most, CONNECTIONS_MAX)
  await page.evaluate(() => sources[seen.findIndex((text) => text !== "")].close())
  await page.waitForFunction((most) => opened === most + 1, CONNECTIONS_MAX)
  assert.equal(await page.evaluate(() => seen.filter((text) => text !== "").length), CONNECTIONS_MAX + 1)
}
