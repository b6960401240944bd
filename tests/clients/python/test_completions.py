"""Completions through the official client, as harnesses for evaluation ask for them."""

import pytest
from answers import complete

TEXT = "kanetoli sorimade, bapulone 42"


def ids(http, text):
    return http.post("/tokenize", json={"content": text}).json()["tokens"]


def plain(answer):
    """What an answer says, whole or streamed."""
    if hasattr(answer, "choices"):
        listed = lambda l: l and (l.tokens, l.token_logprobs, l.top_logprobs, l.text_offset)
        return [(one.text, one.finish_reason, listed(one.logprobs)) for one in answer.choices]
    choices = {}
    for chunk in answer:
        assert chunk.object == "text_completion"
        for one in chunk.choices:
            text, _, lists = choices.get(one.index, ("", None, None))
            if l := one.logprobs:
                new = (l.tokens, l.token_logprobs, l.top_logprobs, l.text_offset)
                lists = tuple(old + more for old, more in zip(lists, new)) if lists else new
            choices[one.index] = (text + one.text, one.finish_reason, lists)
    return [choices[index] for index in sorted(choices)]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"n": 2},
        {"logprobs": 0},
        {"logprobs": 5},
        {"echo": True},
        {"echo": True, "logprobs": 1},
        {"echo": True, "logprobs": 1, "max_tokens": 0},
        {"stop": "a"},
        {"suffix": "tail"},
    ],
    ids=str,
)
def test_streamed_or_not_it_is_the_same(client, fields):
    for prompt in [TEXT, [TEXT, "bapulone"]]:
        whole = plain(complete(client, prompt, **fields))
        assert whole == plain(complete(client, prompt, stream=True, **fields))


def test_an_answer_is_in_form(client):
    answer = complete(client, TEXT)
    assert answer.id.startswith("cmpl-") and answer.object == "text_completion"
    assert answer.usage.completion_tokens == 16 and answer.choices[0].finish_reason == "length"
    assert complete(client, TEXT, max_tokens=None).usage.completion_tokens == 16


def test_usage_comes_last_where_it_is_asked_for(client):
    chunks = list(complete(client, TEXT, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 16
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_prompts_are_texts_or_tokens(client, http):
    one, two = ids(http, TEXT), ids(http, "bapulone")
    texts = plain(complete(client, [TEXT, "bapulone"]))
    assert plain(complete(client, [one, two])) == texts
    assert plain(complete(client, one)) == plain(complete(client, TEXT)) == texts[:1]
    four = complete(client, [TEXT, "bapulone"], n=2, temperature=0.8)
    assert [choice.index for choice in four.choices] == [0, 1, 2, 3]
    assert four.usage.prompt_tokens == len(one) + len(two), "a prompt counts once"


@pytest.mark.parametrize("max_tokens", [0, 1])
def test_a_prompt_is_scored(client, http, max_tokens):
    """As lm-eval asks: tokens of the prompt with what the model thinks of them."""
    tokens = ids(http, TEXT)
    fields = {"echo": True, "logprobs": 1, "max_tokens": max_tokens, "temperature": 0}
    answer = complete(client, [tokens], **fields)
    choice = answer.choices[0]
    listed = choice.logprobs
    assert answer.usage.completion_tokens == max_tokens and choice.text.startswith(TEXT)
    assert len(listed.tokens) == len(tokens) + max_tokens
    assert "".join(listed.tokens) == choice.text
    assert listed.token_logprobs[0] is None and not listed.top_logprobs[0]
    for at, (token, offset) in enumerate(zip(listed.tokens, listed.text_offset)):
        assert choice.text[offset:].startswith(token)
        if at:
            (top,) = listed.top_logprobs[at].values()
            assert listed.token_logprobs[at] <= top <= 0


def test_what_is_said_scores_as_what_is_read(client, http):
    """Decoding and reading give the same bits at the same place."""
    fields = {"logprobs": 1, "temperature": 0.8, "max_tokens": 24}
    for seed in range(50):
        drawn = complete(client, TEXT, seed=seed, **fields).choices[0].logprobs
        parts = [ids(http, token) for token in drawn.tokens]
        if all(len(part) == 1 for part in parts):
            break
    prompt = ids(http, TEXT)
    told = prompt + [part[0] for part in parts]
    read = complete(client, [told], echo=True, logprobs=1, max_tokens=0).choices[0].logprobs
    assert read.token_logprobs[len(prompt):] == drawn.token_logprobs
    assert read.top_logprobs[len(prompt):] == drawn.top_logprobs


def test_a_gap_is_filled(client, http):
    answer = complete(client, "kane", suffix="toli")
    assert answer.usage.prompt_tokens == len(ids(http, "kane")) + len(ids(http, "toli")) + 3
    assert answer.choices[0].text != complete(client, "kane").choices[0].text
