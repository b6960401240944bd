"""Clients that misbehave, over bare sockets: each ends as it should, and the next is answered."""

import contextlib
import json
import resource
import select
import socket
import time

import pytest
from answers import ASK, chat
from server import Server, raw, read_all

CHAT = "/v1/chat/completions"
SHORT = json.dumps({"model": "tiny", "messages": ASK, "max_tokens": 2, "seed": 1})
LONG = json.dumps({"model": "tiny", "messages": ASK, "max_tokens": 4000, "stream": True,
                   "ignore_eos": True, "repetition_guard": False})
CLOSE = "Connection: close"


def statuses(answer):
    """Of every answer on a connection."""
    return [int(part[:3]) for part in answer.decode(errors="replace").split("HTTP/1.1 ")[1:]]


@pytest.fixture(autouse=True)
def the_next_request_is_answered(server):
    yield
    assert statuses(read_all(server.connect(raw("POST", CHAT, SHORT, CLOSE)))) == [200]


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"\r\n\r\nnonsense\r\n\r\n", [400]),
        (b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n", [400, 505]),
        (b"GET /health HTTP/1.1\r\n\r\n", [400]),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", [400]),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\na b: c\r\n\r\n", [400]),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nA: " + b"a" * 200_000, [431]),
        (b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", [414, 431]),
        (raw("POST", CHAT, SHORT).replace(b"Content-Length: ", b"Content-Length: x"), [400]),
        (raw("POST", CHAT, SHORT, "Transfer-Encoding: chunked"), [400]),
        (raw("POST", CHAT, SHORT, "Content-Length: 5"), [400]),
        (raw("POST", CHAT).replace(b"Length: 0", b"Length: 1073741824")
         .replace(b"\r\n\r\n", b"\r\nContent-Type: application/json\r\n\r\n"), [413]),
    ],
    ids=lambda value: str(value)[:50],
)
def test_what_is_not_http_is_refused(server, sent, expected):
    sock = server.connect()
    begun = b""
    with contextlib.suppress(OSError):
        sock.sendall(sent)
        # Not before there is an answer: an end cancels what is still to be answered.
        begun = sock.recv(1 << 16)
        sock.shutdown(socket.SHUT_WR)
    found = statuses(begun + read_all(sock))
    assert len(found) == 1 and found[0] in expected


def test_a_large_body_is_refused_before_it_is_there(server):
    before = server.memory()
    head = raw("POST", CHAT).replace(
        b"Content-Length: 0", b"Content-Type: application/json\r\nTransfer-Encoding: chunked"
    )
    sock = server.connect(head)
    piece = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
    for sent in range(1 << 10):
        sock.sendall(piece)
        if select.select([sock], [], [], 0)[0]:
            break
    assert sent < 128 and statuses(sock.recv(1 << 16)) == [413]
    assert server.memory() - before < 64 << 20


def test_a_truncated_body_is_nobodys_request(server):
    sock = server.connect(raw("POST", CHAT, SHORT)[:-10])
    sock.shutdown(socket.SHUT_WR)
    assert statuses(read_all(sock)) in ([], [400])


def test_requests_in_a_row_are_answered_in_a_row(server):
    ask = raw("POST", CHAT, SHORT)
    pipeline = [ask, raw("GET", "/health"), raw("POST", CHAT, "{"), raw("GET", "/absent"), ask,
                raw("GET", "/health", b"", CLOSE)]
    answer = read_all(server.connect(b"".join(pipeline)))
    assert statuses(answer) == [200, 200, 400, 404, 200, 200]


def test_a_client_that_only_stops_sending_has_gone(server):
    """A close and a half-close look alike until it is too late."""
    sock = server.connect(raw("POST", CHAT, LONG))
    assert b"200 OK" in sock.recv(1 << 16)
    sock.shutdown(socket.SHUT_WR)
    server.until(lambda: server.metric("qwire_running") == 0, "is idle", 5)


def test_slow_headers_are_cut(server):
    sock = server.connect(b"GET /health HTTP/1.1\r\n")
    start = time.monotonic()
    try:
        while time.monotonic() - start < 30:
            sock.sendall(b"A: b\r\n")
            sock.settimeout(0.5)
            try:
                if not sock.recv(1 << 16):
                    break
            except TimeoutError:
                pass
    except OSError:
        pass
    assert time.monotonic() - start <= 11


def test_a_slow_body_is_cut(server, long):
    if not long:
        pytest.skip("takes half a minute; see --long")
    sock = server.connect(raw("POST", CHAT, SHORT)[:-20])
    start = time.monotonic()
    assert statuses(read_all(sock)) == [408]
    assert time.monotonic() - start <= 31


def test_a_client_that_does_not_read_stops_nobody(server, client, long):
    connections = lambda: server.metric("qwire_connections")
    before, others = server.memory(), connections()
    # Several megabytes of answer, more than what lies between the two.
    verbose = LONG.replace("{", '{"logprobs": true, "top_logprobs": 20, ', 1)
    lazy = [server.connect(raw("POST", CHAT, verbose), window=4096) for _ in range(8)]
    start = time.monotonic()
    assert chat(client, max_tokens=64).usage.completion_tokens == 64
    assert time.monotonic() - start < 5
    assert server.memory() - before < 64 << 20
    if long:
        server.until(lambda: connections() <= others + 1, "cuts who does not read", 75)
    for sock in lazy:
        sock.close()
    server.until(lambda: server.metric("qwire_running") == 0, "is idle", 5)


@pytest.mark.parametrize("name", ["\x1b[31mred", "a b", "x" * 1000, "caf\xe9"])
def test_nothing_is_forged_in_the_log(server, name):
    header = f"X-Request-Id: {name}"
    answer = read_all(server.connect(raw("GET", "/health", b"", header, CLOSE)))
    assert statuses(answer) in ([200], [400]) and name.encode() not in answer
    assert name not in server.said() and "\x1b" not in server.said()


def test_few_descriptors_are_enough():
    """Where no more connections fit, the server waits for one to close, and does not spin."""
    with Server() as server:
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (64, 64))
        many = [server.connect() for _ in range(100)]
        ticks = lambda: sum(map(int, open(f"/proc/{server.process.pid}/stat").read().split()[13:15]))
        before = ticks()
        time.sleep(1)
        assert ticks() - before < 50
        for sock in many:
            sock.close()
        server.until(lambda: server.status("/health") == 200, "answers", 2)
