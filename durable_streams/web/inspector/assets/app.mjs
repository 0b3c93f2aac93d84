// The page: signing in, which view the address names, and the keys that are the same everywhere.

import { html, render, useEffect, useState } from "./vendor/htm-preact.mjs"
import { Help, useKeys } from "./dialogs.mjs"
import { Server, Subscriptions } from "./overview.mjs"
import { admin, token } from "./requests.mjs"
import { Stream } from "./stream.mjs"
import { StreamList } from "./streams.mjs"

const VIEWS = [
  ["#/", "Streams"],
  ["#/server", "Server"],
  ["#/subscriptions", "Subscriptions"],
]
const STREAM = "#/stream/"

const SignIn = ({ onDone }) => {
  const [error, setError] = useState("")
  const submit = async (event) => {
    event.preventDefault()
    token.set(event.target.elements.token.value.trim())
    try {
      await admin.list({ limit: 1 })
      onDone()
    } catch (problem) {
      token.set("")
      setError(problem.message)
    }
  }
  return html`<main class="narrow"><h1>Sign in</h1>
    <form onSubmit=${submit}>
      <p>A token with the scope <code>admin</code>; with <code>read</code>, <code>write</code> and <code>create</code> too for data, append and fork.</p>
      <label>Token <input name="token" type="password" required autocomplete="off" autofocus /></label>
      ${error && html`<p role="alert" class="error">${error}</p>`}
      <button class="primary">Sign in</button>
    </form></main>`
}

const useHash = () => {
  const [hash, setHash] = useState(location.hash || "#/")
  useEffect(() => {
    const change = () => setHash(location.hash || "#/")
    addEventListener("hashchange", change)
    return () => removeEventListener("hashchange", change)
  }, [])
  return hash
}

const View = ({ hash, prefix, setPrefix }) => {
  if (hash.startsWith(STREAM)) {
    const name = decodeURIComponent(hash.slice(STREAM.length))
    return html`<${Stream} key=${name} name=${name} />`
  }
  if (hash === "#/server") return html`<${Server} />`
  if (hash === "#/subscriptions") return html`<${Subscriptions} />`
  return html`<${StreamList} prefix=${prefix} setPrefix=${setPrefix} />`
}

const App = () => {
  const hash = useHash()
  const [access, setAccess] = useState("asking")
  const [error, setError] = useState("")
  const [prefix, setPrefix] = useState("")
  const [hasHelp, setHelp] = useState(false)
  useKeys({ "?": () => setHelp(true) })
  const look = () =>
    admin.list({ limit: 1 }).then(
      () => setAccess("given"),
      (problem) => {
        setAccess(problem.status === 401 || problem.status === 403 ? "needed" : "given")
        setError(problem.message)
      }
    )
  useEffect(() => void look(), [])
  if (access === "asking") return html`<main class="narrow"><p role="status">Loading\u2026</p></main>`
  if (access === "needed") return html`<${SignIn} onDone=${() => setAccess("given")} />`
  return html`<a class="skip" href="#main" onClick=${(event) => {
      event.preventDefault()
      document.getElementById("main").focus()
    }}>Skip to the content</a>
    <header><nav aria-label="Views">${VIEWS.map(
      ([target, text]) => html`<a href=${target} aria-current=${hash === target ? "page" : undefined}>${text}</a>`
    )}</nav>
      <div class="bar"><button type="button" onClick=${() => setHelp(true)} aria-label="Keys">?</button>
      ${token.get() && html`<button type="button" onClick=${() => {
        token.set("")
        location.reload()
      }}>Sign out</button>`}</div></header>
    <main id="main" tabindex="-1"><${View} hash=${hash} prefix=${prefix} setPrefix=${setPrefix} /></main>
    ${hasHelp && html`<${Help} onClose=${() => setHelp(false)} />`}`
}

const place = document.getElementById("app")
place.replaceChildren()
render(html`<${App} />`, place)
