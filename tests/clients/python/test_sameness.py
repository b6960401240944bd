"""Sameness: one request has one answer, to the bits of its log-probabilities.

The model is 1,024 wide and prompts are longer than 512 tokens: differences between batches, chunks
and caches do not show in tiny dimensions.
"""

import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from answers import chat, said, without_ids
from server import Server

ASK = {"logprobs": True, "top_logprobs": 5, "max_tokens": 48}
FORMS = {
    "greedy": {"temperature": 0},
    "seeded": {"temperature": 0.8, "seed": 11, "n": 2},
    "penalties": {"temperature": 1, "frequency_penalty": 0.5, "logit_bias": {"300": 3}},
    "calls": {
        "temperature": 1,
        "max_tokens": 400,
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "tools": [
            {"type": "function", "function": {"name": "f", "parameters": {
                "type": "object", "properties": {"a": {"enum": ["x", "y"]}},
                "required": ["a"], "additionalProperties": False}}}
        ],
    },
    "schema": {
        "temperature": 1,
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {
            "type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "boolean"}},
            "required": ["a", "b"], "additionalProperties": False}}},
    },
}


def words(count, seed):
    """A turn of about three tokens a word."""
    draw = random.Random(seed)
    syllables = [a + b for a in "bdfgkpst" for b in "aeiou"]
    pick = lambda: "".join(draw.choice(syllables) for _ in range(3))
    return [{"role": "user", "content": " ".join(pick() for _ in range(count))}]


PROMPT = words(250, seed=0)


def answers(server, **more):
    """What a server says to every form of the request."""
    client = server.client()
    return {name: without_ids(said(chat(client, PROMPT, **{**ASK, **form, **more})))
            for name, form in FORMS.items()}


@pytest.fixture(scope="module")
def alone():
    """On one thread, nobody else there, nothing cached."""
    expected = {}
    with Server("--threads", "1") as server, server.http() as http:
        for name, form in FORMS.items():
            http.post("/reset_prefix_cache")
            answer = chat(server.client(), PROMPT, **{**ASK, **form})
            assert answer.usage.prompt_tokens >= 512
            assert answer.usage.prompt_tokens_details.cached_tokens == 0
            expected[name] = without_ids(said(answer))
    return expected


@pytest.fixture(scope="module", params=["1", "2"], ids=lambda threads: f"{threads} threads")
def wide(request):
    with Server("--threads", request.param) as server:
        yield server


def test_after_a_cache_hit_streamed_or_not(wide, alone):
    answers(wide)
    assert answers(wide) == alone
    assert answers(wide, stream=True) == alone
    usage = chat(wide.client(), PROMPT, **ASK).usage
    assert usage.prompt_tokens_details.cached_tokens == usage.prompt_tokens - 1


@pytest.mark.parametrize("cut", [63, 64, 65, 512, 513])
def test_after_a_hit_at_any_place(wide, alone, cut):
    """A neighbour that shares only the beginning leaves the cache in another form."""
    text = PROMPT[0]["content"]
    chat(wide.client(), [{"role": "user", "content": text[: 2 * cut] + " zzz"}])
    assert answers(wide) == alone


def test_among_15_others(wide, alone):
    def other(seed):
        fields = {"max_tokens": 24, "seed": seed, "temperature": 1}
        return said(chat(wide.client(), words(20 * (seed % 8) + 1, seed), **fields))

    with ThreadPoolExecutor(15) as pool:
        company = [pool.submit(other, seed) for seed in range(1, 60)]
        assert answers(wide, stream=True) == alone
        assert all(one.result() for one in company)


def test_after_eviction_and_preemption(alone):
    """The cache has room for half of these conversations, each of nine pages."""
    with Server("--memory", "208M", "--ctx", "2048", "--threads", "2") as server:
        def other(seed):
            fields = {"max_tokens": 500, "seed": seed, "extra_body": {"ignore_eos": True}}
            return said(chat(server.client(), words(30, seed), **fields))

        # On a busy machine they may come so late that there is room for each.
        for _ in range(5):
            with ThreadPoolExecutor(16) as pool:
                company = [pool.submit(other, seed) for seed in range(1, 17)]
                assert answers(server) == alone
                assert all(one.result() for one in company)
            if server.metric("qwire_preemptions_total") > 0:
                break
        assert server.metric("qwire_evictions_total") > 0
        assert server.metric("qwire_preemptions_total") > 0
        assert answers(server) == alone
