"""A server of our own: `qwire serve` on a synthetic model, started, watched and ended by tests."""

import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import httpx
from openai import AsyncOpenAI, OpenAI

ROOT = Path(__file__).resolve().parents[3]
BINARY = os.environ.get("QWIRE_BIN") or str(ROOT / "target/release/qwire")
MODELS = ROOT / "target/clients/models"
# Width 1,024: what differs between batches shows there, and not in tiny dimensions.
SHAPE = "tiny-moe"


def synthetic(shape=SHAPE, *flags):
    """The path of a model with random weights."""
    MODELS.mkdir(parents=True, exist_ok=True)
    path = MODELS / f"{'-'.join([shape, *flags]).replace('--', '')}.gguf"
    if not path.exists():
        subprocess.run([BINARY, "synth", shape, "-o", path, "--quiet", *flags], check=True)
    return path


class Server:
    """A running server; leaving its `with` ends it."""

    def __init__(self, *flags, model=None, ready=True, environment=None):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = free.getsockname()
        self.root = f"http://127.0.0.1:{self.address[1]}"
        self.log = tempfile.TemporaryFile()
        place = ["--port", str(self.address[1]), "--pack", "never", "--name", "tiny"]
        command = [BINARY, "serve", model or synthetic(), *place, *flags]
        variables = {name: value for name, value in os.environ.items() if "QWIRE" not in name}
        # What an earlier run computed is found only where that is what is tested.
        variables |= {"QWIRE_DISK_CACHE": "off"} | (environment or {})
        self.process = subprocess.Popen(
            command, stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL, env=variables
        )
        if ready:
            self.until(lambda: self.status("/readyz") == 200, "is ready")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def status(self, path):
        """The status of a page, or none where nobody answers."""
        try:
            return httpx.get(self.root + path, timeout=10).status_code
        except httpx.TransportError:
            return None

    def until(self, true, what, seconds=30):
        """Waits for something to become true."""
        end = time.monotonic() + seconds
        while not true():
            code = self.process.poll()
            assert code is None, f"the server ended with {code}:\n{self.said()}"
            assert time.monotonic() < end, f"no server that {what} in {seconds} s:\n{self.said()}"
            time.sleep(0.01)

    def said(self):
        """What it wrote to its terminal."""
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def client(self, asynchronous=False, **options):
        """An official client that gives up at the first fault, unless it shall not."""
        options = {"api_key": "none", "max_retries": 0, "timeout": 60, **options}
        make = AsyncOpenAI if asynchronous else OpenAI
        return make(base_url=f"{self.root}/v1", **options)

    def http(self, **options):
        """A plain client."""
        return httpx.Client(base_url=self.root, timeout=60, **options)

    def connect(self, first=b"", window=None):
        """A bare connection that has sent something, and takes as little as its window."""
        sock = socket.socket()
        if window:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        sock.settimeout(60)
        sock.connect(self.address)
        sock.sendall(first)
        return sock

    def metric(self, name):
        """The sum of a metric over its labels."""
        text = httpx.get(f"{self.root}/metrics", timeout=10).text
        found = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE)
        assert found, f"no metric {name} in:\n{text}"
        return sum(map(float, found))

    def memory(self):
        """Bytes of this process in memory that no file backs."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"RssAnon:\s+(\d+) kB", status)[1]) * 1024

    def end(self, number=signal.SIGTERM):
        """Asks it to end."""
        self.process.send_signal(number)


def raw(method, path, body=b"", *headers):
    """The bytes of a request."""
    body = body.encode() if isinstance(body, str) else body
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
    if body:
        lines.append("Content-Type: application/json")
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


def read_all(sock):
    """Everything until the other side ends."""
    pieces = []
    while piece := sock.recv(1 << 16):
        pieces.append(piece)
    return b"".join(pieces)
