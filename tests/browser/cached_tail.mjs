// A page polls the end of a stream by repeating one URL, with the browser's cache on, as section 10.1 has it.

import assert from "node:assert/strict"
import { url, withPage } from "./launch.mjs"

const stream = `${url}/v1/stream/polled`
const headers = { "Content-Type": "text/plain" }

await withPage(async (page) => {
  const created = await fetch(stream, { method: "PUT", headers, body: "first" })
  const tail = created.headers.get("stream-next-offset")
  const requests = []
  page.on("request", (request) => requests.push(request.url()))
  const read = (offset) =>
    page.evaluate(async (address) => {
      const response = await fetch(address)
      return [await response.text(), response.headers.get("stream-closed")]
    }, `${stream}?offset=${offset}`)

  assert.deepEqual(await read(tail), ["", null])
  await fetch(stream, { method: "POST", headers, body: "second" })
  assert.deepEqual(await read(tail), ["second", null], "an append is seen by the same request")
  const end = (await fetch(stream, { method: "HEAD" })).headers.get("stream-next-offset")
  assert.deepEqual(await read(end), ["", null])
  await fetch(stream, { method: "POST", headers: { "Stream-Closed": "true" } })
  assert.deepEqual(await read(end), ["", "true"], "a closure is seen by the same request")
  // What holds data is kept: the browser answers by itself, also when the stream has gone meanwhile.
  await read(-1)
  await fetch(stream, { method: "DELETE" })
  assert.deepEqual(await read(-1), ["firstsecond", "true"], "a range with data comes out of the cache")
})
