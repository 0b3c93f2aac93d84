-- One script for all plain loads of wrk, told by BENCH_ variables: METHOD, PATH with %d for the number of a stream,
-- STREAMS of them beginning after FIRST, and for requests with a body its file in BODY and its content type in TYPE.
local path, streams = os.getenv("BENCH_PATH"), tonumber(os.getenv("BENCH_STREAMS"))
wrk.method = os.getenv("BENCH_METHOD")
local body_file = os.getenv("BENCH_BODY")
if body_file then
  local file = assert(io.open(body_file, "rb"))
  wrk.body = file:read("*a")
  file:close()
  wrk.headers["Content-Type"] = os.getenv("BENCH_TYPE")
end

local requests, next_request = {}, tonumber(os.getenv("BENCH_FIRST"))

function init(args)
  for number = 1, streams do
    requests[number] = wrk.format(nil, string.format(path, number))
  end
end

function request()
  next_request = next_request % streams + 1
  return requests[next_request]
end

function done(summary, latency, counted)
  local errors = summary.errors
  io.write(string.format(
    '\nRESULT {"requests": %d, "seconds": %.6f, "p50_ms": %.3f, "p99_ms": %.3f, "errors": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
