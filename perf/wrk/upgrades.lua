-- WebSocket upgrades: the arguments are the API key and the user.
--
--   wrk -t1 -c64 -d5s -s perf/wrk/upgrades.lua http://127.0.0.1:8080 -- "$KEY" alice
--
-- wrk knows no WebSockets: it takes the 101 for an answer and sends the next request behind it, which is no frame, so
-- the gateway closes with 1002 and wrk connects anew. `requests` are upgrades, each with the end of its connection;
-- `lost` are those ends, about as many. `carillon-load connect` measures upgrades without that. The last line is one JSON object.
function init(args)
    wrk.headers["X-API-Key"] = args[1]
    wrk.headers["X-User-Id"] = args[2]
    wrk.headers["Connection"] = "Upgrade"
    wrk.headers["Upgrade"] = "websocket"
    wrk.headers["Sec-WebSocket-Version"] = "13"
    wrk.headers["Sec-WebSocket-Key"] = "dGhlIHNhbXBsZSBub25jZQ=="
    upgrade = wrk.format("GET", "/ws")
end

function request()
    return upgrade
end

function done(summary, latency)
    local e = summary.errors
    io.write(string.format('{"requests":%d,"seconds":%.6f,"failed":%d,"lost":%d,"p50_us":%d,"p99_us":%d}\n',
        summary.requests, summary.duration / 1e6, e.status, e.connect + e.read + e.write + e.timeout,
        latency:percentile(50), latency:percentile(99)))
end
