// The official suite against the server whose address is in the environment. Its own command line does not start
// with the vitest that it asks for, so its tests are registered from here.
import { runConformanceTests } from "@durable-streams/server-conformance-tests"

const baseUrl = process.env.CONFORMANCE_BASE_URL
if (!baseUrl) throw new Error("CONFORMANCE_BASE_URL is not set: run this through pytest")

runConformanceTests({
  baseUrl,
  // As long as the server's own time-out, or the suite passes over the answer 204 without having seen it.
  longPollTimeoutMs: Number(process.env.CONFORMANCE_LONG_POLL_MS),
  subscriptions: true,
})
