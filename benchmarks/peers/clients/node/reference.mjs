// The Node reference server: node reference.mjs PORT [DATA_DIR]; with a folder it keeps streams in files.
import { DurableStreamTestServer } from "@durable-streams/server"

const [port, dataDir] = process.argv.slice(2)
const server = new DurableStreamTestServer({ port: Number(port), host: "127.0.0.1", dataDir })
await server.start()
