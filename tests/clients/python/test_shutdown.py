"""How a server ends: streams under way are finished, others are told, the exit status is 0."""

import asyncio
import time

import openai
import pytest
from answers import ASK, chat, said
from server import Server

LONG = {"max_tokens": 3000, "extra_body": {"ignore_eos": True, "repetition_guard": False}}


async def listen(client, seed, started=None, **fields):
    """The chunks of a stream."""
    chunks = []
    async for chunk in await chat(client, stream=True, seed=seed, **fields):
        chunks.append(chunk)
        if started is not None and len(chunks) == 3:
            started.append(seed)
    return chunks


def test_streams_under_way_are_finished():
    fields = {"max_tokens": 150, "logprobs": True, "extra_body": LONG["extra_body"]}
    with Server() as server:
        async def run(end):
            started = []
            async with server.client(asynchronous=True) as client:
                streams = [asyncio.create_task(listen(client, seed, started, **fields))
                           for seed in range(32)]
                while len(started) < 32:
                    await asyncio.sleep(0.001)
                if end:
                    server.end()
                    refused = await late(client)
                    assert refused.status_code == 503
                    assert 1 <= int(refused.response.headers["retry-after"]) <= 60
                return [said(iter(await stream)) for stream in streams]

        async def late(client):
            deadline = time.monotonic() + 0.5
            while time.monotonic() < deadline:
                try:
                    await chat(client, max_tokens=1)
                except openai.InternalServerError as fault:
                    return fault
            raise AssertionError("a server that ends takes requests")

        undisturbed = asyncio.run(run(end=False))
        assert asyncio.run(run(end=True)) == undisturbed
        assert server.process.wait(10) == 0


def test_readiness_ends_first():
    with Server() as server:
        stream = iter(chat(server.client(), stream=True, **LONG))
        next(stream)
        server.end()
        server.until(lambda: server.status("/readyz") == 503, "is unready", 1)
        assert server.status("/health") == 200
        for _ in stream:
            pass
        assert server.process.wait(10) == 0


@pytest.mark.parametrize(("drain", "signals", "seconds"), [("1", 1, 2.5), ("60", 2, 1)])
def test_what_does_not_finish_is_told(drain, signals, seconds):
    with Server("--drain", drain) as server:
        streams = [chat(server.client(), stream=True, **LONG) for _ in range(24)]
        iterators = [iter(stream) for stream in streams]
        for stream in iterators:
            next(stream)
        start = time.monotonic()
        for _ in range(signals):
            server.end()
            time.sleep(0.05)
        if signals == 1:
            with pytest.raises(openai.APIError):
                for stream in iterators:
                    for _ in stream:
                        pass
        code = server.process.wait(10)
        assert time.monotonic() - start < seconds
        assert signals > 1 or code == 0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--port", "notaport"], "port"),
        (["--frog"], "--frog"),
        (["--api-key-file", "/absent"], "/absent"),
    ],
)
def test_what_cannot_start_says_why(flags, words):
    server = Server(*flags, ready=False)
    assert server.process.wait(5) != 0
    assert words in server.said() and "panicked" not in server.said()


def test_a_port_or_a_model_that_is_not_there():
    with Server() as server:
        second = Server("--port", str(server.address[1]), ready=False)
        assert second.process.wait(5) == 1 and str(server.address[1]) in second.said()
    absent = Server(model="/absent.gguf", ready=False)
    assert absent.process.wait(5) == 1 and "/absent.gguf" in absent.said()
