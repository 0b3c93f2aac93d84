// What the page asks of the server: the admin API, and streams. Every request carries the token, if there is one.

const { root, base } = document.body.dataset
const TOKEN = "durable-streams-token"
const PAGE_BYTES_MAX = 4 * 1024 * 1024
const RETRY_MS = 1000

export class Refused extends Error {
  constructor(status, message, code) {
    super(message)
    this.status = status
    this.code = code
  }
}

// It lives as long as the tab, and no other origin can read it.
export const token = {
  get: () => sessionStorage.getItem(TOKEN) ?? "",
  set: (text) => (text ? sessionStorage.setItem(TOKEN, text) : sessionStorage.removeItem(TOKEN)),
}

const encodePath = (name) => name.split("/").map(encodeURIComponent).join("/")
const query = (values) => {
  const kept = Object.entries(values ?? {}).filter(([, value]) => value !== undefined && value !== null && value !== "")
  return kept.length ? "?" + new URLSearchParams(kept) : ""
}

const ask = async (url, { headers, ...options } = {}) => {
  const credentials = token.get() ? { Authorization: `Bearer ${token.get()}` } : {}
  const response = await fetch(url, { cache: "no-store", ...options, headers: { ...credentials, ...headers } })
  if (response.ok) return response
  const text = await response.text()
  let problem = {}
  try {
    problem = JSON.parse(text)
  } catch {}
  const found = problem.error ?? problem
  throw new Refused(response.status, found.detail ?? found.message ?? `HTTP ${response.status}`, found.code)
}

const askJson = async (url, options) => (await ask(url, options)).json()

export const admin = {
  server: (signal) => askJson(`${root}/admin/server`, { signal }),
  list: (values, signal) => askJson(`${root}/admin/streams${query(values)}`, { signal }),
  stream: (name, values, signal) => askJson(`${root}/admin/streams/${encodePath(name)}${query(values)}`, { signal }),
  producers: (name, values) => askJson(`${root}/admin/producers/${encodePath(name)}${query(values)}`),
  forks: (name, values) => askJson(`${root}/admin/forks/${encodePath(name)}${query(values)}`),
  offset: (name, position) => askJson(`${root}/admin/offsets/${encodePath(name)}${query({ position })}`),
  close: (name) =>
    askJson(`${root}/admin/streams/${encodePath(name)}`, {
      method: "PATCH",
      headers: { "Content-Type": "application/json" },
      body: '{"closed":true}',
    }),
  remove: (name) => ask(`${root}/admin/streams/${encodePath(name)}`, { method: "DELETE" }),
  removeAll: (prefix, confirm) => askJson(`${root}/admin/streams${query({ prefix, confirm })}`, { method: "DELETE" }),
}

export const streams = {
  append: (name, type, body) =>
    ask(`${base}/${encodePath(name)}`, { method: "POST", headers: { "Content-Type": type }, body }),
  fork: (name, source, offset, skip) =>
    ask(`${base}/${encodePath(name)}`, {
      method: "PUT",
      headers: {
        "Stream-Forked-From": encodePath(source),
        "Stream-Fork-Offset": offset,
        ...(skip ? { "Stream-Fork-Sub-Offset": String(skip) } : {}),
      },
    }),
  subscriptions: (values) => askJson(`${base}/__ds/subscriptions${query(values)}`),
  subscription: (id) => askJson(`${base}/__ds/subscriptions/${encodeURIComponent(id)}`),
}

// The events of a stream from an offset on: a part of at most 256 KiB with each, so a page never loads a whole stream.
export async function* events(name, offset, signal) {
  const response = await ask(`${base}/${encodePath(name)}${query({ offset, live: "sse" })}`, { signal })
  const isBase64 = response.headers.get("Stream-SSE-Data-Encoding") === "base64"
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader()
  let rest = ""
  let data = ""
  try {
    for (;;) {
      const { done, value } = await reader.read()
      if (done) return
      rest += value
      if (rest.length > PAGE_BYTES_MAX * 2) throw new Error("a message is too long to be shown here")
      const blocks = rest.split("\n\n")
      rest = blocks.pop()
      for (const block of blocks) {
        const event = parseEvent(block)
        if (event.type === "data") data = event.data
        if (event.type !== "control") continue
        yield { data, isBase64, ...JSON.parse(event.data) }
        data = ""
      }
    }
  } finally {
    reader.cancel().catch(() => {})
  }
}

const parseEvent = (block) => {
  const event = { type: "message", data: [] }
  for (const line of block.split("\n")) {
    const colon = line.indexOf(":")
    const field = colon < 0 ? line : line.slice(0, colon)
    const value = colon < 0 ? "" : line.slice(colon + (line[colon + 1] === " " ? 2 : 1))
    if (field === "event") event.type = value
    if (field === "data") event.data.push(value)
  }
  return { type: event.type, data: event.data.join("\n") }
}

// One page: what the first event holds.
export const page = async (name, offset) => {
  const ending = new AbortController()
  try {
    for await (const event of events(name, offset, ending.signal)) return event
    throw new Error("the server has ended the page before its end")
  } finally {
    ending.abort()
  }
}

// Everything from an offset on, for ever: the server ends connections, restarts, and is out of reach for a while.
export async function* follow(name, offset, signal, onState) {
  while (!signal.aborted) {
    try {
      for await (const event of events(name, offset, signal)) {
        onState("live")
        offset = event.streamNextOffset
        yield event
        if (event.streamClosed) return
      }
    } catch (error) {
      if (signal.aborted) return
      if (error instanceof Refused && error.status < 500 && error.status !== 429) throw error
      onState("reconnecting")
      await new Promise((done) => setTimeout(done, RETRY_MS))
    }
  }
}
