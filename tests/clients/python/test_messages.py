"""Messages through Anthropic's official client: streamed or not, tools, thoughts, counts, faults."""

import json

import anthropic
import jsonschema
import pytest
from anthropic import Anthropic
from server import Server

ASK = [{"role": "user", "content": "Why is the sky blue?"}]
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Paris", "Oslo"]},
                   "days": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
TOOLS = [
    {"name": "weather", "description": "Tells it", "input_schema": WEATHER},
    {"name": "stop", "input_schema": {"type": "object", "properties": {}, "additionalProperties": False}},
]
SCHEMAS = {tool["name"]: tool["input_schema"] for tool in TOOLS}


@pytest.fixture(scope="module")
def claude(server):
    return Anthropic(base_url=server.root, api_key="none", max_retries=0, timeout=60)


def ask(claude, **fields):
    fields = {"model": "claude-sonnet-4-5", "max_tokens": 16, "messages": ASK,
              "extra_body": {"seed": 1}, **fields}
    return claude.messages.create(**fields)


def streamed(claude, **fields):
    """The message that the official client puts together, and the events it was made of."""
    fields = {"model": "claude-sonnet-4-5", "max_tokens": 16, "messages": ASK,
              "extra_body": {"seed": 1}, **fields}
    with claude.messages.stream(**fields) as stream:
        events = [event for event in stream]
        return stream.get_final_message(), events


def plain(message):
    """What a message says, without names that are drawn."""
    blocks = [block.to_dict() for block in message.content]
    for block in blocks:
        block.pop("id", None)
    return blocks, message.stop_reason, message.stop_sequence, message.usage.output_tokens


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"system": "Be brief."},
        {"system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]},
        {"extra_body": {"temperature": 0}},
        {"extra_body": {"temperature": 0, "top_k": 5, "top_p": 0.5}},
        {"stop_sequences": ["a"]},
        {"metadata": {"user_id": "user_1_session_2"}, "service_tier": "auto"},
        {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2048},
        {"thinking": {"type": "disabled"}},
        {"tools": TOOLS, "max_tokens": 300},
        {"tools": TOOLS, "tool_choice": {"type": "any"}, "max_tokens": 300},
        {"tools": TOOLS, "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
         "max_tokens": 300},
        {"tools": TOOLS, "tool_choice": {"type": "tool", "name": "weather"}, "max_tokens": 300},
        {"tools": TOOLS, "tool_choice": {"type": "none"}},
        {"messages": [*ASK, {"role": "assistant", "content": "It is"}]},
    ],
    ids=str,
)
def test_streamed_or_not_it_is_the_same(claude, fields):
    whole = ask(claude, **fields)
    message, events = streamed(claude, **fields)
    assert plain(message) == plain(whole)
    assert whole.type == "message" and whole.role == "assistant" and whole.id.startswith("msg_")
    kinds = [event.type for event in events if event.type in
             ("message_start", "content_block_start", "content_block_stop", "message_delta",
              "message_stop")]
    assert kinds[0] == "message_start" and kinds[-2:] == ["message_delta", "message_stop"]
    inside = kinds[1:-2]
    assert inside == ["content_block_start", "content_block_stop"] * (len(inside) // 2)
    total = lambda usage: usage.input_tokens + usage.cache_read_input_tokens
    assert total(message.usage) == total(whole.usage)
    for block in whole.content:
        if block.type == "tool_use":
            assert block.id.startswith("toolu_")
            jsonschema.validate(block.input, SCHEMAS[block.name])


def test_tool_choices_are_honoured(claude):
    for seed in range(3):
        more = {"tools": TOOLS, "max_tokens": 400, "extra_body": {"seed": seed}}
        named = ask(claude, tool_choice={"type": "tool", "name": "weather"}, **more)
        assert named.stop_reason == "tool_use"
        assert {block.name for block in named.content if block.type == "tool_use"} == {"weather"}
        alone = ask(claude, tool_choice={"type": "any", "disable_parallel_tool_use": True}, **more)
        assert sum(block.type == "tool_use" for block in alone.content) == 1
        none = ask(claude, tool_choice={"type": "none"}, **more)
        assert all(block.type != "tool_use" for block in none.content)


def test_a_tool_loop_goes_on(claude):
    call = ask(claude, tools=TOOLS, tool_choice={"type": "any"}, max_tokens=400)
    results = [{"type": "tool_result", "tool_use_id": block.id, "content": "12 degrees"}
               for block in call.content if block.type == "tool_use"]
    reminder = {"type": "text", "text": "<system-reminder>\nBe kind.\n</system-reminder>"}
    messages = [*ASK, {"role": "assistant", "content": call.content},
                {"role": "user", "content": [*results, reminder]}]
    answer = ask(claude, messages=messages, tools=TOOLS)
    before = call.usage.input_tokens + call.usage.cache_read_input_tokens
    # The call's last token may not have been computed; all before it was.
    assert answer.usage.cache_read_input_tokens >= before + call.usage.output_tokens - 1


def test_counts_are_those_of_the_answer(claude):
    for fields in [{}, {"system": "Be brief."}, {"tools": TOOLS}]:
        counted = claude.messages.count_tokens(model="claude-opus-4-1", messages=ASK, **fields)
        usage = ask(claude, **fields).usage
        assert counted.input_tokens == usage.input_tokens + usage.cache_read_input_tokens


def test_unknown_blocks_and_fields_are_borne(claude):
    blocks = [
        {"type": "text", "text": "Look:"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "D"}},
        {"type": "hologram", "x": 1},
    ]
    raw = claude.messages.with_raw_response.create(
        model="claude-sonnet-4-5", max_tokens=4, messages=[{"role": "user", "content": blocks}],
        extra_body={"colour": 1, "context_management": {"edits": []}},
        extra_headers={"anthropic-beta": "interleaved-thinking-2025-05-14,never-seen"},
        extra_query={"beta": "true"},
    )
    assert raw.headers["x-ignored-fields"] == "colour"
    assert raw.headers["x-prefix-cache"].startswith("hit=")


