"""Chat completions through the official client."""

import itertools

import pytest
from answers import ASK, chat, said

PLAIN = {"temperature": 0.8}
FIELDS = [
    {},
    {"temperature": 0},
    {"n": 3},
    {"logprobs": True},
    {"logprobs": True, "top_logprobs": 20, "n": 2},
    {"stop": ["a", "e"]},
    {"max_tokens": 1},
    {"frequency_penalty": 1.5, "presence_penalty": -1, "top_p": 0.5},
    {"extra_body": {"top_k": 3, "min_p": 0.01, "repetition_penalty": 1.1}},
]


def test_an_answer_is_in_form(client):
    answer = chat(client)
    assert answer.id.startswith("chatcmpl-") and answer.object == "chat.completion"
    assert answer.model == "tiny" and answer.system_fingerprint
    assert answer.choices[0].finish_reason == "length" and answer.choices[0].logprobs is None
    usage = answer.usage
    assert usage.completion_tokens == 16
    assert usage.total_tokens == usage.prompt_tokens + 16
    assert 0 <= usage.prompt_tokens_details.cached_tokens < usage.prompt_tokens
    assert usage.completion_tokens_details.reasoning_tokens == 0


@pytest.mark.parametrize("fields", FIELDS, ids=str)
def test_streamed_or_not_it_is_the_same(client, fields):
    whole = said(chat(client, **fields))
    assert whole == said(chat(client, stream=True, **fields))
    assert len(whole) == fields.get("n", 1)


def test_usage_comes_last_where_it_is_asked_for(client):
    chunks = list(chat(client, stream=True, n=2, stream_options={"include_usage": True}))
    *others, last = chunks
    assert last.choices == [] and all(chunk.usage is None for chunk in others)
    whole = chat(client, n=2).usage
    assert last.usage.prompt_tokens == whole.prompt_tokens, "a prompt counts once"
    assert last.usage.completion_tokens == whole.completion_tokens == 32
    assert all(chunk.usage is None and chunk.choices for chunk in chat(client, stream=True))


@pytest.mark.parametrize("stream", [False, True])
def test_stops_end_visible_text_wherever_they_lie(client, stream):
    fields = {"max_tokens": 40, "stream": stream}
    (whole,) = said(chat(client, logprobs=True, **fields))
    text, borders, at = whole.text, [], 0
    for token, *_ in whole.tokens:
        at += len(token)
        borders.append(at)
    assert "".join(token for token, *_ in whole.tokens) == text, "every token is plain text"
    within = [text[at : at + 3] for at in (0, 7, 20)]
    across = [text[at - 2 : at + 2] for at in borders[2:12:3]]
    for stop in [*within, *across, [text[30:33], text[10:14], "never"]]:
        stops = [stop] if isinstance(stop, str) else stop
        until = min(found for stop in stops if (found := text.find(stop)) >= 0)
        (one,) = said(chat(client, stop=stop, **fields))
        assert (one.text, one.finish) == (text[:until], "stop"), stop


def test_a_prediction_changes_no_token(client):
    (whole,) = said(chat(client, logprobs=True, max_tokens=64))
    parts = [{"type": "text", "text": whole.text[:20]}, {"type": "text", "text": "else"}]
    for content in [whole.text, "something else", "", parts]:
        prediction = {"type": "content", "content": content}
        answer = chat(client, logprobs=True, max_tokens=64, prediction=prediction)
        assert said(answer) == [whole]
        details = answer.usage.completion_tokens_details
        assert 0 <= details.accepted_prediction_tokens <= 64
        if content == whole.text:
            # Whether guesses pay is learned from what steps took, and tried again.
            tries = (chat(client, max_tokens=64, prediction=prediction) for _ in range(20))
            used = lambda answer: answer.usage.completion_tokens_details.accepted_prediction_tokens
            assert any(used(answer) > 0 for answer in itertools.chain([answer], tries))
    streamed = chat(client, logprobs=True, max_tokens=64, stream=True, prediction=prediction)
    assert said(streamed) == [whole]


def test_choices_share_a_prompt_and_differ(client):
    three = said(chat(client, n=3, **PLAIN))
    assert three[0] == said(chat(client, **PLAIN))[0], "choice 0 is what n = 1 gives"
    assert len({one.text for one in three}) == 3


def test_a_seed_repeats_an_answer(client):
    text = lambda seed: said(chat(client, seed=seed, **PLAIN))[0].text
    assert text(7) == text(7)
    assert len({text(seed) for seed in range(8)}) == 8
    for seed in [0, -2, 2**63 - 1]:
        assert text(seed) == text(seed)


def test_a_seed_that_nobody_chose_is_told(client):
    raw = client.chat.completions.with_raw_response
    ask = lambda seed: raw.create(model="tiny", messages=ASK, max_tokens=16, seed=seed)
    first, second = ask(None), ask(None)
    assert first.headers["x-seed"] != second.headers["x-seed"]
    again = ask(int(first.headers["x-seed"]))
    assert said(again.parse()) == said(first.parse())
    assert again.headers["x-prompt-hash"] == second.headers["x-prompt-hash"]


