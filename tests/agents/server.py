"""The real server and engine around a model that follows a script."""

import json
import socket
import subprocess
import time
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[2]
VOCABULARY = ROOT / "assets/qwire-box.gguf"


def built(*command):
    """The executable that cargo builds last for a command."""
    command = ["cargo", *command, "--locked", "--message-format=json"]
    lines = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    rows = [json.loads(line) for line in lines.splitlines() if line.startswith("{")]
    return [row["executable"] for row in rows if row.get("executable")][-1]


class Scripted:
    """A running server; leaving its `with` ends it."""

    def __init__(self, binary, script, folder):
        path = folder / "script.json"
        path.write_text(json.dumps(script))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.log = (folder / "server.log").open("w+")
        command = [binary, "serve", VOCABULARY, path, str(port)]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        end = time.monotonic() + 30
        while not self.ready():
            assert self.process.poll() is None and time.monotonic() < end, self.said()
            time.sleep(0.02)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def ready(self):
        try:
            return httpx.get(f"{self.url}/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def said(self):
        self.log.flush()
        return Path(self.log.name).read_text()

    def requests(self):
        """What the log says of each request for an answer."""
        rows = [json.loads(line) for line in self.said().splitlines() if line.startswith("{")]
        rows = [row for row in rows if row.get("message") == "request"]
        return [row for row in rows if row["method"].strip('"') == "POST"]
