"""Ollama's wire through its official client."""

import json

import jsonschema
import ollama
import pytest

ASK = [{"role": "user", "content": "Why is the sky blue?"}]
OPTIONS = {"seed": 1, "num_predict": 16, "num_ctx": 4096}
MOOD = {
    "type": "object",
    "properties": {"mood": {"enum": ["good", "bad"]}, "windy": {"type": "boolean"}},
    "required": ["mood", "windy"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def llama(server):
    return ollama.Client(host=server.root)


def weather(city: str) -> str:
    """Tells the weather.

    Args:
        city: Where.
    """
    return f"12 degrees in {city}"


def test_what_is_here(llama, http):
    names = [model.model for model in llama.list().models]
    assert names == ["tiny:latest"]
    assert [model.model for model in llama.ps().models] == names
    for name in ["tiny", *names]:
        shown = llama.show(name)
        assert {"completion", "tools"} <= set(shown.capabilities)
        assert shown.modelinfo["general.architecture"]
    assert http.get("/").text == "Ollama is running"
    assert http.head("/").status_code == 200


@pytest.mark.parametrize("think", [None, False, True])
def test_a_chat_is_the_same_in_lines_or_at_once(llama, think):
    fields = {"model": "tiny", "messages": ASK, "options": OPTIONS, "think": think}
    whole = llama.chat(**fields)
    parts = list(llama.chat(stream=True, **fields))
    assert "".join(part.message.content or "" for part in parts) == whole.message.content
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    for answer in (whole, parts[-1]):
        assert (answer.done_reason, answer.eval_count) == ("length", 16)
        assert answer.prompt_eval_count > 0 and answer.total_duration >= answer.eval_duration > 0


def test_a_prompt_is_continued(llama):
    fields = {"model": "tiny:latest", "prompt": "kanetoli", "options": OPTIONS}
    for more in [{}, {"system": "Be brief."}, {"raw": True}]:
        whole = llama.generate(**fields, **more)
        parts = llama.generate(stream=True, **fields, **more)
        assert "".join(part.response for part in parts) == whole.response


def test_a_format_is_held_to(llama):
    options = {**OPTIONS, "num_predict": 400}
    told = llama.chat(model="tiny", messages=ASK, format=MOOD, options=options)
    jsonschema.validate(json.loads(told.message.content), MOOD)
    told = llama.generate(model="tiny", prompt="a", format="json", options=options)
    assert isinstance(json.loads(told.response), dict)


def test_a_tool_loop_goes_on(llama):
    history = [*ASK, {"role": "assistant", "content": "", "tool_calls": [
        {"function": {"name": "weather", "arguments": {"city": "Oslo"}}}]},
        {"role": "tool", "content": "12 degrees", "tool_name": "weather"}]
    answer = llama.chat(model="tiny", messages=history, tools=[weather], options=OPTIONS)
    assert answer.done_reason in ("length", "stop")


def test_texts_become_vectors(llama):
    found = llama.embed(model="tiny", input=["a", "b"])
    assert len(found.embeddings) == 2 and len(found.embeddings[0]) == 1024
    one = llama.embeddings(model="tiny", prompt="b").embedding
    assert list(one) == list(found.embeddings[1])


def test_faults_are_told(llama):
    for status, fields in [(404, {"model": "absent"}), (400, {"options": {"temperature": 9}})]:
        with pytest.raises(ollama.ResponseError) as fault:
            llama.chat(**{"model": "tiny", "messages": ASK, **fields})
        assert fault.value.status_code == status and fault.value.error
