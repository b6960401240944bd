"""Tools and shaped answers through the official client; a model of noise obeys the mask alone."""

import json
import re
from enum import Enum

import jsonschema
import openai
import pytest
from answers import ASK, chat, said, without_ids
from pydantic import BaseModel, Field

SEEDS = range(4)
CITY = {"type": "string", "enum": ["Paris", "Oslo"]}
WEATHER = {
    "type": "object",
    "properties": {"city": CITY, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
SWITCH = {
    "type": "object",
    "properties": {"on": {"type": "boolean"}},
    "required": ["on"],
    "additionalProperties": False,
}


def tool(name, parameters):
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


TOOLS = [tool("weather", WEATHER), tool("switch", SWITCH)]
SCHEMAS = {"weather": WEATHER, "switch": SWITCH}
NAMED = {"type": "function", "function": {"name": "switch"}}


def call(client, **fields):
    fields = {"tools": TOOLS, "max_tokens": 400, "temperature": 1, **fields}
    return chat(client, **fields)


@pytest.mark.parametrize("choice", ["required", NAMED], ids=str)
@pytest.mark.parametrize("seed", SEEDS)
def test_calls_that_must_be_are(client, choice, seed):
    (one,) = said(call(client, tool_choice=choice, seed=seed))
    # Noise may call until its tokens run out, in the middle of a call.
    assert one.finish in ("tool_calls", "length") and one.calls
    for _, name, arguments in one.calls[: -1 if one.finish == "length" else None]:
        jsonschema.validate(json.loads(arguments), SCHEMAS[name])
    ids = [id for id, *_ in one.calls]
    assert len(set(ids)) == len(ids) and all(id.startswith("call_") for id in ids)
    if choice == NAMED:
        assert {name for _, name, _ in one.calls} == {"switch"}
    streamed = said(call(client, tool_choice=choice, seed=seed, stream=True))
    assert without_ids(streamed) == without_ids([one])


@pytest.mark.parametrize("seed", SEEDS)
def test_calls_come_alone_where_they_shall(client, seed):
    fields = {"tool_choice": "required", "parallel_tool_calls": False}
    (one,) = said(call(client, seed=seed, **fields))
    assert one.finish == "tool_calls" and len(one.calls) == 1


def test_tools_are_offered_or_not(client):
    count = lambda **fields: call(client, max_tokens=1, **fields).usage.prompt_tokens
    assert count(tool_choice="none") == count(tools=[]) < count(tool_choice="auto") == count()
    (one,) = said(call(client, max_tokens=8, tool_choice="auto"))
    assert (one.calls, one.finish) == ([], "length")


def test_a_call_that_was_cut_is_not_completed(client):
    (whole,) = said(call(client, tool_choice=NAMED))
    for tokens in (2, 12, 20):
        (cut,) = said(call(client, tool_choice=NAMED, max_tokens=tokens, stream=True))
        if cut.finish != "tool_calls":
            assert cut.finish == "length"
            told = [arguments for *_, arguments in cut.calls]
            full = [arguments for *_, arguments in whole.calls]
            assert all(long.startswith(short) for short, long in zip(told, full))


@pytest.mark.parametrize("arguments", ['{"city": "Oslo", "days": 2}', "", "{broken", "[1]"])
def test_calls_and_results_are_read_again(client, arguments):
    function = {"name": "weather", "arguments": arguments}
    messages = [
        *ASK,
        {"role": "assistant", "tool_calls": [{"id": "call_1", "type": "function",
                                              "function": function}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
    ]
    assert call(client, messages=messages, max_tokens=4).choices[0].finish_reason == "length"


class Mood(str, Enum):
    good = "good"
    bad = "bad"


class Report(BaseModel):
    mood: Mood
    days: list[int] = Field(max_length=3)
    windy: bool
    note: str | None = Field(max_length=10)


@pytest.mark.parametrize("seed", SEEDS)
def test_an_answer_has_the_shape_of_a_class(client, seed):
    fields = {"model": "tiny", "messages": ASK, "seed": seed, "max_tokens": 400}
    answer = client.chat.completions.parse(response_format=Report, **fields)
    assert isinstance(answer.choices[0].message.parsed, Report)
    with client.chat.completions.stream(response_format=Report, **fields) as stream:
        streamed = stream.get_final_completion().choices[0].message.parsed
    assert streamed == answer.choices[0].message.parsed


@pytest.mark.parametrize("seed", SEEDS)
def test_an_answer_is_an_object(client, seed):
    answer = chat(client, response_format={"type": "json_object"}, seed=seed, max_tokens=512)
    choice = answer.choices[0]
    assert choice.message.content.lstrip().startswith("{")
    if choice.finish_reason == "stop":
        assert isinstance(json.loads(choice.message.content), dict)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"regex": "(yes|no)[0-9]{3}"}, "(yes|no)[0-9]{3}"),
        ({"grammar": 'start: "a" "b"'}, "ab"),
        ({"grammar": 'root ::= "a" "b"'}, "ab"),
    ],
    ids=str,
)
def test_an_answer_follows_a_grammar(client, fields, expected):
    (one,) = said(chat(client, extra_body=fields, max_tokens=40))
    assert one.finish == "stop" and re.fullmatch(expected, one.text)


def shaped(schema, **more):
    return {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, **more}}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"response_format": shaped({"type": "frog"})}, "response_format"),
        ({"response_format": shaped({"$ref": "https://a.example/b"})}, "response_format"),
        ({"response_format": shaped({"$ref": "#"})}, "response_format"),
        ({"response_format": shaped({"type": "integer", "minimum": 3, "maximum": 2})},
         "response_format"),
        ({"extra_body": {"regex": "(" * 20_000}}, "regex"),
        ({"extra_body": {"regex": "["}}, "regex"),
        ({"extra_body": {"grammar": "start: absent"}}, "grammar"),
        ({"tools": [tool("two words", WEATHER)]}, "tools[0].function.name"),
        ({"tools": [tool("", WEATHER)]}, "tools[0].function.name"),
        ({"tools": [{"type": "frog"}]}, "tools[0]"),
        ({"tools": 1}, "tools"),
        ({"tools": TOOLS, "tool_choice": "frog"}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "absent"}}},
         "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_shape_that_cannot_be_is_refused_by_name(client, http, fields, param):
    with pytest.raises(openai.BadRequestError) as fault:
        chat(client, **fields)
    assert (fault.value.param or "").startswith(param), fault.value.message
    assert http.get("/health").status_code == 200
