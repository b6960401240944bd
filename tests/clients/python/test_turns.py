"""Turns of an agent: each computes only what is new, also after the server was killed."""

import json
import signal
import time

import pytest
from server import Server

TURNS = 20
TOOL = {"type": "function", "function": {"name": "read", "parameters": {
    "type": "object",
    "properties": {"path": {"type": "string", "enum": ["lib.rs", "main.rs", "a b/c.rs"]},
                   "limit": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["path", "limit"], "additionalProperties": False}}}


def turned(value):
    """The same object, its keys the other way round."""
    if isinstance(value, dict):
        return {key: turned(value[key]) for key in reversed(value)}
    return value


def noise(turn):
    header = f"x-anthropic-billing-header: cc_version=2.1.37; cch={turn * 7919 % 65521:05x};"
    left = f"<total_tokens>{200_000 - 1234 * turn} tokens left</total_tokens>"
    return header, left


class Chat:
    """An agent that speaks OpenAI's wire."""

    path = "/v1/chat/completions"

    def __init__(self):
        self.history = [{"role": "user", "content": "Mend the parser."}]

    def body(self, turn):
        header, left = noise(turn)
        system = {"role": "system", "content": f"{header}\n\nYou are an agent.\n{left}"}
        return {"messages": [system, *self.history], "tools": [TOOL], "seed": turn,
                "tool_choice": "required", "max_tokens": 600, "temperature": 1}

    def take(self, turn, answer):
        choice = answer["choices"][0]
        assert choice["finish_reason"] == "tool_calls", answer
        message = choice["message"]
        self.history.append(message)
        for call in message["tool_calls"]:
            arguments = turned(json.loads(call["function"]["arguments"]))
            call["function"]["arguments"] = json.dumps(arguments, indent=1)
            self.history.append(
                {"role": "tool", "tool_call_id": call["id"], "content": f"line {turn}"})
        usage = answer["usage"]
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        return usage["prompt_tokens"], cached, usage["completion_tokens"]


class Messages:
    """An agent that speaks Anthropic's."""

    path = "/v1/messages"

    def __init__(self):
        self.history = [{"role": "user", "content": [{"type": "text", "text": "Mend it."}]}]

    def body(self, turn):
        header, left = noise(turn)
        text = lambda text: {"type": "text", "text": text}
        last = self.history[-1]
        last = {**last, "content": [*last["content"], text(left)]}
        function = TOOL["function"]
        tool = {"name": function["name"], "input_schema": function["parameters"]}
        return {"model": "claude-sonnet-4-5", "system": [text(header), text("You are an agent.")],
                "messages": [*self.history[:-1], last], "tools": [tool], "max_tokens": 600,
                "tool_choice": {"type": "any"}, "seed": turn, "temperature": 1}

    def take(self, turn, answer):
        assert answer["stop_reason"] == "tool_use", answer
        calls = [block for block in answer["content"] if block["type"] == "tool_use"]
        for call in calls:
            call["input"] = turned(call["input"])
        results = [{"type": "tool_result", "tool_use_id": call["id"], "content": f"line {turn}"}
                   for call in calls]
        self.history.append({"role": "assistant", "content": answer["content"]})
        self.history.append({"role": "user", "content": results})
        usage = answer["usage"]
        cached = usage["cache_read_input_tokens"]
        return usage["input_tokens"] + cached, cached, usage["output_tokens"]


def play(server, agent, turns):
    """Plays some turns: (prompt, cached, answer) tokens of each."""
    with server.http() as http:
        played = []
        for turn in turns:
            answer = http.post(agent.path, json=agent.body(turn))
            assert answer.status_code == 200, answer.text
            played.append(agent.take(turn, answer.json()))
        return played


@pytest.mark.parametrize("make", [Chat, Messages])
def test_every_turn_computes_only_what_is_new(make, tmp_path):
    with Server("--ctx", "16384", environment={"XDG_CACHE_HOME": str(tmp_path)}) as server:
        played = play(server, make(), range(TURNS))
    for (prompt, _, said), (_, cached, _) in zip(played, played[1:]):
        assert cached == prompt + said, played


@pytest.mark.parametrize("make", [Chat, Messages])
def test_turns_outlive_a_kill(make, tmp_path):
    flags = ["--ctx", "16384"]
    environment = {"XDG_CACHE_HOME": str(tmp_path)}
    with Server(*flags, environment=environment) as server:
        agent = make()
        play(server, agent, range(5))
        time.sleep(1)
        with server.http() as http:
            next_turn = http.post(agent.path, json=agent.body(5))
        server.end(signal.SIGKILL)
        server.process.wait()
    with Server(*flags, environment=environment) as server, server.http() as http:
        again = http.post(agent.path, json=agent.body(5))
    strangers = {"XDG_CACHE_HOME": str(tmp_path / "other")}
    with Server(*flags, environment=strangers) as server, server.http() as http:
        fresh = http.post(agent.path, json=agent.body(5))
    tokens = lambda answer: agent.take(5, answer.json())[0]
    assert tokens(again) == tokens(next_turn)
    assert tokens(fresh) != tokens(next_turn), "a model of noise spells as no tokenizer does"
