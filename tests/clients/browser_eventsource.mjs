// What a page does with a plain EventSource and no client library: it adds up the data events, and leaves it to the
// EventSource to reconnect (with Last-Event-ID) whenever the server ends a connection. Arguments: URL of the stream
// (without query), SOURCE file, RESULT file, CONNECTIONS to be seen before the writer may finish.
import { readFile, writeFile } from "node:fs/promises"
import { EventSource } from "eventsource"

const [url, sourcePath, resultPath, connectionsWanted] = process.argv.slice(2)
const PIECE_CHARACTERS = 997

async function send(method, body, headers = {}) {
  const answer = await fetch(url, { method, body, headers: { "Content-Type": "text/plain; charset=utf-8", ...headers } })
  if (!answer.ok) throw new Error(`${method} was answered ${answer.status}: ${await answer.text()}`)
}

const characters = [...(await readFile(sourcePath)).toString("utf8")]
const resumedFrom = []
let received = ""
let connections = 0
let opened
let control

await send("PUT", undefined)
const events = new EventSource(`${url}?offset=-1&live=sse`, {
  fetch: (input, init) => {
    resumedFrom.push(init.headers["Last-Event-ID"] ?? null)
    return fetch(input, init)
  },
})
const first = new Promise((resolve) => (opened = resolve))
events.addEventListener("open", () => {
  connections += 1
  opened()
})
events.addEventListener("data", (event) => (received += event.data))
const finished = new Promise((resolve) =>
  events.addEventListener("control", (event) => {
    control = JSON.parse(event.data)
    if (control.streamClosed) resolve()
  })
)

// One piece after the other until the server has ended enough connections, whatever it takes; then the rest.
await first
let at = 0
while (at < characters.length) {
  const piece = characters.slice(at, at + PIECE_CHARACTERS).join("")
  const before = connections
  await send("POST", piece)
  at += PIECE_CHARACTERS
  const last = characters.length - at <= PIECE_CHARACTERS * 4
  if (last && connections < Number(connectionsWanted)) {
    await new Promise((resolve) => {
      const look = () => (connections > before ? resolve() : events.addEventListener("open", look, { once: true }))
      look()
    })
  }
}
await send("POST", undefined, { "Stream-Closed": "true" })
await finished
events.close()
await writeFile(resultPath, received)
console.log(JSON.stringify({ connections, resumedFrom, control }))
