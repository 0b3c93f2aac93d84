// The inspector, used as a person does. Arguments: the URL, the browser, a token, and a folder for screenshots (may be empty).

import assert from "node:assert/strict"
import { url, withPage } from "./launch.mjs"

const [token, pictures] = process.argv.slice(4)
const JSON_TYPE = "application/json"
const MARKUP = "<img src=x onerror=\"window.hacked='data'\"><script>window.hacked='script'</script>"
const HOSTILE_NAME = "z/<img src=x onerror=\"hacked='name'\">"
const MESSAGES = 450

const ask = async (method, name, { type, body, headers = {} } = {}) => {
  const path = name.split("/").map(encodeURIComponent).join("/")
  const response = await fetch(`${url}/v1/stream/${path}`, {
    method,
    body,
    headers: { Authorization: `Bearer ${token}`, ...(type ? { "Content-Type": type } : {}), ...headers },
  })
  assert.ok(response.ok, `${method} ${name}: ${response.status}`)
  return response
}

const setUp = async () => {
  const orders = Array.from({ length: MESSAGES }, (_, id) => ({ id, customer: { name: "Ada", tags: ["a", "b"] }, total: 12.5 }))
  await ask("PUT", "shop/orders", { type: JSON_TYPE, body: JSON.stringify(orders) })
  await ask("PUT", "shop/orders-test", { headers: { "Stream-Forked-From": "shop/orders" } })
  await ask("PUT", "shop/deeper", { headers: { "Stream-Forked-From": "shop/orders-test" } })
  await ask("POST", "shop/orders", {
    type: JSON_TYPE,
    body: "[12345678901234567890]",
    headers: { "Producer-Id": "till-1", "Producer-Epoch": "0", "Producer-Seq": "0" },
  })
  await ask("PUT", "notes", { type: "text/plain", body: "first\nsecond line\n" })
  await ask("PUT", "picture", { type: "image/png", body: new Uint8Array([137, 80, 78, 71, 0, 255]) })
  await ask("PUT", "z/page", { type: "text/html", body: MARKUP })
  await ask("PUT", "z/json", { type: JSON_TYPE, body: JSON.stringify([MARKUP, { [MARKUP]: MARKUP, __proto__: 1 }]) })
  await ask("PUT", HOSTILE_NAME, { type: "text/plain", body: MARKUP })
  for (let number = 0; number < 60; number++) await ask("PUT", `many/${String(number).padStart(3, "0")}`, { type: "text/plain", body: "x" })
  await ask("PUT", "long", { type: "text/plain", body: "0123456789abcde\n".repeat(65536) })
}

const picture = async (page, name) => pictures && (await page.screenshot({ path: `${pictures}/${name}.png` }))
const rowNames = (page) => page.locator("tbody th a").allTextContents()

