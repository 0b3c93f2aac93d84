// What a stream holds: one page at a time from any place, and a live tail that survives restarts of the server.

import { html, useEffect, useRef, useState } from "./vendor/htm-preact.mjs"
import { useKeys } from "./dialogs.mjs"
import { admin, follow, page } from "./requests.mjs"
import { Problem } from "./streams.mjs"
import { Data, size } from "./values.mjs"

const START = "-1"
const LAST_BYTES = 64 * 1024
const EVENTS_KEPT = 200
const CHARACTERS_KEPT = 4 * 1024 * 1024

// The second field of an offset is a position and one more digit.
const positionOf = (offset) => (offset === START ? 0 : Math.floor(Number(offset.split("_")[1]) / 10))

// The newest events of the tail, as many as a browser bears.
const keep = (events, event) => {
  const kept = [...events, event].slice(-EVENTS_KEPT)
  let characters = kept.reduce((sum, event) => sum + event.data.length, 0)
  while (kept.length > 1 && characters > CHARACTERS_KEPT) characters -= kept.shift().data.length
  return kept
}

const Tail = ({ name, offset, isJson }) => {
  const [events, setEvents] = useState([])
  const [state, setState] = useState("connecting")
  const [error, setError] = useState(null)
  const end = useRef(null)
  useEffect(() => {
    const ending = new AbortController()
    const run = async () => {
      let number = 0
      for await (const event of follow(name, offset, ending.signal, setState)) {
        if (event.data) setEvents((events) => keep(events, { ...event, number: number++ }))
        if (event.streamClosed) setState("closed")
      }
    }
    run().catch((problem) => ending.signal.aborted || setError(problem))
    return () => ending.abort()
  }, [name, offset])
  useEffect(() => end.current?.scrollIntoView?.({ block: "nearest" }), [events])
  return html`<div class="tail">
    <p role="status">Live tail: <strong class=${`state ${state}`}>${state}</strong></p>
    <${Problem} error=${error} />
    <div role="log" aria-label="New data" tabindex="0">
      ${events.map((event) => html`<${Data} key=${event.number} event=${event} isJson=${isJson} />`)}
      <div ref=${end}></div>
    </div>
  </div>`
}

export const History = ({ stream, onFork }) => {
  const { name } = stream
  const isJson = /^application\/json\b/i.test(stream.content_type)
  const [visited, setVisited] = useState([START])
  const [shown, setShown] = useState(null)
  const [error, setError] = useState(null)
  const [isLive, setLive] = useState(false)
  const offset = visited.at(-1)
  useEffect(() => {
    let isCurrent = true
    page(name, offset).then(
      (found) => {
        if (!isCurrent) return
        setShown({ ...found, offset })
        setError(null)
      },
      (problem) => isCurrent && setError(problem)
    )
    return () => (isCurrent = false)
  }, [name, offset, stream.bytes < LAST_BYTES ? stream.offset : ""])
  const isEnd = !shown || shown.offset !== offset || shown.upToDate || shown.streamClosed
  const next = () => isEnd || setVisited([...visited, shown.streamNextOffset])
  const previous = () => visited.length > 1 && setVisited(visited.slice(0, -1))
  const jump = async (position) => {
    try {
      setVisited([...visited, position > 0 ? (await admin.offset(name, position)).offset : START])
    } catch (problem) {
      setError(problem)
    }
  }
  const toggle = () => setLive(!isLive)
  useKeys({ n: next, p: previous, t: toggle })
  const position = shown ? positionOf(shown.offset) : 0
  return html`<section aria-labelledby="history-title">
    <h2 id="history-title">Data</h2>
    <nav class="bar" aria-label="Pages of the data">
      <button type="button" onClick=${() => setVisited([START])}>First</button>
      <button type="button" disabled=${visited.length < 2} onClick=${previous}>Previous</button>
      <button type="button" disabled=${isEnd} onClick=${next}>Next</button>
      <button type="button" onClick=${() => jump(Math.max(0, stream.bytes - LAST_BYTES))}>Last</button>
      <label class="place">Place <input type="range" min="0" max=${stream.bytes} value=${position}
        aria-valuetext=${`${size(position)} of ${size(stream.bytes)}`} onChange=${(event) => jump(Number(event.target.value))} /></label>
      <button type="button" aria-pressed=${isLive} onClick=${toggle}>${isLive ? "Stop following" : "Follow"}</button>
    </nav>
    <${Problem} error=${error} />
    ${shown && html`<p class="hint" role="status">${size(position)} to ${size(positionOf(shown.streamNextOffset))} of ${size(stream.bytes)}</p>
      <${Data} key=${shown.offset} event=${shown} isJson=${isJson} onFork=${(skip) => onFork(shown.offset, skip)} />
      ${!shown.data && html`<p>Nothing here yet.</p>`}
      <p><button type="button" class="quiet" onClick=${() => onFork(shown.streamNextOffset, 0)}>Fork at the end of this page\u2026</button></p>`}
    ${isLive && html`<${Tail} name=${name} offset=${stream.followFrom ?? "now"} isJson=${isJson} />`}
  </section>`
}
