"""Load: many streams, many connections, clients that leave at any moment; short unless --long."""

import asyncio
import random
import time

import pytest
from answers import chat, said
from server import Server, raw, read_all
from test_faults import CHAT, CLOSE, SHORT, statuses

STREAMS = 64


def turn(text, role="user"):
    return {"role": role, "content": text}


@pytest.fixture(scope="module")
def loaded():
    with Server("--memory", "1G") as server:
        yield server


def idle(server):
    """Nobody runs or waits, and every page is free or kept for later; how many there are."""
    server.until(
        lambda: server.metric("qwire_running") + server.metric("qwire_waiting")
        == 0, "is idle", 10)
    with server.http() as http:
        pages = http.get("/v1/cache").json()["pages"]
    assert pages["free"] + pages["cached"] == pages["total"] and pages["idle"] == pages["cached"]
    return pages


def test_64_streams_beside_1000_idle_connections(loaded, long):
    client = loaded.client()
    ask = lambda seed: {"seed": seed, "max_tokens": 64, "logprobs": True}
    expected = [said(chat(client, **ask(seed))) for seed in range(STREAMS)]
    crowd = [loaded.connect(raw("GET", "/health")) for _ in range(1000)]
    assert all(b"200 OK" in sock.recv(1 << 16) for sock in crowd)
    end = time.monotonic() + (300 if long else 8)
    memory = []

    async def listen(client, seed):
        while time.monotonic() < end:
            chunks = [chunk async for chunk in await chat(client, stream=True, **ask(seed))]
            assert said(iter(chunks)) == expected[seed], "a token was lost, doubled or changed"
            memory.append(loaded.memory())

    async def crowded():
        async with loaded.client(asynchronous=True) as client:
            await asyncio.gather(*(listen(client, seed) for seed in range(STREAMS)))

    asyncio.run(crowded())
    settled = memory[len(memory) // 4 :]
    assert max(settled) - settled[0] <= 0.02 * settled[0] + (4 << 20), "memory grows"
    for sock in crowd:
        sock.close()
    idle(loaded)


def test_clients_leave_at_any_moment(loaded, long):
    """While they ask, wait, are read or are answered."""
    total, at_once = (10_000, 64) if long else (600, 32)
    draw = random.Random(5)
    turns = iter(range(total))

    async def leave():
        for at in turns:
            length = draw.choice([1, 30, 1500])
            body = SHORT.replace("Why", f"{at} " + "kane" * length)
            body = body.replace('"max_tokens": 2', '"max_tokens": 400')
            body = body.replace("{", f'{{"stream": {draw.choice(["true", "false"])}, ', 1)
            request = raw("POST", CHAT, body)
            reader, writer = await asyncio.open_connection(*loaded.address)
            writer.write(request[: draw.choice([len(request), len(request), len(request) // 2])])
            try:
                async with asyncio.timeout(draw.choice([0, 0.003, 0.03, 0.2])):
                    await reader.read()
            except TimeoutError:
                pass
            draw.choice([writer.close, writer.transport.abort])()

    async def crowd():
        await asyncio.gather(*(leave() for _ in range(at_once)))

    warm, before = loaded.memory(), idle(loaded)
    asyncio.run(crowd())
    pages = idle(loaded)
    # A page takes memory once it is written to; all of them together are less than the budget.
    written = (pages["cached"] - before["cached"]) * (1 << 30) / pages["total"]
    assert loaded.memory() - warm < written + (32 << 20)
    assert statuses(read_all(loaded.connect(raw("POST", CHAT, SHORT, CLOSE)))) == [200]


def test_a_second_turn_reads_only_what_is_new(loaded):
    client = loaded.client()
    first = [turn("Read this. " + "kanetoli sori " * 1270)]
    answer = chat(client, first, max_tokens=32, logit_bias={"3": -100})
    assert answer.usage.prompt_tokens > 3800
    # Another conversation in between changes nothing.
    chat(client, [turn("bapu " * 2000)])
    second = [*first, turn(answer.choices[0].message.content, "assistant"), turn("And now?")]
    usage = chat(client, second).usage
    new = usage.prompt_tokens - usage.prompt_tokens_details.cached_tokens
    assert new <= 32 + 40, usage


def test_overload_is_told_at_once(long):
    """Ten times as much as fits: refusals are quick, have a time to wait, and nothing breaks."""
    with Server("--parallel", "4", "--queue", "8") as server:
        delays, refused, answered = [], [], []

        async def ask(seed):
            start = time.monotonic()
            reader, writer = await asyncio.open_connection(*server.address)
            body = SHORT.replace('"max_tokens": 2', '"max_tokens": 200')
            writer.write(raw("POST", CHAT, body, CLOSE))
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            await reader.read()
            writer.close()
            status = statuses(head.replace("http/1.1", "HTTP/1.1").encode())[0]
            assert status in (200, 429), head
            if status == 429:
                wait = int(head.split("retry-after: ")[1].split("\r\n")[0])
                assert 1 <= wait <= 60
                delays.append(time.monotonic() - start)
            (answered if status == 200 else refused).append(seed)

        async def crowd():
            for wave in range(60 if long else 4):
                await asyncio.gather(*(ask(seed) for seed in range(120)))

        asyncio.run(crowd())
        assert answered and refused
        assert sorted(delays)[len(delays) * 99 // 100] < 0.5, "a refusal waits"
        idle(server)
