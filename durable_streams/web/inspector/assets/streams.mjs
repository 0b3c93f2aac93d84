// The list of streams by prefix, in pages, with counts that are asked for again while the page is seen.

import { html, useEffect, useRef, useState } from "./vendor/htm-preact.mjs"
import { Dialog, useKeys } from "./dialogs.mjs"
import { admin } from "./requests.mjs"
import { count, size, when } from "./values.mjs"

const LIMIT = 50
const REFRESH_MS = 2000
const TYPING_MS = 250

export const linkTo = (name) => `#/stream/${encodeURIComponent(name)}`

// Asks again and again while the page is seen; `ask` gets a signal. Gives what came last, and what went wrong.
export const usePolled = (ask, keys, everyMs = REFRESH_MS) => {
  const [found, setFound] = useState({ data: null, error: null })
  const [turn, setTurn] = useState(0)
  useEffect(() => {
    const ending = new AbortController()
    let timer
    const look = async () => {
      try {
        if (!document.hidden) {
          const data = await ask(ending.signal)
          if (!ending.signal.aborted) setFound({ data, error: null })
        }
      } catch (error) {
        if (!ending.signal.aborted) setFound((before) => ({ data: before.data, error }))
      }
      if (!ending.signal.aborted) timer = setTimeout(look, everyMs)
    }
    look()
    return () => {
      ending.abort()
      clearTimeout(timer)
    }
  }, [...keys, turn])
  return { ...found, again: () => setTurn((turn) => turn + 1) }
}

export const Problem = ({ error }) => (error ? html`<p role="alert" class="error">${error.message}</p>` : null)

export const Badges = ({ stream }) => html`<span class="badges">
  ${stream.closed && html`<span class="badge">closed</span>`}
  ${stream.deleted && html`<span class="badge bad">deleted</span>`}
  ${stream.damaged !== undefined && html`<span class="badge bad">damaged</span>`}
  ${stream.forked_from && html`<span class="badge">fork</span>`}
</span>`

const Row = ({ stream, isCurrent }) => html`<tr class=${isCurrent ? "current" : ""}>
  <th scope="row"><a href=${linkTo(stream.name)}>${stream.name}</a> <${Badges} stream=${stream} /></th>
  ${stream.damaged !== undefined
    ? html`<td colspan="7" class="error">${stream.damaged}</td>`
    : html`<td data-label="Type">${stream.content_type}</td>
        <td data-label="Size" class="number">${size(stream.bytes)}</td>
        <td data-label="Messages" class="number">${count(stream.messages)}</td>
        <td data-label="Readers" class="number">${count(stream.live_readers)}</td>
        <td data-label="Forks" class="number">${count(stream.forks)}</td>
        <td data-label="Producers" class="number">${count(stream.producers)}</td>
        <td data-label="Last write or read">${when(stream.touched_at)}</td>`}
</tr>`

const DeleteAll = ({ prefix, onClose }) => {
  const [found, setFound] = useState(null)
  const [error, setError] = useState(null)
  useEffect(() => void admin.removeAll(prefix).then(setFound, setError), [])
  const ready = found && found.matched > 0
  return html`<${Dialog} title="Delete streams" danger action=${ready && `Delete ${count(found.matched)} streams`}
    act=${() => admin.removeAll(prefix, found.matched)} onClose=${onClose}>
    <${Problem} error=${error} />
    ${!found && !error && html`<p>Counting\u2026</p>`}
    ${found && html`<p>${count(found.matched)} streams, ${size(found.bytes)}, begin with <code>${prefix}</code>.
      ${found.more && " There may be more, for another deletion."} ${ready && "They cannot be brought back."}</p>`}
  </${Dialog}>`
}

export const StreamList = ({ prefix, setPrefix }) => {
  const [before, setBefore] = useState([])
  const [current, setCurrent] = useState(0)
  const [isDeleting, setDeleting] = useState(false)
  const field = useRef(null)
  const timer = useRef(0)
  const after = before.at(-1) ?? ""
  const { data, error, again } = usePolled((signal) => admin.list({ prefix, after, limit: LIMIT }, signal), [prefix, after])
  const rows = data?.streams ?? []
  const move = (step) => setCurrent(Math.max(0, Math.min(rows.length - 1, current + step)))
  const turnTo = (pages) => {
    setBefore(pages)
    setCurrent(0)
  }
  const next = () => data?.next && turnTo([...before, data.next])
  const previous = () => before.length && turnTo(before.slice(0, -1))
  useKeys({
    "/": () => field.current.focus(),
    j: () => move(1),
    k: () => move(-1),
    n: next,
    p: previous,
    Enter: () => rows[current] && (location.hash = linkTo(rows[current].name)),
  })
  const type = (text) => {
    clearTimeout(timer.current)
    timer.current = setTimeout(() => {
      turnTo([])
      setPrefix(text)
    }, TYPING_MS)
  }
  return html`<section aria-labelledby="streams-title">
    <h1 id="streams-title">Streams</h1>
    <form class="bar" role="search" onSubmit=${(event) => event.preventDefault()}>
      <label>Prefix <input ref=${field} type="search" defaultValue=${prefix} autocomplete="off" spellcheck=${false}
        onInput=${(event) => type(event.target.value)} /></label>
      ${prefix && html`<button type="button" class="danger" onClick=${() => setDeleting(true)}>Delete all with this prefix\u2026</button>`}
    </form>
    <${Problem} error=${error} />
    <table>
      <caption class="unseen">Streams in the order of their names</caption>
      <thead><tr>${["Name", "Type", "Size", "Messages", "Readers", "Forks", "Producers", "Last write or read"].map(
        (text) => html`<th scope="col">${text}</th>`
      )}</tr></thead>
      <tbody>${rows.map((stream, index) => html`<${Row} key=${stream.name} stream=${stream} isCurrent=${index === current} />`)}</tbody>
    </table>
    ${data && !rows.length && html`<p>No stream begins with <code>${prefix || "anything"}</code>.</p>`}
    <nav class="bar" aria-label="Pages">
      <button type="button" disabled=${!before.length} onClick=${previous}>Previous</button>
      <span>Page ${before.length + 1}</span>
      <button type="button" disabled=${!data?.next} onClick=${next}>Next</button>
    </nav>
    ${isDeleting && html`<${DeleteAll} prefix=${prefix} onClose=${(isDone) => {
      setDeleting(false)
      if (isDone) again()
    }} />`}
  </section>`
}
