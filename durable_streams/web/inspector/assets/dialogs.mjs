// Questions before anything is changed, in the browser's own dialog: it keeps the focus, and Escape closes it.

import { html, useEffect, useRef, useState } from "./vendor/htm-preact.mjs"

// `act` gets the form and may throw; the dialog stays open with the error.
export const Dialog = ({ title, children, action, danger, act, onClose }) => {
  const dialog = useRef(null)
  const [error, setError] = useState("")
  const [isBusy, setBusy] = useState(false)
  useEffect(() => dialog.current.showModal(), [])
  const submit = async (event) => {
    event.preventDefault()
    setBusy(true)
    setError("")
    try {
      if (act) await act(event.target)
      onClose(true)
    } catch (problem) {
      setError(problem.message)
      setBusy(false)
    }
  }
  return html`<dialog ref=${dialog} aria-labelledby="dialog-title" onClose=${() => onClose(false)}>
    <form onSubmit=${submit}>
      <h2 id="dialog-title">${title}</h2>
      ${children}
      ${error && html`<p role="alert" class="error">${error}</p>`}
      <div class="actions">
        <button type="button" onClick=${() => onClose(false)}>${action ? "Cancel" : "Close"}</button>
        ${action && html`<button class=${danger ? "danger" : "primary"} disabled=${isBusy}>${action}</button>`}
      </div>
    </form>
  </dialog>`
}

const KEYS = [
  ["/", "Filter by prefix"],
  ["j, k", "Next and previous stream"],
  ["Enter", "Open it"],
  ["n, p", "Next and previous page"],
  ["t", "Follow the stream, or stop"],
  ["a", "Append"],
  ["Escape", "Back to the list"],
  ["?", "This help"],
]

export const Help = ({ onClose }) => html`<${Dialog} title="Keys" onClose=${onClose}>
  <dl class="keys">${KEYS.map(([keys, text]) => html`<div><dt><kbd>${keys}</kbd></dt><dd>${text}</dd></div>`)}</dl>
</${Dialog}>`

// Calls the handler of a key, unless somebody is writing or a question is open.
export const useKeys = (handlers) => {
  const current = useRef(handlers)
  current.current = handlers
  useEffect(() => {
    const press = (event) => {
      const isWriting = event.target.closest?.("input, textarea, select, dialog") || document.querySelector("dialog[open]")
      const handler = current.current[event.key]
      if (isWriting || !handler || event.ctrlKey || event.metaKey || event.altKey) return
      event.preventDefault()
      handler()
    }
    addEventListener("keydown", press)
    return () => removeEventListener("keydown", press)
  }, [])
}
