"""Forms: what a schema, a tool or a grammar demands is what comes, from a model that knows nothing.

Weights are random, so that nothing but the mask keeps an answer in form.
"""

import asyncio
import json
import sys

import openai
import pytest
from answers import ASK
from jsonschema import Draft202012Validator, validators
from server import ROOT, Server

SCHEMAS = ROOT.parent / "shared/data/json-schemas/schemas.json"
BUDGET = 2048
# A number of thousands of digits is one all the same.
sys.set_int_max_str_digits(0)


@pytest.fixture(scope="module")
def forms():
    with Server("--memory", "2G", "--parallel", "16") as server:
        yield server


def gathered(forms, questions, at_once=16):
    """What an asynchronous function of (client, question) says of each, some at a time."""

    async def all_of_them():
        turn = asyncio.Semaphore(at_once)
        async with forms.client(asynchronous=True, timeout=600) as client:

            async def one(ask, question):
                async with turn:
                    return await ask(client, question)

            return await asyncio.gather(*(one(*question) for question in questions))

    return asyncio.run(all_of_them())


async def held(client, row):
    """An answer held to a schema: (text, finish), or the fault that refuses the schema."""
    form = {"type": "json_schema", "json_schema": {"name": "form", "schema": row["schema"]}}
    try:
        answer = await client.chat.completions.create(
            model="tiny", messages=ASK, response_format=form, max_tokens=BUDGET, temperature=1,
            seed=row["seed"], extra_body={"repetition_guard": False})
    except openai.BadRequestError as refused:
        return refused
    return answer.choices[0].message.content, answer.choices[0].finish_reason


def test_answers_validate_and_end(forms, long):
    if not SCHEMAS.exists():
        pytest.skip(f"{SCHEMAS.name} is not beside the repository")
    rows = json.loads(SCHEMAS.read_text())[:: 1 if long else 20]
    rows = [{**row, "seed": seed} for seed, row in enumerate(rows)]
    refused, ended, answered = [], 0, 0
    for row, found in zip(rows, gathered(forms, [(held, row) for row in rows])):
        if isinstance(found, openai.BadRequestError):
            assert found.param == "response_format" and found.code == "unsupported_constraint"
            refused.append(row["name"])
            continue
        text, finish = found
        answered += 1
        if finish == "stop":
            ended += 1
            kind = validators.validator_for(row["schema"], Draft202012Validator)
            fault = next(kind(row["schema"]).iter_errors(json.loads(text)), None)
            assert fault is None, f"{row['name']}: {fault.message[:200]}"
    print(f"{ended} of {answered} ended within {BUDGET} tokens, {len(refused)} refused")
    assert ended >= 0.95 * answered and len(refused) <= 0.1 * len(rows)


def tool(name, **properties):
    """A tool all of whose parameters are required."""
    parameters = {"type": "object", "properties": properties, "required": list(properties),
                  "additionalProperties": False}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


TEXT, COUNT = {"type": "string"}, {"type": "integer"}
TOOLS = [
    tool("now"),
    tool("read", path=TEXT),
    tool("edit", path=TEXT, old=TEXT, new=TEXT, lines={"type": "array", "items": COUNT}),
]


async def called(client, asked):
    """The calls of an answer that must call."""
    seed, budget = asked
    answer = await client.chat.completions.create(
        model="tiny", messages=ASK, tools=TOOLS, tool_choice="required", max_tokens=budget,
        temperature=1, seed=seed, extra_body={"repetition_guard": False})
    return answer.choices[0]


def test_required_calls_are_whole(forms, long):
    budgets = [200, 300, 450, 700] * (25 if long else 2)
    for choice in gathered(forms, [(called, asked) for asked in enumerate(budgets)]):
        assert choice.finish_reason == "tool_calls" and not choice.message.content
        for call in choice.message.tool_calls:
            known = next(one for one in TOOLS if one["function"]["name"] == call.function.name)
            schema = known["function"]["parameters"]
            Draft202012Validator(schema).validate(json.loads(call.function.arguments))
