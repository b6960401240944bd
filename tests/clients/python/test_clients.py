"""What clients do beside asking: retries, timeouts, going away, many streams at once."""

import asyncio
import time

import openai
import pytest
from answers import ASK, chat, said
from server import Server

SLOW = {"model": "tiny", "messages": ASK, "max_tokens": 4000, "stream": True,
        "extra_body": {"ignore_eos": True, "repetition_guard": False}}


def test_headers_say_who_answered(client):
    raw = client.chat.completions.with_raw_response
    ask = lambda **more: raw.create(model="tiny", messages=ASK, max_tokens=1, **more).headers
    assert ask(extra_headers={"x-request-id": "mine-1"})["x-request-id"] == "mine-1"
    one, two = ask(), ask()
    assert one["x-request-id"] != two["x-request-id"]
    assert one["x-prompt-hash"] == two["x-prompt-hash"]
    assert one["content-type"] == "application/json"
    assert ask(stream=True)["content-type"].startswith("text/event-stream")


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_has_a_line_in_the_log(server, client, stream):
    name = f"mine-{stream}"
    answer = said(chat(client, stream=stream, extra_headers={"x-request-id": name}))
    assert answer[0].finish == "length"
    lines = lambda: [line for line in server.said().splitlines() if name in line]
    server.until(lines, "tells of an answer", 2)
    (line,) = lines()
    for part in ["/v1/chat/completions", "status=200", "tokens=16", "prompt=", "cached=", "ttft_ms="]:
        assert part in line
    assert "prompt=0" not in line


def test_32_streams_at_once_say_what_they_say_alone(server, client):
    ask = lambda seed: {"seed": seed, "max_tokens": 48, "logprobs": True}

    async def one(asynchronous, seed):
        stream = await chat(asynchronous, stream=True, **ask(seed))
        return [chunk async for chunk in stream]

    async def crowd():
        async with server.client(asynchronous=True) as asynchronous:
            return await asyncio.gather(*(one(asynchronous, seed) for seed in range(32)))

    for seed, chunks in enumerate(asyncio.run(crowd())):
        assert said(iter(chunks)) == said(chat(client, **ask(seed))), seed


def test_a_stream_can_be_left(server, client):
    with chat(client, **SLOW) as stream:
        next(iter(stream))
        assert server.metric("qwire_running") == 1
    server.until(lambda: server.metric("qwire_running") == 0, "is idle", 5)


@pytest.fixture(scope="module")
def narrow():
    with Server("--parallel", "1", "--queue", "1") as server:
        yield server


def fill(narrow):
    """One answer under way and one that waits."""
    streams = [chat(narrow.client(), **SLOW)]
    narrow.until(lambda: narrow.metric("qwire_running") == 1, "answers")
    return [*streams, chat(narrow.client(), **SLOW)]


def test_a_full_queue_is_told_and_tried_again(narrow):
    streams = fill(narrow)
    with pytest.raises(openai.RateLimitError) as fault:
        chat(narrow.client())
    wait = fault.value.response.headers["retry-after"]
    assert wait.isdigit() and 1 <= int(wait) <= 60
    for stream in streams:
        stream.close()
    # A client that tries again gets through once there is room.
    assert chat(narrow.client(max_retries=3)).choices


def test_a_client_waits_as_long_as_it_is_told(narrow):
    streams = fill(narrow)
    start = time.monotonic()
    with pytest.raises(openai.RateLimitError):
        chat(narrow.client(max_retries=1))
    assert time.monotonic() - start > 0.9
    for stream in streams:
        stream.close()
