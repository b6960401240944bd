"""A server under measurement: starts it, asks it, kills it."""

import http.client
import json
import signal
import subprocess
import time


class Server:
    """A process that speaks HTTP on a port of this machine."""

    def __init__(self, command, port, ready="/readyz"):
        self.command, self.port, self.ready = command, port, ready
        self.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def start(self):
        """Starts it, and waits until it answers that it is ready."""
        self.process = subprocess.Popen(
            self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.until(self.ready, lambda answer: answer.status == 200)

    def until(self, path, true):
        while True:
            assert self.process.poll() is None, "the server ended"
            try:
                if true(self.request("GET", path)):
                    return
            except OSError:
                pass
            time.sleep(0.01)

    def request(self, method, path, body=None):
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=7200)
        headers = {"Content-Type": "application/json"}
        link.request(method, path, body and json.dumps(body), headers)
        return link.getresponse()

    def page(self, path):
        """What it says of itself."""
        return self.request("GET", path).read().decode()

    def lines(self, path, body):
        """Lines of a stream."""
        answer = self.request("POST", path, {**body, "stream": True})
        assert answer.status == 200, answer.read()
        return answer

    def events(self, path, body):
        """Objects of a stream, as they come."""
        for line in self.lines(path, body):
            if line.startswith(b"data: {"):
                yield json.loads(line[6:])

    def kill(self):
        """With SIGKILL: nothing is tidied up."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
