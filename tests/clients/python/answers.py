"""What an answer says, whether it came in one piece or as a stream: plain values to compare."""

from dataclasses import dataclass, field

ASK = [{"role": "user", "content": "Why is the sky blue?"}]


@dataclass
class Said:
    """One choice."""

    text: str = ""
    thoughts: str = ""
    calls: list = field(default_factory=list)
    finish: str | None = None
    # (text, log-probability, bytes, alternatives); equal floats are equal bits.
    tokens: list = field(default_factory=list)


def chat(client, messages=ASK, **fields):
    """Asks for a chat completion."""
    fields = {"model": "tiny", "max_tokens": 16, "seed": 1, **fields}
    return client.chat.completions.create(messages=messages, **fields)


def complete(client, prompt, **fields):
    """Asks for a completion."""
    fields = {"model": "tiny", "max_tokens": 16, "seed": 1, **fields}
    return client.completions.create(prompt=prompt, **fields)


def said(answer):
    """The choices of a chat completion."""
    if not hasattr(answer, "choices"):
        return said_by_chunks(list(answer))
    choices = []
    for at, choice in enumerate(answer.choices):
        message = choice.message
        assert (choice.index, message.role) == (at, "assistant")
        calls = [(call.id, call.function.name, call.function.arguments)
                 for call in message.tool_calls or []]
        thoughts = getattr(message, "reasoning_content", None) or ""
        choices.append(Said(message.content or "", thoughts, calls, choice.finish_reason,
                            listed(choice.logprobs)))
    return choices


def said_by_chunks(chunks):
    """The same of a stream's chunks, each of which must be in form."""
    choices = {}
    first = chunks[0]
    for chunk in chunks:
        assert chunk.object == "chat.completion.chunk"
        assert (chunk.id, chunk.created, chunk.model) == (first.id, first.created, first.model)
        for choice in chunk.choices:
            if choice.index not in choices:
                assert choice.delta.role == "assistant", "a choice starts with its role"
            into = choices.setdefault(choice.index, Said())
            assert into.finish is None, "nothing follows the end of a choice"
            into.finish = choice.finish_reason
            into.text += choice.delta.content or ""
            into.thoughts += getattr(choice.delta, "reasoning_content", None) or ""
            into.tokens += listed(choice.logprobs)
            for piece in choice.delta.tool_calls or []:
                add_call(into.calls, piece)
    assert sorted(choices) == list(range(len(choices))), "choices are counted from 0"
    return [choices[index] for index in sorted(choices)]


def add_call(calls, piece):
    """Adds a fragment; the first one has id, type, name and no arguments, the others only those."""
    if piece.index == len(calls):
        assert piece.id.startswith("call_") and piece.type == "function"
        assert piece.function.arguments == ""
        calls.append((piece.id, piece.function.name, ""))
    else:
        assert piece.index == len(calls) - 1, "calls come one after the other"
        assert piece.id is None and piece.type is None and piece.function.name is None
        name = calls[-1]
        calls[-1] = (*name[:2], name[2] + piece.function.arguments)


def listed(logprobs):
    """Tokens with their log-probabilities."""
    return [
        (one.token, one.logprob, one.bytes, [(top.bytes, top.logprob) for top in one.top_logprobs])
        for one in (logprobs and logprobs.content) or []
    ]


def without_ids(choices):
    """Choices whose calls have lost their random names."""
    for choice in choices:
        choice.calls = [(name, arguments) for _, name, arguments in choice.calls]
    return choices
