// Reads a whole stream with the official JavaScript client, in one session that is not live.
// Arguments: KIND (text, bytes, json), URL, RESULT file.
import { writeFile } from "node:fs/promises"
import { stream } from "@durable-streams/client"

const [kind, url, resultPath] = process.argv.slice(2)
const session = await stream({ url, offset: "-1", live: false, warnOnHttp: false })
if (kind === "json") {
  const items = await session.json()
  await writeFile(resultPath, "[" + items.map((item) => JSON.stringify(item)).join(",") + "]")
} else if (kind === "text") await writeFile(resultPath, await session.text())
else await writeFile(resultPath, Buffer.from(await session.body()))
