"""What a server leaves on disk: after kill -9 the next one answers the same, and computes what is
new."""

import os
import signal
import stat
import time
from pathlib import Path

import pytest
from answers import chat, said, without_ids
from server import Server
from test_sameness import ASK, FORMS, words

PROMPT = words(250, seed=7)
# A page is durable a second after its turn.
DURABLE = 1.0


def server(folder, *flags):
    """One whose cache is open: the first time all of the model is read before it is."""
    made = Server("--disk-cache-dir", folder, *flags, environment={"QWIRE_DISK_CACHE": "1G"})
    is_open = lambda: made.http().get("/v1/cache").json()["disk"]["open"]
    made.until(is_open, "has opened its cache", seconds=120)
    return made


def turns(server, count):
    """A conversation of some turns: of each its answer, its prompt's tokens and those cached."""
    client, messages, heard = server.client(), list(PROMPT), []
    for turn in range(count):
        answer = chat(client, messages, **ASK, **FORMS["seeded"] | {"n": 1})
        usage = answer.usage
        cached = usage.prompt_tokens_details.cached_tokens
        heard.append((without_ids(said(answer)), usage.prompt_tokens, cached))
        messages += [{"role": "assistant", "content": answer.choices[0].message.content}]
        messages += words(20, seed=turn)
    return heard


def killed(server):
    time.sleep(DURABLE)
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()


def whole_pages(tokens):
    """The last token of a prompt is always computed."""
    return (tokens - 1) // 64 * 64


def pages(folder):
    return [path for path in Path(folder).rglob("*") if len(path.name) > 100]


def test_after_a_kill_every_whole_page_is_found_and_the_answer_is_the_same(tmp_path):
    with Server() as cold:
        expected = turns(cold, 3)
    with server(tmp_path) as first:
        assert [answer for answer, *_ in turns(first, 3)] == [answer for answer, *_ in expected]
        killed(first)
    written = len(pages(tmp_path))
    for threads in (2, 1):
        with server(tmp_path, "--threads", str(threads)) as again:
            heard = turns(again, 3)
            assert [answer for answer, *_ in heard] == [answer for answer, *_ in expected]
            (_, prompt, cached), *_ = heard
            assert prompt > 512 and cached == whole_pages(prompt)
            assert again.metric("qwire_restored_tokens_total") >= cached
            assert again.metric("qwire_disk_read_pages_total") >= cached // 64
            assert again.metric("qwire_disk_faults_total") == 0
            assert "up to 1.07 GB of prefixes in" in again.said()
            killed(again)
    assert len(pages(tmp_path)) == written, "nothing is written twice"
    assert not list(tmp_path.rglob("part-*"))


def test_two_servers_share_a_folder(tmp_path):
    with server(tmp_path) as one, server(tmp_path) as other:
        expected = turns(one, 1)
        time.sleep(DURABLE)
        (answer, prompt, cached), = turns(other, 1)
        assert answer == expected[0][0] and cached == whole_pages(prompt)


def test_what_is_damaged_is_computed(tmp_path):
    with server(tmp_path) as first:
        expected = turns(first, 1)
        killed(first)
    files = sorted(pages(tmp_path))
    for path in files[2::3]:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    with server(tmp_path) as again:
        (answer, _, cached), = turns(again, 1)
        assert answer == expected[0][0] and cached == 128
        assert again.metric("qwire_disk_damaged_pages_total") == 1
        assert again.said().count("a page was damaged") == 1


def test_the_cache_is_explained_listed_and_forgotten(tmp_path):
    with server(tmp_path) as first:
        (_, prompt, _), = turns(first, 1)
        time.sleep(DURABLE)
        http, ask = first.http(), {"messages": PROMPT}
        found = http.post("/v1/cache/explain", json=ask).json()
        assert found["disk_tokens"] == whole_pages(prompt)
        disk = http.get("/v1/cache").json()["disk"]
        assert disk["open"] and disk["limit_bytes"] == 1 << 30
        assert disk["written_pages"] == len(pages(tmp_path)) > 0
        assert disk["used_bytes"] >= sum(path.stat().st_size for path in pages(tmp_path))
        assert http.post("/reset_prefix_cache").json()["disk_pages"] == disk["written_pages"]
        assert http.post("/v1/cache/explain", json=ask).json()["disk_tokens"] == 0
        assert not pages(tmp_path)


def test_a_tenant_finds_only_its_own(tmp_path):
    ask = lambda server, salt: chat(
        server.client(), PROMPT, extra_body={"cache_salt": salt}
    ).usage.prompt_tokens_details.cached_tokens
    with server(tmp_path) as first:
        assert ask(first, "mine") == 0
        killed(first)
    with server(tmp_path) as again:
        assert ask(again, "yours") == 0 and ask(again, "mine") > 512
    for path in [tmp_path, *tmp_path.rglob("*")]:
        assert path == tmp_path or stat.S_IMODE(os.stat(path).st_mode) & 0o077 == 0, path


def test_off_is_off(tmp_path):
    with Server("--disk-cache", "off", "--disk-cache-dir", tmp_path) as none:
        turns(none, 1)
        assert "no prefixes are kept" in none.said()
        assert none.http().get("/v1/cache").json()["disk"] is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("after", [0.0, 0.02, 0.1, 0.3])
def test_a_kill_in_the_middle_of_a_turn_leaves_nothing_wrong(tmp_path, after):
    with Server() as cold:
        expected = turns(cold, 1)
    with server(tmp_path) as first:
        with first.client().chat.completions.create(
            model="tiny", messages=PROMPT, max_tokens=64, stream=True
        ) as stream:
            next(iter(stream))
            time.sleep(after)
            first.process.send_signal(signal.SIGKILL)
            first.process.wait()
    with server(tmp_path) as again:
        (answer, *_), = turns(again, 1)
        assert answer == expected[0][0]
        assert again.metric("qwire_disk_damaged_pages_total") == 0
