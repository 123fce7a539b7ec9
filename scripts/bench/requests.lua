-- wrk -s requests.lua URL -- BODY_BYTES|FILE [TOKEN]
-- Posts one body over and over: so many of the bytes that wire.h describes, or a file, which is Codex's request. wrk sees
-- that the request never changes and composes it once. Prints one line of JSON.
function init(arguments)
  wrk.method = "POST"
  local length = tonumber(arguments[1])
  if length then
    local bytes = {}
    for at = 0, length - 1 do bytes[#bytes + 1] = string.char((at * 167 + math.floor(at / 256) * 13) % 256) end
    wrk.body = table.concat(bytes)
  else
    local file = assert(io.open(arguments[1], "rb"))
    wrk.body = file:read("*a")
    file:close()
    wrk.headers["Accept"] = "text/event-stream"
    wrk.headers["X-Bench"] = "codex"
  end
  wrk.headers["Content-Type"] = "application/json"
  if arguments[2] then wrk.headers["Authorization"] = "Bearer " .. arguments[2] end
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"seconds":%f,"bytes":%d,"p50Ms":%f,"p99Ms":%f,"maxMs":%f,"refused":%d,"broken":%d}\n',
    summary.requests, summary.duration / 1e6, summary.bytes,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