await setUp()
await withPage(async (page) => {
  const wrong = []
  page.on("dialog", (dialog) => wrong.push(`dialog ${dialog.message()}`) && dialog.dismiss())
  page.on("pageerror", (error) => wrong.push(`error ${error.stack}`))
  // A refused request is logged by the browser itself; the page shows what it was.
  page.on("console", (entry) => entry.type() === "error" && !/status of 4\d\d/.test(entry.text()) && wrong.push(entry.text()))
  await page.addInitScript(() => addEventListener("securitypolicyviolation", (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`)))
  await page.setViewportSize({ width: 1200, height: 800 })
  await page.goto(`${url}/inspect`)

  await page.getByLabel("Token").fill("wrong")
  await page.getByRole("button", { name: "Sign in" }).click()
  await page.getByRole("alert").waitFor()
  await page.getByLabel("Token").fill(token)
  await page.getByRole("button", { name: "Sign in" }).click()

  // The list: pages, a prefix, keys.
  await page.getByRole("heading", { name: "Streams" }).waitFor()
  await page.locator("tbody tr").nth(49).waitFor()
  await page.keyboard.press("n")
  await page.getByText("Page 2").waitFor()
  await page.getByRole("link", { name: "picture" }).waitFor()
  await page.keyboard.press("p")
  await page.keyboard.press("/")
  await page.keyboard.type("shop/")
  await page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 3)
  assert.deepEqual(await rowNames(page), ["shop/deeper", "shop/orders", "shop/orders-test"])
  await picture(page, "inspector-streams")
  await page.getByLabel("Prefix").blur()
  await page.keyboard.press("j")
  await page.keyboard.press("Enter")

  // A stream: messages folded, big numbers as they were written, producers, forks as a tree.
  await page.locator("h1", { hasText: "shop/orders" }).waitFor()
  await page.locator(".messages > li summary").first().click()
  await page.locator(".messages > li .branch summary").first().click()
  await page.locator(".branch .branch .value.string", { hasText: '"Ada"' }).first().waitFor()
  while (await page.getByRole("button", { name: /^Show more of 451 messages/ }).count())
    await page.getByRole("button", { name: /^Show more of 451 messages/ }).click()
  await page.getByText("12345678901234567890", { exact: true }).waitFor()
  await page.getByText("Producers (1)").click()
  await page.getByRole("rowheader", { name: "till-1" }).waitFor()
  await page.getByText("Forks (1)").click()
  await page.locator(".tree summary").click()
  await page.locator(".tree .tree").getByRole("link", { name: "shop/deeper" }).waitFor()
  await page.evaluate(() => scrollTo(0, 0))
  await picture(page, "inspector-stream")

  // Follow, append elsewhere and here.
  await page.keyboard.press("t")
  await page.locator(".state.live").waitFor()
  await ask("POST", "shop/orders", { type: JSON_TYPE, body: '["from elsewhere"]' })
  await page.getByRole("log").getByText('"from elsewhere"').waitFor()
  await page.keyboard.press("a")
  await page.getByLabel("Data as application/json").fill("not json")
  await page.getByRole("button", { name: "Append", exact: true }).click()
  await page.locator("dialog [role=alert]").waitFor()
  await page.getByLabel("Data as application/json").fill('{"appended":"here"}')
  await page.getByRole("button", { name: "Append", exact: true }).click()
  await page.getByRole("log").getByText(/"appended": "here"/).waitFor()
  await page.getByRole("button", { name: "Stop following" }).click()

  // Fork after the second message of the page.
  await page.getByLabel("Fork after message 2 of this page").click()
  await page.getByLabel("Name").fill("shop/two")
  await page.getByRole("button", { name: "Fork", exact: true }).click()
  await page.locator("h1", { hasText: "shop/two" }).waitFor()
  assert.equal((await (await ask("GET", "shop/two?offset=-1".split("?")[0])).json()).length, 2)

  // Close and delete, each with a question.
  await page.getByRole("button", { name: "Close\u2026" }).click()
  await page.getByRole("button", { name: "Cancel" }).click()
  assert.equal((await ask("HEAD", "shop/two")).headers.get("Stream-Closed"), null)
  await page.getByRole("button", { name: "Close\u2026" }).click()
  await page.getByRole("button", { name: "Close the stream" }).click()
  await page.locator("h1 .badge", { hasText: "closed" }).waitFor()
  assert.equal((await ask("HEAD", "shop/two")).headers.get("Stream-Closed"), "true")
  await page.getByRole("button", { name: "Delete\u2026" }).click()
  await page.getByRole("button", { name: "Delete the stream" }).click()
  await page.getByRole("heading", { name: "Streams" }).waitFor()

  // A long stream: no more than a part at a time, from any place.
  await page.goto(`${url}/inspect#/stream/long`)
  await page.getByText("0 bytes to 256 KiB of 1.0 MiB").waitFor()
  await page.getByRole("button", { name: "Next", exact: true }).click()
  await page.getByText("256 KiB to 512 KiB of 1.0 MiB").waitFor()
  await page.getByRole("button", { name: "Last", exact: true }).click()
  await page.getByText("960 KiB to 1.0 MiB of 1.0 MiB").waitFor()
  await page.goto(`${url}/inspect#/stream/picture`)
  await page.getByText("000000  89 50 4e 47 00 ff").waitFor()

  // What a stream holds is text, whatever it looks like.
  for (const name of ["z/page", "z/json", HOSTILE_NAME]) {
    await page.goto(`${url}/inspect#/stream/${encodeURIComponent(name)}`)
    await page.getByText("onerror").last().waitFor()
  }
  await page.goto(`${url}/inspect#/`)
  await page.getByLabel("Prefix").fill("z/")
  await page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 3)
  assert.equal(await page.evaluate(() => document.querySelectorAll("#app img, #app script, #app iframe").length), 0)
  assert.equal(await page.evaluate(() => window.hacked), undefined)

  // Delete by prefix: counted first.
  await page.getByLabel("Prefix").fill("many/")
  await page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 50)
  await page.getByRole("button", { name: "Delete all with this prefix\u2026" }).click()
  await page.getByRole("button", { name: "Delete 60 streams" }).click()
  await page.getByText("No stream begins with").waitFor()

  // The server and its charts; subscriptions.
  await page.goto(`${url}/inspect#/server`)
  await page.locator("canvas").nth(2).waitFor()
  await page.waitForFunction(() => /now appends [0-9]/.test(document.querySelector("figure [role=img]").getAttribute("aria-label")))
  await picture(page, "inspector-server")
  await page.goto(`${url}/inspect#/subscriptions`)
  await page.getByText("There are none.").waitFor()
  await page.keyboard.press("?")
  await page.getByRole("heading", { name: "Keys" }).waitFor()
  await page.keyboard.press("Escape")

  // A phone, in the dark.
  await page.emulateMedia({ colorScheme: "dark" })
  await page.setViewportSize({ width: 390, height: 800 })
  for (const hash of ["#/", "#/stream/shop%2Forders", "#/server"]) {
    await page.goto(`${url}/inspect${hash}`)
    await page.getByRole("heading", { level: 1 }).waitFor()
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${hash} is wider than a phone`)
  }
  await page.goto(`${url}/inspect#/`)
  await page.getByLabel("Prefix").fill("shop/")
  await page.locator("tbody tr").first().waitFor()
  await picture(page, "inspector-phone")

  // Without a name or a label nothing can be used with a screen reader.
  assert.deepEqual(
    await page.evaluate(() =>
      [...document.querySelectorAll("button, input, textarea, a")]
        .filter((node) => !(node.textContent.trim() || node.ariaLabel || node.labels?.length))
        .map((node) => node.outerHTML)
    ),
    []
  )
  assert.deepEqual(wrong, [])
})
