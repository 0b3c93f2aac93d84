// One stream: what it is, its data, producers, forks as a tree; append, fork, close and delete.

import { html, useEffect, useState } from "./vendor/htm-preact.mjs"
import { Dialog, useKeys } from "./dialogs.mjs"
import { History } from "./history.mjs"
import { admin, streams } from "./requests.mjs"
import { Badges, linkTo, Problem, usePolled } from "./streams.mjs"
import { count, size, when } from "./values.mjs"

const LIMIT = 100
const DATA_ROWS = 6

const Facts = ({ stream }) => {
  const facts = [
    ["Type", stream.content_type],
    ["Size", `${size(stream.bytes)}${stream.forked_from ? `, ${size(stream.own_bytes)} of its own` : ""}`],
    ["Messages", count(stream.messages)],
    ["Live readers", count(stream.live_readers)],
    ["Created", when(stream.created_at)],
    ["Last write or read", when(stream.touched_at)],
    ["Expires", stream.ttl_secs !== null ? `after ${count(stream.ttl_secs)} s without use` : stream.expires_at ? when(stream.expires_at) : "never"],
    ["End", html`<code>${stream.offset}</code>`],
  ]
  if (stream.forked_from) {
    const { name, position } = stream.forked_from
    facts.push(["Forked from", html`<a href=${linkTo(name)}>${name}</a> at ${size(position)}`])
  }
  if (stream.closed_by) facts.push(["Closed by", stream.closed_by.producer])
  return html`<dl class="facts">${facts.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`
}

// Pages of `ask`, one after the other; `key` is the member with the entries.
const usePages = (ask, key, keys) => {
  const [found, setFound] = useState({ entries: [], next: "", error: null })
  const more = (after, entries) =>
    ask({ after, limit: LIMIT }).then(
      (page) => setFound({ entries: [...entries, ...page[key]], next: page.next, error: null }),
      (error) => setFound({ entries, next: null, error })
    )
  useEffect(() => void more("", []), keys)
  return { ...found, more: () => more(found.next, found.entries) }
}

const More = ({ next, more }) => (next ? html`<button type="button" onClick=${more}>Show more</button>` : null)

const Producers = ({ name }) => {
  const { entries, next, error, more } = usePages((page) => admin.producers(name, page), "producers", [name])
  return html`<${Problem} error=${error} />
    <table><caption class="unseen">Idempotent producers</caption>
      <thead><tr><th scope="col">Producer</th><th scope="col">Epoch</th><th scope="col">Sequence</th><th scope="col">Last append</th></tr></thead>
      <tbody>${entries.map((producer) => html`<tr key=${producer.id}><th scope="row">${producer.id}</th>
        <td data-label="Epoch" class="number">${count(producer.epoch)}</td><td data-label="Sequence" class="number">${count(producer.seq)}</td>
        <td data-label="Last append">${when(producer.seen_at)}</td></tr>`)}</tbody></table>
    <${More} next=${next} more=${more} />`
}

// A branch asks for its forks when it is opened.
const Forks = ({ name }) => {
  const { entries, next, error, more } = usePages((page) => admin.forks(name, page), "forks", [name])
  return html`<${Problem} error=${error} />
    <ul class="tree">${entries.map((fork) => html`<li key=${fork.name}><${Fork} fork=${fork} /></li>`)}</ul>
    <${More} next=${next} more=${more} />`
}

const Fork = ({ fork }) => {
  const [isOpen, setOpen] = useState(false)
  const title = html`<a href=${linkTo(fork.name)}>${fork.name}</a> <${Badges} stream=${fork} />
    ${fork.forked_from && html`<span class="hint">at ${size(fork.forked_from.position)}, ${size(fork.own_bytes)} of its own</span>`}`
  if (!fork.forks) return title
  return html`<details onToggle=${(event) => event.target === event.currentTarget && setOpen(event.target.open)}>
    <summary>${title}</summary>${isOpen && html`<${Forks} name=${fork.name} />`}</details>`
}