def test_the_list_of_models_has_two_shapes(claude, client):
    theirs = claude.models.list()
    assert [model.type for model in theirs.data] == ["model"]
    assert theirs.data[0].id == "tiny" and not theirs.has_more
    assert claude.models.retrieve("tiny").display_name == "tiny"
    assert [model.object for model in client.models.list().data] == ["model"]


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"model": "gpt-4o"}, anthropic.NotFoundError),
        ({"messages": []}, anthropic.BadRequestError),
        ({"extra_body": {"temperature": 3}}, anthropic.BadRequestError),
        ({"max_tokens": 0}, anthropic.BadRequestError),
        ({"tools": TOOLS, "tool_choice": {"type": "tool", "name": "absent"}},
         anthropic.BadRequestError),
        ({"extra_headers": {"x-priority": "urgent"}}, anthropic.BadRequestError),
    ],
    ids=str,
)
@pytest.mark.parametrize("stream", [False, True])
def test_faults_are_of_its_kinds(claude, fields, kind, stream):
    with pytest.raises(kind) as fault:
        ask(claude, stream=stream, **fields)
    body = fault.value.body
    assert body["type"] == "error" and body["request_id"] == fault.value.request_id
    assert body["error"]["type"] in ("not_found_error", "invalid_request_error")


def test_either_header_carries_the_key():
    with Server("--api-key", "right") as server:
        make = lambda **auth: Anthropic(base_url=server.root, max_retries=0, timeout=60, **auth)
        for auth in [{"api_key": "right"}, {"auth_token": "right", "api_key": None}]:
            assert ask(make(**auth)).content
        with pytest.raises(anthropic.AuthenticationError) as fault:
            ask(make(api_key="wrong"))
        assert fault.value.body["error"]["type"] == "authentication_error"


def test_a_full_queue_is_overload():
    with Server("--parallel", "1", "--queue", "1") as server:
        claude = Anthropic(base_url=server.root, api_key="none", max_retries=0, timeout=60)
        body = {"ignore_eos": True, "repetition_guard": False}
        slow = {"max_tokens": 4000, "stream": True, "extra_body": body}
        streams = [ask(claude, **slow)]
        server.until(lambda: server.metric("qwire_running") == 1, "answers")
        streams.append(ask(claude, **slow))
        with pytest.raises(anthropic.InternalServerError) as fault:
            ask(claude)
        assert fault.value.status_code == 529
        assert fault.value.body["error"]["type"] == "overloaded_error"
        for stream in streams:
            stream.close()
        assert ask(claude.with_options(max_retries=3)).content


def test_fragments_of_a_call_add_up(claude):
    fields = {"tools": TOOLS, "tool_choice": {"type": "tool", "name": "weather"},
              "max_tokens": 300}
    message, events = streamed(claude, **fields)
    pieces = [event.delta.partial_json for event in events
              if event.type == "content_block_delta" and event.delta.type == "input_json_delta"]
    calls = [block.input for block in message.content if block.type == "tool_use"]
    decoder, text, found = json.JSONDecoder(), "".join(pieces), []
    while text:
        value, end = decoder.raw_decode(text)
        found.append(value)
        text = text[end:]
    assert found == calls
