-- Reads over HTTP, in turns, on connections that are kept: the arguments are the API key, the user, and the paths.
--
--   wrk -t1 -c64 -d5s -s perf/wrk/rest.lua http://127.0.0.1:8080 -- "$KEY" alice /v1/rooms "/v1/rooms/$ROOM/messages"
--
-- Without a key (-) only /health and the like can be read. The last line is one JSON object.
local requests, turn = {}, 0

function init(args)
    if args[1] and args[1] ~= "-" then
        wrk.headers["X-API-Key"] = args[1]
        wrk.headers["X-User-Id"] = args[2]
    end
    for i = 3, #args do requests[#requests + 1] = wrk.format("GET", args[i]) end
    if #requests == 0 then requests[1] = wrk.format("GET", "/health") end
end

function request()
    turn = turn % #requests + 1
    return requests[turn]
end

function done(summary, latency)
    local e = summary.errors
    io.write(string.format(
        '{"requests":%d,"seconds":%.6f,"failed":%d,"lost":%d,"p50_us":%d,"p90_us":%d,"p99_us":%d,"max_us":%d}\n',
        summary.requests, summary.duration / 1e6, e.status, e.connect + e.read + e.write + e.timeout,
        latency:percentile(50), latency:percentile(90), latency:percentile(99), latency.max))
end
