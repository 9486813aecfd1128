"""A tiny app whose health, start and answers are told by its environment: what releases are tested with."""

from __future__ import annotations

import json
from pathlib import Path

from suite import write

DOCKERFILE = """FROM python:3.11-slim-bookworm
WORKDIR /srv
COPY . .
CMD ["python", "-u", "app.py"]
"""

APP = """import http.server, json, os, signal, socketserver, sys, threading, time

MODE, VALUE = os.environ.get("MODE", "healthy"), os.environ.get("VALUE", "")
print("starting as", MODE, flush=True)
if MODE == "crash":
    print("boom: the app gives up", flush=True)
    sys.exit(7)


def harm():  # some seconds after the start; at once it keeps the app from listening
    time.sleep(AFTER)
    if MODE == "dies":
        print("bye: the app dies in the middle of its work", flush=True)
        os._exit(9)
    held = []
    while MODE == "hungry":
        held.append(b"x" * (1 << 20))
        time.sleep(0.01)
    while MODE == "silent":
        time.sleep(1)


AFTER = float(os.environ.get("AFTER", "0"))
if AFTER:
    threading.Thread(target=harm, daemon=True).start()
else:
    harm()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path.startswith("/slow"):  # /slow: 2 s, /slow/10: 10 s
            time.sleep(float(self.path[6:] or 2))
        status = {"broken": 500, "missing": 404}.get(MODE, 200) if self.path == "/health" else 200
        body = json.dumps({"value": VALUE, "mode": MODE, "code": CODE}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads, request_queue_size, allow_reuse_address = False, 128, True


server = Server(("0.0.0.0", 8080), Handler)
# Out of the handler: shutdown waits for the loop that the handler interrupts. Open requests are finished.
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever()
server.server_close()
"""


def plant(directory: Path, machine: str, *, app: str = "tiny", host: str = "", **env: str) -> None:
    """Writes the app, its rehost.toml and its env file."""
    domain = f'[domain]\nname = "{host}"\n' if host else ""
    write(
        directory,
        {
            "app.py": APP.replace("CODE", '"one"'),
            "Dockerfile": DOCKERFILE,
            ".dockerignore": ".env*\nrehost.toml\n.rehost\n",
            "rehost.toml": f'app = "{app}"\n{machine}\n[run]\nport = 8080\nhealth = "/health"\n'
            f'health_deadline = "20s"\nmemory = "64MB"\nstop_grace = "5s"\n[env]\nfiles = [".env.prod"]\n{domain}',
        },
    )
    set_env(directory, **env)


# In a shell on the machine: the container that serves. The one before it may still be ending.
_LIVE = "/var/lib/rehost/tiny/live"
SERVING = f"tiny-$(cat {_LIVE}/b 2>/dev/null || cat {_LIVE}/a)"


def body(value: str, *, mode: str = "healthy", code: str = "one") -> bytes:
    """What the app answers."""
    return json.dumps({"value": value, "mode": mode, "code": code}).encode()


def set_env(directory: Path, **env: str) -> None:
    write(directory, {".env.prod": "".join(f"{name}='{value}'\n" for name, value in env.items())})


def set_code(directory: Path, code: str) -> None:
    text = (directory / "app.py").read_text()
    start = text.index('"code": ') + len('"code": ')
    end = text.index("}", start)
    (directory / "app.py").write_text(f'{text[:start]}"{code}"{text[end:]}')


GCE = '[machine]\nprovider = "gce"\nzone = "us-west1-a"\ntype = "e2-micro"\n'
