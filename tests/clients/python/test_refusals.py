"""What is refused, with which status, and which field is named; the next request is answered."""

import json

import httpx
import openai
import pytest
from answers import ASK, chat
from server import Server

CHAT = "/v1/chat/completions"
# A field of chat and the values that it does not take.
WRONG = {
    "messages": [1, "a", {}, [], [1], [{"role": "king", "content": "a"}], [{"role": "user"}],
                 [{"role": "user", "content": 1}], [{"content": "a"}],
                 [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a"}}]}]],
    "model": [1, []],
    "temperature": ["1", -1, 2.1, [], {}, True],
    "top_p": ["1", -0.1, 1.1, []],
    "n": ["1", 0, -1, 129, 1.5, []],
    "max_tokens": ["1", 0, -5, 1.5, [], True],
    "max_completion_tokens": ["1", 0, -5, 1.5],
    "presence_penalty": ["1", -3, 3],
    "frequency_penalty": ["1", -3, 3],
    "logprobs": [1, "true"],
    "top_logprobs": [5, 21, -1, "1"],
    "logit_bias": [1, [], {"5": 101}, {"5": -101}, {"5": "1"}, {"4096": 1}, {"-1": 1}, {"a": 1}],
    "stop": [1, {}, [1], ["a", "b", "c", "d", "e"]],
    "seed": ["1", 1.5, [], 1e30],
    "stream": ["true", 1],
    "stream_options": [{"include_usage": True}, 1],
    "response_format": [1, "json", {}],
    "tools": [1, [1], [{}]],
    "tool_choice": [1, "frog"],
    "parallel_tool_calls": [1],
    "functions": [[{"name": "f"}]],
    "modalities": [["audio"]],
    "top_k": ["1", -2],
    "min_p": [-1, 2, "1"],
    "repetition_penalty": [0, -1, "1"],
    "reasoning_effort": ["frog", 1],
}
WRONG_COMPLETIONS = {
    "prompt": [None, 1, [], [[]], [1.5], [-1], [4096], [["a"]], {}, [None]],
    "logprobs": [-1, "1", 1000, True],
    "max_tokens": [-1, "1", 0.5],
    "echo": [1],
    "best_of": [2, 0],
    "suffix": [1],
}
WRONG_EMBEDDINGS = {
    "input": [None, 1, [], "", [[]], [4096], {}],
    "encoding_format": ["frog", 1],
    "dimensions": ["1", 0, -1, 4096],
}
TABLES = [
    (CHAT, {"model": "tiny", "messages": ASK, "max_tokens": 1}, WRONG),
    ("/v1/completions", {"model": "tiny", "prompt": "a", "max_tokens": 1}, WRONG_COMPLETIONS),
    ("/v1/embeddings", {"model": "tiny", "input": "a"}, WRONG_EMBEDDINGS),
]
ROWS = [
    (path, body, name, value)
    for path, body, table in TABLES
    for name, values in table.items()
    for value in values
]


def fault_of(answer):
    """The error of an answer, which has all of its four keys."""
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str) and isinstance(error["type"], str)
    assert isinstance(error["param"], str | None) and isinstance(error["code"], str | None)
    assert "panicked" not in error["message"] and ".rs:" not in error["message"]
    return error


@pytest.mark.parametrize(("path", "body", "name", "value"), ROWS, ids=lambda value: str(value)[:40])
def test_a_wrong_field_is_named(http, path, body, name, value):
    answer = http.post(path, json={**body, name: value})
    assert answer.status_code == 400, answer.text
    found = fault_of(answer)["param"] or ""
    assert found == name or found.startswith((f"{name}[", f"{name}.")), found
    assert http.get("/health").status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"1", b"null", b"NaN", b'{"temperature":NaN}', b'{"temperature":1e400}',
        b'{"model":"tiny"', b'{"a":' + b"[" * 3000 + b"]" * 3000 + b"}", b'{"model":"\xff"}',
        b'{"model":"\\ud800"}', b"{}{}",
    ],
    ids=lambda body: str(body)[:30],
)
def test_what_is_no_object_is_refused(http, body):
    headers = {"content-type": "application/json"}
    for path, *_ in TABLES:
        answer = http.post(path, content=body, headers=headers)
        assert answer.status_code == 400 and fault_of(answer)["type"] == "invalid_request_error"
    assert http.get("/health").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/absent", {}, 404),
        ("POST", "/v1/absent", {}, 404),
        ("GET", CHAT, {}, 405),
        ("DELETE", "/v1/models", {}, 405),
        ("POST", "/health", {}, 405),
        ("POST", CHAT, {"content-type": "text/plain"}, 415),
        ("POST", CHAT, {"content-type": "application/xml"}, 415),
        ("GET", "/v1/models", {"host": "evil.example"}, 403),
    ],
)
def test_the_path_to_an_endpoint_is_guarded(http, method, path, headers, status):
    body = json.dumps(TABLES[0][1]) if method == "POST" else None
    answer = http.request(method, path, content=body, headers=headers)
    assert answer.status_code == status, answer.text
    fault_of(answer)
    if status == 405:
        assert answer.headers["allow"]


def test_clients_raise_what_their_documentation_says(server, client):
    with pytest.raises(openai.BadRequestError) as fault:
        chat(client, temperature=3)
    assert fault.value.param == "temperature" and fault.value.type == "invalid_request_error"
    assert fault.value.request_id
    with pytest.raises(openai.NotFoundError) as fault:
        chat(client, model="absent")
    assert (fault.value.code, fault.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as fault:
        chat(client, [{"role": "user", "content": "x" * 100_000}], stream=True)
    assert fault.value.code == "context_length_exceeded"
    with pytest.raises(openai.APITimeoutError):
        chat(client.with_options(timeout=0.01), max_tokens=2000)
    assert chat(client).choices


def test_keys_are_asked_for():
    with Server("--api-key", "right") as server:
        right = server.client(api_key="right")
        assert chat(right).choices and right.models.list().data
        for wrong in ["wrong", "righ", "rightt", "x right"]:
            with pytest.raises(openai.AuthenticationError):
                chat(server.client(api_key=wrong))
        for path, status in [("/health", 200), ("/readyz", 200), ("/v1/models", 401),
                             ("/metrics", 401), ("/v1/cache", 401)]:
            assert httpx.get(server.root + path).status_code == status, path
        other = httpx.get(server.root + "/v1/models", headers={"x-api-key": "right"})
        assert other.status_code == 200
        assert "wrong" not in server.said() and "right" not in server.said(), "no key is logged"


def test_a_body_has_a_limit():
    with Server("--body-limit", "10K") as server, server.http() as http:
        large = {"model": "tiny", "messages": [{"role": "user", "content": "x" * 20_000}]}
        answer = http.post(CHAT, json=large)
        assert answer.status_code == 413 and fault_of(answer)
        assert http.post(CHAT, json={**large, "messages": ASK, "max_tokens": 1}).status_code == 200


def test_fields_that_nobody_knows_can_be_refused():
    with Server("--strict-fields") as server, server.http() as http:
        answer = http.post(CHAT, json={"model": "tiny", "messages": ASK, "colour": 1})
        assert answer.status_code == 400 and fault_of(answer)["param"] == "colour"
