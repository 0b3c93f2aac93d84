// A person in a real browser: sends a message, refreshes in the middle of the answer, opens a second tab, is away for a
// while; and somebody else, who must see nothing of it. Arguments: the URL of the chat, and the browser's program.

import assert from "node:assert/strict"
import { chromium } from "playwright-core"

const [url, executablePath] = process.argv.slice(2)
// As root, which containers are, Chromium does not start with its sandbox.
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"], timeout: 120_000 })
// On a crowded machine everything takes longer; nothing here depends on how long.
const PATIENCE_MS = 120_000
const newPerson = async () => {
  const context = await browser.newContext()
  context.setDefaultTimeout(PATIENCE_MS)
  return context
}
const person = await newPerson()

const say = (word) => fetch(`${url}/say${word === null ? "" : `?word=${encodeURIComponent(word)}`}`, { method: "POST" })
const open = async (context) => {
  const page = await context.newPage()
  await page.goto(url)
  return page
}
// The texts of all messages, as soon as they are these.
const expectTexts = async (page, expected) => {
  const shown = () => [...document.querySelectorAll("li")].map((item) => item.textContent)
  try {
    await page.waitForFunction(
      (texts) => JSON.stringify([...document.querySelectorAll("li")].map((item) => item.textContent)) === texts,
      JSON.stringify(expected)
    )
  } catch (error) {
    assert.deepEqual(await page.evaluate(shown), expected, error.message)
  }
}

try {
  const page = await open(person)
  await page.fill("#text", "Hello <b>there</b>")
  await page.press("#text", "Enter")
  await say("Good ")
  await say("morning")
  await expectTexts(page, ["Hello <b>there</b>", "Good morning"])
  assert.equal(await page.locator("li.assistant").getAttribute("aria-busy"), "true")

  // A refresh in the middle of the answer: what was there is there, and the rest follows.
  await page.reload()
  await expectTexts(page, ["Hello <b>there</b>", "Good morning"])
  await say(", you")
  await expectTexts(page, ["Hello <b>there</b>", "Good morning, you"])

  // A second tab of the same person follows too.
  const second = await open(person)
  await say(".")
  await say(null)
  for (const tab of [page, second]) {
    await expectTexts(tab, ["Hello <b>there</b>", "Good morning, you."])
    await tab.waitForSelector('li.assistant[aria-busy="false"]')
  }

  // A tab that was away catches up without a loss and without a repetition.
  await page.goto("about:blank")
  await second.fill("#text", "And now?")
  await second.press("#text", "Enter")
  await say("Now this.")
  await say(null)
  await page.goBack()
  for (const tab of [page, second])
    await expectTexts(tab, ["Hello <b>there</b>", "Good morning, you.", "And now?", "Now this."])

  // Somebody else has a chat of his own, and cannot read this one.
  const theirs = await page.evaluate(() => document.documentElement.outerHTML.match(/"([^"?]*\/streams\/[^"?]*)/)[1])
  const other = await open(await newPerson())
  await other.waitForSelector("#messages", { state: "attached" })
  await expectTexts(other, [])
  const status = (page, method) =>
    page.evaluate(([address, method]) => fetch(address, { method }).then((response) => response.status), [theirs, method])
  assert.equal(await status(other, "GET"), 403)
  assert.equal(await status(page, "GET"), 200)
  // Nobody writes from a browser, not even the owner.
  for (const method of ["POST", "PUT", "DELETE"]) assert.equal(await status(page, method), 405)
} finally {
  await browser.close()
}
console.log("all seen")
