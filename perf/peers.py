"""The servers that a gateway is compared with, each started with a configuration and a directory of its own on the
server's CPU: uWebSockets, nginx with and without nchan, the npm packages ws and socket.io, Redis. What is not installed is
Absent, by name and with what to do about it; nothing is downloaded here.

    with peers.serve("nchan", build) as peer:
        print(peer.title, peer.url, peer.pid)"""
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import lab

PEERS = os.path.join(lab.ROOT, "perf", "peers")
NGINX_MODULE = "/usr/lib/nginx/modules/ngx_nchan_module.so"
READY_S = 15
STOP_S = 10
HEALTH_BODY_BYTES = 177  # of what a gateway answers; the peers' answer is as long
HEALTH_BODY = '{"status":"ok","pad":"' + "." * (HEALTH_BODY_BYTES - 24) + '"}'


class Absent(Exception):
    """It is not installed; the text says what is missing."""


class Peer:
    """A server that runs; `dialect` is what carillon-load speaks with it, None when it broadcasts nothing."""

    def __init__(self, title, process, port, dialect):
        self.title, self.process, self.port, self.dialect = title, process, port, dialect

    @property
    def pid(self):
        return self.process.pid

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"


def cpu_ns(pid):
    """CPU time of all threads of a process so far, by its CPU clock (clock_getcpuclockid(3): ~pid << 3 | 2)."""
    return time.clock_gettime_ns(~pid << 3 | 2)


@contextlib.contextmanager
def serve(name, build, parent=None):
    """The peer of that name, ended at the end; what it writes lies in `parent`, on the disk that a gateway is measured
    on. Absent when it is not installed, lab.Failure when it does not start."""
    directory = tempfile.mkdtemp(prefix="carillon-peer-", dir=parent)
    process = None
    try:
        title, command, port, dialect = STARTERS[name](directory, build)
        log_path = os.path.join(directory, "log")
        with open(log_path, "wb") as log:
            process = lab.start(command, lab.cpus()[0], stdout=log, stderr=log, cwd=directory, env=_environment())
        port = _ready(name, process, port, log_path)
        yield Peer(title, process, port, dialect)
        if process.poll() is not None:
            raise lab.Failure(f"{name} ended by itself: {_tail(log_path)}")
    finally:
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            lab.end(process, STOP_S)
        shutil.rmtree(directory, ignore_errors=True)


def _environment():
    return {**os.environ, "PEER_HEALTH_BODY": HEALTH_BODY, "NODE_ENV": "production"}


def _ready(name, process, port, log_path):
    """The port on which it serves: the given one, else what it says in its log."""
    until = time.monotonic() + READY_S
    while time.monotonic() < until and process.poll() is None:
        said = re.search(r"^port (\d+)$", _tail(log_path), re.MULTILINE)
        if port is None and said:
            port = int(said[1])
        if port is not None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return port
        time.sleep(0.02)
    if process.poll() == 77:
        raise Absent(_tail(log_path).strip())
    raise lab.Failure(f"{name} does not serve: {_tail(log_path)}")


def _tail(path):
    with open(path, "rb") as log:
        return log.read()[-2000:].decode(errors="replace")


def _free_port():
    """A port that nobody has: for programs that cannot say which one the kernel gave them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _installed(program, package):
    path = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin")
    if path is None:
        raise Absent(f"{program} is not installed (tools/bootstrap --perf, package {package})")
    return path


def _version(pattern, command):
    said = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    found = re.search(pattern, said.stdout + said.stderr)
    return found[1] if found else "?"


# --- how each is started: (title, command, port or None, dialect) ---------------------------------------------------


def _uws(_, build):
    library = os.environ.get("CARILLON_UWS_LIBRARY", "")
    if not library:
        raise Absent("CARILLON_UWS_LIBRARY does not name uWebSockets as a shared library (perf/README.md)")
    program = os.path.join(os.path.abspath(build), "perf", "peers", "uws_peer")
    if not os.access(program, os.X_OK):
        raise Absent(f"{program} is not built")
    return "uWebSockets (libuv)", [program], None, "websocket"


def _nginx_configuration(directory, port, nchan):
    """One process: `master_process off` leaves out nothing that serves, and it ends with us."""
    lines = [f"load_module {NGINX_MODULE};"] if nchan else []
    lines += ["daemon off;", "master_process off;", "user root;" if os.geteuid() == 0 else "",
              f"pid {directory}/pid;", f"error_log {directory}/error.log warn;",
              "worker_rlimit_nofile 20000;", "events { worker_connections 19000; }", "http {", "access_log off;",
              "keepalive_requests 1000000000;", "keepalive_timeout 300s;", "tcp_nodelay on;",
              "default_type application/json;"]
    lines += [f"{kind}_temp_path {directory}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")]
    lines += ["nchan_shared_memory_size 256M;"] if nchan else []
    lines += ["server {", f"listen 127.0.0.1:{port} backlog=4096;",
              "location = /health { return 200 '" + HEALTH_BODY + "'; }"]
    if nchan:
        lines += ["location ~ ^/room/(\\w+)$ { nchan_pubsub websocket; nchan_channel_id $1; nchan_store_messages off;",
                  "nchan_subscriber_first_message newest; }"]
    path = os.path.join(directory, "nginx.conf")
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join([*lines, "}", "}"]) + "\n")
    return path


def _nginx(directory, _, nchan=False):
    program, port = _installed("nginx", "nginx-light"), _free_port()
    version = _version(r"nginx/(\S+)", [program, "-v"])
    command = [program, "-p", directory, "-e", f"{directory}/error.log", "-c", _nginx_configuration(directory, port, nchan)]
    return f"nginx {version}" + (" with nchan" if nchan else ""), command, port, "websocket" if nchan else None


def _nchan(directory, build):
    if not os.path.exists(NGINX_MODULE):
        raise Absent(f"{NGINX_MODULE} is not installed (tools/bootstrap --perf, package libnginx-mod-nchan)")
    return _nginx(directory, build, nchan=True)


def _npm(package, script, dialect):
    def starter(*_):
        node = _installed("node", "nodejs")
        manifest = os.path.join(PEERS, "node_modules", package, "package.json")
        if not os.path.exists(manifest):
            raise Absent(f"npm package {package} is not installed (tools/bootstrap --perf)")
        with open(manifest, encoding="utf-8") as file:
            version = re.search(r'"version": "([^"]+)"', file.read())[1]
        return f"{package} {version}, Node.js {_version('v([0-9.]+)', [node, '--version'])}", \
            [node, os.path.join(PEERS, script)], None, dialect
    return starter


def _redis(directory, _):
    """Every command is on disk before its answer; no snapshots and no rewriting beside the measurement."""
    program, port = _installed("redis-server", "redis-server"), _free_port()
    _installed("redis-benchmark", "redis-tools")
    options = {"bind": "127.0.0.1", "port": port, "dir": directory, "appendonly": "yes", "appendfsync": "always",
               "auto-aof-rewrite-percentage": 0, "save": "", "daemonize": "no", "loglevel": "warning"}
    path = os.path.join(directory, "redis.conf")
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(f'{name} "{value}"\n' for name, value in options.items())
    version = _version(r"v=(\S+)", [program, "--version"])
    return f"Redis {version}, appendfsync always", [program, path], port, None


STARTERS = {
    "uws": _uws,
    "nchan": _nchan,
    "nginx": _nginx,
    "ws": _npm("ws", "ws.mjs", "websocket"),
    "socket.io": _npm("socket.io", "socket.io.mjs", "socket.io"),
    "redis": _redis,
}
