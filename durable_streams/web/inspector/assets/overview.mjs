// What the server does now, with charts, and the subscriptions with their lag.

import { html, useEffect, useRef, useState } from "./vendor/htm-preact.mjs"
import { Chart } from "./charts.mjs"
import { admin, streams } from "./requests.mjs"
import { linkTo, Problem, usePolled } from "./streams.mjs"
import { count, size, when } from "./values.mjs"

const SAMPLES_KEPT = 300
const NONE = { times: [], appends: [], readers: [], commit: [] }

// A rate is what two looks at one worker differ in; another worker has counters of its own.
const sample = (samples, before, found, seconds) => {
  const isSame = before && before.worker === found.worker && seconds > 0
  const { committed } = found
  const commits = isSame ? committed.commits - before.committed.commits : 0
  const next = {
    times: Date.now() / 1000,
    appends: isSame ? (committed.changes - before.committed.changes) / seconds : null,
    readers: (found.live_readers.sse ?? 0) + (found.live_readers["long-poll"] ?? 0),
    commit: commits ? ((committed.seconds - before.committed.seconds) / commits) * 1000 : null,
  }
  return Object.fromEntries(Object.entries(samples).map(([name, values]) => [name, [...values, next[name]].slice(-SAMPLES_KEPT)]))
}

const Limited = ({ name, value }) => html`<div><dt>${name}</dt><dd>${count(value.now)} of ${value.limit ? count(value.limit) : "no limit"}</dd></div>`

export const Server = () => {
  const { data, error } = usePolled((signal) => admin.server(signal), [])
  const before = useRef(null)
  const [samples, setSamples] = useState(NONE)
  useEffect(() => {
    if (!data) return
    const at = performance.now()
    const last = before.current
    before.current = { data, at }
    setSamples((samples) => sample(samples, last?.data, data, last ? (at - last.at) / 1000 : 0))
  }, [data])
  return html`<section aria-labelledby="server-title">
    <h1 id="server-title">Server</h1>
    <${Problem} error=${error} />
    ${data && html`<dl class="facts">
        <div><dt>Version</dt><dd>${data.version}, ${data.mode}</dd></div>
        <div><dt>State</dt><dd>${data.storage_failed ? "storage failed" : data.storage_full ? "disk full" : data.ready ? "ready" : "not ready"}</dd></div>
        <div><dt>Worker</dt><dd>${data.worker}, since ${when(data.started_at)}</dd></div>
        <${Limited} name="Connections" value=${data.connections} />
        ${Object.entries(data.queues).map(([name, value]) => html`<${Limited} name=${name.replaceAll("_", " ")} value=${value} />`)}
        ${Object.entries(data.live_readers).map(([name, value]) => html`<div><dt>Readers, ${name}</dt><dd>${count(value)}</dd></div>`)}
        ${Object.entries(data.storage).map(([name, value]) => html`<div><dt>${name.replaceAll("_", " ")}</dt>
          <dd>${name.endsWith("_bytes") ? size(value) : count(value)}</dd></div>`)}
        <div><dt>Committed</dt><dd>${count(data.committed.changes)} changes, ${size(data.committed.bytes)}</dd></div>
      </dl>
      <div class="charts">
        <${Chart} title="Appends" unit="a second" lines=${["appends"]} samples=${[samples.times, samples.appends]} />
        <${Chart} title="Live readers" unit="" lines=${["readers"]} samples=${[samples.times, samples.readers]} />
        <${Chart} title="Commit time" unit="ms" lines=${["commit"]} samples=${[samples.times, samples.commit]} />
      </div>
      <details class="panel"><summary><h2>Settings</h2></summary>
        <table><caption class="unseen">Settings in force</caption><tbody>
          ${Object.entries(data.settings).map(([key, value]) => html`<tr key=${key}><th scope="row"><code>${key}</code></th><td data-label="Value">${JSON.stringify(value)}</td></tr>`)}
        </tbody></table></details>`}
  </section>`
}

const Linked = ({ id }) => {
  const { data, error } = usePolled(() => streams.subscription(id), [id], 5000)
  return html`<${Problem} error=${error} />
    <ul class="tree">${(data?.streams ?? []).slice(0, 500).map((link) => html`<li key=${link.path}><a href=${linkTo(link.path)}>${link.path}</a>
      <span class="hint">${link.link_type}, acknowledged up to <code>${link.acked_offset}</code></span></li>`)}</ul>`
}

const Subscription = ({ found }) => {
  const [isOpen, setOpen] = useState(false)
  return html`<tr><th scope="row"><details onToggle=${(event) => setOpen(event.target.open)}><summary>${found.id}</summary>${isOpen && html`<${Linked} id=${found.id} />`}</details></th>
    <td data-label="Type">${found.type}</td>
    <td data-label="Pattern">${found.pattern ?? "\u2013"}</td>
    <td data-label="State">${found.paused ? "paused" : found.status}</td>
    <td data-label="Lag" class="number">${count(found.lag.streams)} streams, ${size(found.lag.bytes)}</td>
    <td data-label="Attempts" class="number">${count(found.attempts)}</td>
    <td data-label="Last error">${found.last_error ?? "\u2013"}</td></tr>`
}

export const Subscriptions = () => {
  const [before, setBefore] = useState([])
  const after = before.at(-1) ?? ""
  const { data, error } = usePolled(() => streams.subscriptions({ after, limit: 50 }), [after])
  return html`<section aria-labelledby="subscriptions-title">
    <h1 id="subscriptions-title">Subscriptions</h1>
    <${Problem} error=${error} />
    <table><caption class="unseen">Subscriptions and how far behind they are</caption>
      <thead><tr>${["Id", "Type", "Pattern", "State", "Lag", "Attempts", "Last error"].map((text) => html`<th scope="col">${text}</th>`)}</tr></thead>
      <tbody>${(data?.subscriptions ?? []).map((found) => html`<${Subscription} key=${found.id} found=${found} />`)}</tbody></table>
    ${data && !data.subscriptions.length && html`<p>There are none.</p>`}
    <nav class="bar" aria-label="Pages">
      <button type="button" disabled=${!before.length} onClick=${() => setBefore(before.slice(0, -1))}>Previous</button>
      <button type="button" disabled=${!data?.next} onClick=${() => setBefore([...before, data.next])}>Next</button>
    </nav>
  </section>`
}