const Folded = ({ title, number, children }) => {
  const [isOpen, setOpen] = useState(false)
  if (!number) return null
  return html`<details class="panel" onToggle=${(event) => event.target === event.currentTarget && setOpen(event.target.open)}>
    <summary><h2>${title} (${count(number)})</h2></summary>${isOpen && children}</details>`
}

const DIALOGS = {
  append: ({ stream, onClose }) => html`<${Dialog} title="Append" action="Append" onClose=${onClose}
    act=${(form) => streams.append(stream.name, stream.content_type, form.elements.data.value)}>
    <label>Data as ${stream.content_type} <textarea name="data" rows=${DATA_ROWS} required spellcheck=${false}></textarea></label>
  </${Dialog}>`,
  close: ({ stream, onClose }) => html`<${Dialog} title="Close this stream?" action="Close the stream" danger onClose=${onClose}
    act=${() => admin.close(stream.name)}>
    <p>Nothing can be appended to <code>${stream.name}</code> any more. It cannot be opened again.</p>
  </${Dialog}>`,
  delete: ({ stream, onClose }) => html`<${Dialog} title="Delete this stream?" action="Delete the stream" danger
    onClose=${(isDone) => {
      onClose(isDone)
      if (isDone) location.hash = "#/"
    }}
    act=${() => admin.remove(stream.name)}>
    <p><code>${stream.name}</code> has ${size(stream.own_bytes)} of its own${stream.forks ? `, and ${count(stream.forks)} forks, which keep them` : ""}.
      It cannot be brought back.</p>
  </${Dialog}>`,
  fork: ({ stream, place, onClose }) => html`<${Dialog} title="Fork" action="Fork" 
    onClose=${(isDone) => onClose(isDone)}
    act=${async (form) => {
      const name = form.elements.name.value
      await streams.fork(name, stream.name, place.offset, place.skip)
      location.hash = linkTo(name)
    }}>
    <p>A new stream with the data of <code>${stream.name}</code> up to <code>${place.offset}</code>${place.skip ? ` and ${count(place.skip)} messages` : ""}.</p>
    <label>Name <input name="name" required autocomplete="off" spellcheck=${false} /></label>
  </${Dialog}>`,
}

export const Stream = ({ name }) => {
  const [asked, setAsked] = useState(null)
  const { data: stream, error, again } = usePolled((signal) => admin.stream(name, {}, signal), [name])
  useKeys({
    Escape: () => (location.hash = "#/"),
    a: () => stream && !stream.closed && setAsked({ kind: "append" }),
  })
  const isShown = stream && stream.name === name
  const Asked = asked && DIALOGS[asked.kind]
  return html`<article aria-labelledby="stream-title">
    <p><a href="#/">All streams</a></p>
    <h1 id="stream-title"><code>${name}</code> ${isShown && html`<${Badges} stream=${stream} />`}</h1>
    <${Problem} error=${error} />
    ${isShown && html`<div class="bar">
        <button type="button" disabled=${stream.closed || stream.deleted} onClick=${() => setAsked({ kind: "append" })}>Append\u2026</button>
        <button type="button" disabled=${stream.closed || stream.deleted} onClick=${() => setAsked({ kind: "close" })}>Close\u2026</button>
        <button type="button" class="danger" disabled=${stream.deleted} onClick=${() => setAsked({ kind: "delete" })}>Delete\u2026</button>
      </div>
      <${Facts} stream=${stream} />
      <${Folded} title="Producers" number=${stream.producers}><${Producers} name=${name} /></${Folded}>
      <${Folded} title="Forks" number=${stream.forks}><${Forks} name=${name} /></${Folded}>
      ${stream.deleted
        ? html`<p>Clients can no longer read it; its forks do.</p>`
        : html`<${History} key=${name} stream=${stream} onFork=${(offset, skip) => setAsked({ kind: "fork", place: { offset, skip } })} />`}`}
    ${Asked && html`<${Asked} stream=${stream} place=${asked.place} onClose=${() => {
      setAsked(null)
      again()
    }} />`}
  </article>`
}
