"""Models, embeddings and what stands beside them."""

import math
import struct

import openai
import pytest

TEXTS = ["kanetoli", "sorimade bapulone", "x"]


def embed(client, texts, **fields):
    return client.embeddings.create(model="tiny", input=texts, **fields)


def test_the_model_is_listed(client):
    (model,) = client.models.list().data
    assert model.id == "tiny" and model.object == "model" and model.created > 1_600_000_000
    assert client.models.retrieve("tiny") == model
    assert model.context_length >= 1024
    with pytest.raises(openai.NotFoundError) as fault:
        client.models.retrieve("absent")
    assert fault.value.code == "model_not_found"


def test_embeddings_are_directions(client, http):
    answer = embed(client, TEXTS, encoding_format="float")
    assert [one.index for one in answer.data] == [0, 1, 2]
    for one in answer.data:
        assert len(one.embedding) == 1024
        assert math.isclose(math.hypot(*one.embedding), 1, rel_tol=1e-4)
    alone = embed(client, TEXTS[1], encoding_format="float").data[0].embedding
    assert alone == answer.data[1].embedding, "company changes no bit"
    tokens = [http.post("/tokenize", json={"content": text}).json()["tokens"] for text in TEXTS]
    assert embed(client, tokens, encoding_format="float").data == answer.data
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == sum(map(len, tokens))
    # The client asks for base64 on its own and decodes it; decimals are the same numbers of 32 bits.
    bits = lambda one: struct.pack("1024f", *one.embedding)
    assert list(map(bits, embed(client, TEXTS).data)) == list(map(bits, answer.data))


@pytest.mark.parametrize("text", ["kanetoli  sorimade", "\U0001f30d é\n\t", "", "<|im_end|>"])
def test_tokens_are_text_again(http, text):
    tokens = http.post("/tokenize", json={"content": text}).json()["tokens"]
    assert http.post("/detokenize", json={"tokens": tokens}).json()["content"] == text


def test_a_template_can_be_seen(http):
    body = {"messages": [{"role": "user", "content": "kane"}]}
    prompt = http.post("/apply-template", json=body).json()["prompt"]
    assert prompt == "<|im_start|>user\nkane<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/health", "application/json"),
        ("/readyz", "application/json"),
        ("/metrics", "text/plain"),
        ("/props", "application/json"),
        ("/v1/cache", "application/json"),
        ("/v1/models", "application/json"),
        ("/openapi.json", "application/json"),
    ],
)
def test_pages_can_be_read(http, path, kind):
    answer = http.get(path)
    assert answer.status_code == 200 and answer.headers["content-type"].startswith(kind)


def test_why_a_request_missed_is_explained(client, http):
    turn = lambda text: [{"role": "user", "content": "kanetoli " * 100 + text}]
    client.chat.completions.create(model="tiny", messages=turn("one"), max_tokens=1)
    body = {"messages": turn("two"), "model": "tiny"}
    explained = http.post("/v1/cache/explain", json=body).json()
    assert explained["reason"] == "diverged" and explained["cached"], explained
    assert 100 < explained["cached_tokens"] <= explained["position"] < explained["tokens"]
