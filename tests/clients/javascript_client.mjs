// Carries a file through a stream with the official JavaScript client: creates the stream, writes, tails, leaves,
// resumes. Arguments: MODE (catch-up, long-poll, sse), KIND (text, bytes, json), URL, SOURCE file, RESULT file. Of JSON the
// text that the client hands on is written beside the result.
import { readFile, writeFile } from "node:fs/promises"
import { DurableStream, IdempotentProducer, stream } from "@durable-streams/client"

const PIECE_SIZE = 4001
const PIECES_AT_ONCE = 8
const CONTENT_TYPES = {
  text: "text/plain; charset=utf-8",
  bytes: "application/octet-stream",
  json: "application/json",
}

const [mode, kind, url, sourcePath, resultPath] = process.argv.slice(2)

// What is appended. Bytes are cut anywhere, but for text over SSE, which carries characters.
function piecesOf(source) {
  if (kind === "json") return source.toString("utf8").split("\n").slice(0, -1)
  const whole = mode === "sse" && kind === "text" ? [...source.toString("utf8")] : source
  const pieces = []
  for (let at = 0; at < whole.length; at += PIECE_SIZE) {
    const piece = whole.slice(at, at + PIECE_SIZE)
    pieces.push(Array.isArray(piece) ? piece.join("") : new Uint8Array(piece))
  }
  return pieces
}

// JSON goes through the idempotent producer, everything else through append(), a few calls at a time so that the
// client batches them.
async function write(handle, pieces, producerEpoch) {
  if (kind === "json") {
    const producer = new IdempotentProducer(handle, "the-writer", { epoch: producerEpoch, onError: fail })
    for (const piece of pieces) producer.append(piece)
    await producer.flush()
    await producer.detach()
    return
  }
  for (let at = 0; at < pieces.length; at += PIECES_AT_ONCE) {
    await Promise.all(pieces.slice(at, at + PIECES_AT_ONCE).map((piece) => handle.append(piece)))
  }
}

function fail(error) {
  console.error(error)
  process.exit(1)
}

class Reader {
  offset = "-1"
  items = []
  size = 0

  // Read page after page until the server says that this is all: without `live` the client gives one page a session.
  async readAll() {
    let session
    do {
      session = await stream({ url, offset: this.offset, live: false, warnOnHttp: false })
      if (kind === "json") this.#add(await session.json(), session.offset)
      else this.#add([Buffer.from(await session.body())], session.offset)
    } while (!session.upToDate)
  }

  // Follow the stream live in one session of the client; leave it as soon as there is as much as is wanted.
  async readUntil(size, began = () => {}) {
    const session = await stream({ url, offset: this.offset, live: mode, warnOnHttp: false })
    began()
    await new Promise((resolve, reject) => {
      const take = (batch) => {
        if (this.size >= size) return
        this.#add(kind === "json" ? batch.items : [Buffer.from(batch.data)], batch.offset)
        if (this.size >= size) {
          session.cancel()
          resolve()
        }
      }
      if (kind === "json") session.subscribeJson(take)
      else session.subscribeBytes(take)
      session.closed.catch(reject)
    })
  }

  // What those get who take the text of a page and not its values.
  async texts() {
    const texts = []
    let session
    do {
      session = await stream({ url, offset: session?.offset ?? "-1", live: false, warnOnHttp: false })
      texts.push(await session.text())
    } while (!session.upToDate)
    return texts
  }

  #add(items, offset) {
    for (const item of items) this.items.push(item)
    this.size += kind === "json" ? items.length : items.reduce((sum, item) => sum + item.length, 0)
    this.offset = offset
  }

  result() {
    if (kind !== "json") return Buffer.concat(this.items)
    return this.items.map((item) => JSON.stringify(item) + "\n").join("")
  }
}

// Write half, read it, write the rest, and read on from the offset that was kept.
async function carryByCatchingUp(handle, pieces, reader) {
  const half = Math.floor(pieces.length / 2)
  await write(handle, pieces.slice(0, half), 0)
  await reader.readAll()
  if (reader.size === 0) throw new Error("the first half was not there to be read")
  await write(handle, pieces.slice(half), 1)
  await reader.readAll()
}

// Read while writing; leave half-way, and resume in a new session until all is there. The last third is written only
// after the reader has left and come back.
async function carryByTailing(handle, pieces, reader, total) {
  const pause = Math.floor((pieces.length * 2) / 3)
  let tailing, resumed
  const whenTailing = new Promise((resolve) => (tailing = resolve))
  const whenResumed = new Promise((resolve) => (resumed = resolve))
  const writing = whenTailing
    .then(() => write(handle, pieces.slice(0, pause), 0))
    .then(() => whenResumed)
    .then(() => write(handle, pieces.slice(pause), 1))
    .then(() => handle.close())
  // A long-poll on the empty stream is answered only once something is written.
  if (mode === "long-poll") tailing()
  await reader.readUntil(total / 2, tailing)
  await reader.readUntil(total, resumed)
  await writing
}

const source = await readFile(sourcePath)
const handle = await DurableStream.create({ url, contentType: CONTENT_TYPES[kind], warnOnHttp: false })
const pieces = piecesOf(source)
const reader = new Reader()
// Node's code for "nothing is left to wait for": the last session ended before everything was there.
process.on("exit", (code) => code === 13 && console.error(`the session ended after ${reader.size}`))
if (mode === "catch-up") await carryByCatchingUp(handle, pieces, reader)
else await carryByTailing(handle, pieces, reader, kind === "json" ? pieces.length : source.length)
await writeFile(resultPath, reader.result())
if (kind === "json") await writeFile(`${resultPath}.texts`, JSON.stringify(await reader.texts()))
console.log(JSON.stringify({ offset: reader.offset, tail: (await handle.head()).offset }))