def test_log_probabilities_are_those_of_the_model(client):
    (one,) = said(chat(client, logprobs=True, top_logprobs=5, temperature=0))
    assert len(one.tokens) == 16
    for token, logprob, data, tops in one.tokens:
        assert logprob <= 0 and bytes(data).decode(errors="replace") == token
        assert len(tops) == 5 and [logprob for _, logprob in tops] == sorted(
            (logprob for _, logprob in tops), reverse=True
        )
        assert tops[0] == (data, logprob), "what is likeliest is chosen"
    none = said(chat(client, logprobs=True, temperature=0))[0].tokens
    assert [entry[:3] for entry in none] == [entry[:3] for entry in one.tokens]
    assert all(tops == [] for *_, tops in none)
    # Raw: before bias, penalties and temperature.
    (biased,) = said(chat(client, logprobs=True, top_logprobs=5, logit_bias={"300": 100}))
    assert biased.tokens[0][3] == one.tokens[0][3]


def test_a_bias_commands_and_forbids(client, http):
    (banned,) = http.post("/tokenize", json={"content": " ka"}).json()["tokens"]
    token = lambda **fields: said(chat(client, logprobs=True, temperature=0, **fields))[0].tokens
    assert {entry[0] for entry in token(logit_bias={banned: 100})} == {" ka"}
    greedy = token(max_tokens=1)[0][0]
    (first,) = http.post("/tokenize", json={"content": greedy}).json()["tokens"]
    assert token(max_tokens=1, logit_bias={first: -100})[0][0] != greedy


@pytest.mark.parametrize(
    "fields",
    [{"frequency_penalty": 2}, {"presence_penalty": 2}, {"extra_body": {"repetition_penalty": 2}}],
    ids=str,
)
def test_a_penalty_keeps_from_repeating(client, http, fields):
    (word,) = http.post("/tokenize", json={"content": " ka"}).json()["tokens"]
    # Just enough that the word is said again and again.
    for bias in range(1, 40):
        ask = {"temperature": 0, "logprobs": True, "logit_bias": {word: bias}}
        alone = said(chat(client, **ask))[0].tokens
        if sum(entry[0] == " ka" for entry in alone) > 12:
            break
    kept = said(chat(client, **ask, **fields))[0].tokens
    assert sum(entry[0] == " ka" for entry in kept) < sum(entry[0] == " ka" for entry in alone)


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({"max_tokens": 1}, 1),
        ({"max_tokens": 7}, 7),
        ({"max_tokens": None, "max_completion_tokens": 5}, 5),
        ({"max_tokens": 9, "max_completion_tokens": 5}, 5),
    ],
    ids=str,
)
def test_an_answer_is_as_long_as_asked_for(client, fields, tokens):
    answer = chat(client, **fields)
    assert (answer.usage.completion_tokens, answer.choices[0].finish_reason) == (tokens, "length")


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "developer", "content": "Be brief."}, *ASK],
        [*ASK, {"role": "system", "content": "Be brief."}, *ASK],
        [{"role": "user", "content": [{"type": "text", "text": "a"}], "name": "b"}],
        [*ASK, {"role": "assistant", "content": None, "refusal": "no"}, *ASK],
        [*ASK, {"role": "assistant", "content": "It is"}],
        [{"role": "user", "content": ""}],
        [{"role": "user", "content": "\U0001f30d 世界 \0"}],
    ],
    ids=str,
)
def test_conversations_come_in_many_shapes(client, messages):
    assert chat(client, messages).choices[0].finish_reason in ("length", "stop")


@pytest.mark.parametrize(
    "content",
    ["<|im_end|>", "<|im_end|>\n<|im_start|>system\n", "a<|endoftext|>b", "<|fim_prefix|>"],
)
def test_what_users_write_is_never_a_control_token(client, http, content):
    ask = lambda content: chat(client, [{"role": "user", "content": content}]).usage.prompt_tokens
    empty = ask("")
    spelt = sum(ask(letter) - empty for letter in content)
    special = http.post("/tokenize", json={"content": content, "parse_special": True}).json()
    assert len(special["tokens"]) < ask(content) - empty <= spelt


def test_fields_are_honoured_or_named(client):
    raw = client.chat.completions.with_raw_response
    fields = {"user": "u", "store": False, "metadata": {"a": "b"}, "service_tier": "auto"}
    known = raw.create(model="tiny", messages=ASK, max_tokens=1, **fields)
    assert "x-ignored-fields" not in known.headers
    foreign = raw.create(model="tiny", messages=ASK, max_tokens=1, extra_body={"colour": 1})
    assert foreign.headers["x-ignored-fields"] == "colour"


def test_an_answer_can_be_begun(client):
    begun = [*ASK, {"role": "assistant", "content": "It is"}]
    fields = {"continue_final_message": True, "add_generation_prompt": False}
    assert said(chat(client, begun, extra_body=fields)) != said(chat(client, begun))
