// How data looks: JSON folded, text as text, bytes as hexadecimal. Everything becomes text nodes, never markup.

import { html, useMemo, useState } from "./vendor/htm-preact.mjs"

const SHOWN_AT_ONCE = 200
const SUMMARY_CHARACTERS = 160
const HEX_BYTES_AT_ONCE = 1024

// A number that a double does not hold, as it was written.
class Written {
  constructor(source) {
    this.source = source
  }
}

const reviver = (key, value, context) =>
  typeof value === "number" && context?.source !== undefined && String(value) !== context.source && !Number.isSafeInteger(value)
    ? new Written(context.source)
    : value

export const parseMessages = (text) => JSON.parse(text, reviver)

const isBranch = (value) => value !== null && typeof value === "object" && !(value instanceof Written)
const leaf = (value) => (value instanceof Written ? value.source : JSON.stringify(value))
const kind = (value) => (value instanceof Written ? "number" : value === null ? "null" : typeof value)

// The beginning of a value as JSON, without walking through all of it.
export const summary = (value) => {
  let text = ""
  const add = (part) => (text += part).length > SUMMARY_CHARACTERS
  const walk = (value) => {
    if (!isBranch(value)) return add(leaf(value).slice(0, SUMMARY_CHARACTERS + 1))
    const isArray = Array.isArray(value)
    if (add(isArray ? "[" : "{")) return true
    let first = true
    for (const key in value) {
      if (add((first ? "" : ", ") + (isArray ? "" : `${JSON.stringify(key)}: `)) || walk(value[key])) return true
      first = false
    }
    return add(isArray ? "]" : "}")
  }
  return walk(value) ? text.slice(0, SUMMARY_CHARACTERS) + "\u2026" : text
}

export const Some = ({ count, render, label }) => {
  const [shown, setShown] = useState(SHOWN_AT_ONCE)
  return html`${Array.from({ length: Math.min(count, shown) }, (_, index) => render(index))}
    ${count > shown &&
    html`<li><button type="button" onClick=${() => setShown(shown + SHOWN_AT_ONCE)}>
      Show more of ${count.toLocaleString()} ${label}
    </button></li>`}`
}

export const Value = ({ name, value }) => {
  const [isOpen, setOpen] = useState(false)
  const title = name === undefined ? "" : html`<span class="key">${name}</span>: `
  if (!isBranch(value)) return html`<div class="leaf">${title}<span class=${`value ${kind(value)}`}>${leaf(value)}</span></div>`
  const keys = isOpen ? Object.keys(value) : []
  return html`<details open=${isOpen} onToggle=${(event) => event.target === event.currentTarget && setOpen(event.target.open)}>
    <summary>${title}<code>${summary(value)}</code></summary>
    ${isOpen && html`<ul class="branch"><${Some} count=${keys.length} label="members" render=${(index) =>
      html`<li key=${keys[index]}><${Value} name=${keys[index]} value=${value[keys[index]]} /></li>`} /></ul>`}
  </details>`
}

const toBytes = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0))

const Hex = ({ bytes }) => {
  const [shown, setShown] = useState(HEX_BYTES_AT_ONCE)
  const lines = []
  for (let at = 0; at < Math.min(shown, bytes.length); at += 16) {
    const part = [...bytes.subarray(at, Math.min(at + 16, shown))]
    const hex = part.map((byte) => byte.toString(16).padStart(2, "0")).join(" ").padEnd(47)
    const text = part.map((byte) => (byte > 31 && byte < 127 ? String.fromCharCode(byte) : ".")).join("")
    lines.push(`${at.toString(16).padStart(6, "0")}  ${hex}  ${text}`)
  }
  return html`<pre class="data">${lines.join("\n")}</pre>
    ${bytes.length > shown && html`<button type="button" onClick=${() => setShown(shown * 4)}>Show more of ${bytes.length.toLocaleString()} bytes</button>`}`
}

// What one event of a stream carried. `onFork(count)`: fork after so many of its messages.
export const Data = ({ event, isJson, onFork }) => {
  const content = useMemo(() => {
    if (event.isBase64) return { bytes: toBytes(event.data.replaceAll("\n", "")) }
    if (!isJson || !event.data) return { text: event.data }
    return { messages: parseMessages(event.data) }
  }, [event])
  if (content.bytes) return html`<${Hex} bytes=${content.bytes} />`
  if (content.text !== undefined) return content.text && html`<pre class="data">${content.text}</pre>`
  const { messages } = content
  return html`<ol class="messages"><${Some} count=${messages.length} label="messages" render=${(index) =>
    html`<li key=${index}><${Value} value=${messages[index]} />
      ${onFork && html`<button type="button" class="quiet" aria-label=${`Fork after message ${index + 1} of this page`}
        onClick=${() => onFork(index + 1)}>Fork here</button>`}</li>`} /></ol>`
}

const UNITS = ["bytes", "KiB", "MiB", "GiB", "TiB"]
export const size = (bytes) => {
  let unit = 0
  for (; bytes >= 1024 && unit < UNITS.length - 1; unit++) bytes /= 1024
  return `${unit && bytes < 100 ? bytes.toFixed(1) : Math.round(bytes)} ${UNITS[unit]}`
}
export const count = (number) => (number === null || number === undefined ? "\u2013" : number.toLocaleString())
export const when = (text) => (text ? html`<time datetime=${text} title=${text}>${new Date(text).toLocaleString()}</time>` : "\u2013")
