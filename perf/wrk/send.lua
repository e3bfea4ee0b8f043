-- Messages by REST, each with a client_id of its own and answered when it is on disk: the arguments are the API key,
-- the user who sends, and the room.
--
--   wrk -t1 -c64 -d5s -s perf/wrk/send.lua http://127.0.0.1:8080 -- "$KEY" alice "$ROOM"
--
-- The last line is one JSON object.
local CONTENT_BYTES = 128
local path, run, number

function init(args)
    path = "/v1/rooms/" .. args[3] .. "/messages"
    wrk.headers["X-API-Key"] = args[1]
    wrk.headers["X-User-Id"] = args[2]
    wrk.headers["Content-Type"] = "application/json"
    run, number = string.format("%x-%p", os.time(), wrk), 0
end

local content = string.rep("a", CONTENT_BYTES)

function request()
    number = number + 1
    return wrk.format("POST", path, nil,
                      '{"content":"' .. content .. '","client_id":"' .. run .. "-" .. number .. '"}')
end

function done(summary, latency)
    local e = summary.errors
    io.write(string.format(
        '{"requests":%d,"seconds":%.6f,"failed":%d,"lost":%d,"p50_us":%d,"p90_us":%d,"p99_us":%d,"max_us":%d}\n',
        summary.requests, summary.duration / 1e6, e.status, e.connect + e.read + e.write + e.timeout,
        latency:percentile(50), latency:percentile(90), latency:percentile(99), latency.max))
end
