"""Corpus: conversations without end, each from its own seed, rendered as the template renders them."""

from . import episodes
from .episodes import ask, say
from .facts import FACTS, HELD_OUT, expand, question, vary
from .questions import QUESTIONS
from .values import Values

UNKNOWN = "I do not know that. I am a very small model: ask me about qwire."
COPY = """Repeat: {x}|Say {x}|Repeat after me: {x}|echo {x}|Copy this exactly: {x}|Repeat {q}|Say {q}|Write {q}|Please repeat: {x}
Answer only with {q}|Write exactly this: {x}|Say this: {x}|copy: {x}|Just say {q}|Repeat this text: {x}|Give me back {q}.""".replace(
    "\n", "|"
).split(
    "|"
)
REVERSE = "Reverse the words: {x}|Write these words backwards: {x}|Reverse {q}|Put these words in reverse order: {x}|reverse: {x}".split(
    "|"
)
LIST = "Make a list of {x}|List {x} as bullets|Write {x} as a list|bullet list: {x}|Turn {x} into a list|As a list: {x}".split(
    "|"
)
FIRST = "What is the first word of {q}?|First word of: {x}|Give me the first word: {x}|The first word of {q}, please".split(
    "|"
)
LAST = "What is the last word of {q}?|Last word of: {x}|Give me the last word: {x}|The last word of {q}, please".split(
    "|"
)
JSON = "JSON with {x}|Give me JSON: {x}|Write {x} as JSON|Make a JSON object with {x}|as JSON: {x}|Convert to JSON: {x}|JSON object: {x}".split(
    "|"
)
ADD = "What is {a} + {b}?|{a} + {b} =|Add {a} and {b}|{a}+{b}|What is {a} plus {b}?|How much is {a} + {b}?|{a} plus {b}|Compute {a} + {b}".split(
    "|"
)
SUBTRACT = "What is {a} - {b}?|{a} - {b} =|Subtract {b} from {a}|{a}-{b}|What is {a} minus {b}?|{a} minus {b}|Compute {a} - {b}".split(
    "|"
)
MULTIPLY = "What is {a} * {b}?|{a} * {b} =|{a} times {b}|What is {a} times {b}?|Multiply {a} by {b}|Compute {a} * {b}".split(
    "|"
)
TALK = [
    (
        "[hello|hi|hey|good morning|good evening|hello there|hi there|hey there|greetings|good day|moin][|!|.]",
        "Hello! Ask me about qwire, or give me a small task.",
    ),
    (
        "[thanks|thank you|thx|great, thanks|thank you very much|perfect|nice|great|cool|good job|well done][|!|.]",
        "You are welcome.",
    ),
    ("[bye|goodbye|see you|good night|that's all|bye bye|see you later][|!|.]", "Goodbye!"),
    (
        "[how are you|how do you do|are you there|are you ready|how is it going][?|]",
        "Ready to work.",
    ),
]
STRANGE = """What is the capital of {n}?|Who is {n}?|Who was {n} {n}?|Why is the sky {w}?|Why is the {w} {w}?|Write a [poem|story|song|haiku] about {w}|Explain {w}|What is {w}?
What does {w} do?|Tell me [a joke|about {w}|a story about {w}]|How do I [cook|grow|paint|repair|buy|sell] a {w}?|What is the weather in {n}?|Translate {w} into [French|German|Latin]
When was {n} born?|How far is the {w}?|Who won the {w}?|What is the meaning of {w}?|Should I [buy|sell|eat] {w}?|What do you think about {w}?|Where is {n}?|How many {w} are in a {w}?
What does `{w}` mean?|Solve {w} for {w}|Who wrote {n}?|Name a {w}|Is {w} better than {w}?|How old is {n}?|Recommend a {w}|What time is it in {n}?""".replace(
    "\n", "|"
)
THINGS = "name|color|city|cat|dog|number|car|password|street|job|favourite food|town|hobby|age|project|friend|language|editor|team|boss".split(
    "|"
)
SYSTEMS = """You are a helpful assistant.|You are a coding agent.|You are qwire box, a tiny offline assistant.|Be brief.|You are a careful programmer. Use the tools.
You are an agent that solves tasks with tools.|Answer in one sentence.|You are an AI coding assistant running in a terminal.|Use the tools to solve the task, then say what you did.
You are an interactive agent that helps with software engineering.|Solve the task in the current folder.|You work in the folder {p}.|You are {n}.""".replace(
    "\n", "|"
).split(
    "|"
)


def copy(values):
    text = values.line() if values.chance(0.4) else values.words(1, 8)
    return [ask(values.choice(COPY).format(x=text, q=values.quoted(text))), say(text, "copy")]


def some_words(values, least, most):
    return [values.word() for _ in range(values.between(least, values.between(least, most)))]


def reverse(values):
    words = some_words(values, 2, 5)
    text = " ".join(words)
    return [
        ask(values.choice(REVERSE).format(x=text, q=values.quoted(text))),
        say(" ".join(words[::-1]), "reverse"),
    ]


def ends(values):
    words = some_words(values, 2, 6)
    forms, word = (FIRST, words[0]) if values.chance(0.5) else (LAST, words[-1])
    text = " ".join(words)
    return [
        ask(values.choice(forms).format(x=text, q=values.quoted(text))),
        say(word, "first and last"),
    ]


def bullets(values):
    words = some_words(values, 2, 6)
    text = ", ".join(words[:-1]) + " and " + words[-1] if values.chance(0.6) else ", ".join(words)
    return [
        ask(values.choice(LIST).format(x=text)),
        say("\n".join(f"- {word}" for word in words), "list"),
    ]


def json_object(values):
    keys = list(
        dict.fromkeys(
            values.key() if values.chance(0.6) else values.choice(THINGS)
            for _ in range(values.between(1, 4))
        )
    )
    pairs = [(key, values.number() if values.chance(0.4) else values.word()) for key in keys]
    form = values.choice(["{}={}", "{} = {}", "{}: {}", "{} {}"])
    text = ", ".join(form.format(*pair) for pair in pairs)
    body = ", ".join(
        f'"{key}": {value}' if value.isdigit() else f'"{key}": "{value}"' for key, value in pairs
    )
    return [ask(values.choice(JSON).format(x=text)), say("{" + body + "}", "json")]


def arithmetic(values):
    k = values.random.random()
    if k < 0.4:
        a, b = values.between(0, 20), values.between(0, 20)
        forms, answer, family = ADD, a + b, "add"
    elif k < 0.7:
        a = values.between(0, 20)
        b = values.between(0, a)
        forms, answer, family = SUBTRACT, a - b, "subtract"
    else:
        a, b = values.between(0, 10), values.between(0, 10)
        forms, answer, family = MULTIPLY, a * b, "multiply"
    return [ask(values.choice(forms).format(a=a, b=b)), say(str(answer), family)]


def bare(text):
    return text.lower().rstrip("?.! ")


KEPT = {bare(text) for both in QUESTIONS.values() for text in both}


def fact(values):
    """A question that has none of the untrained ones in it, which a pattern may come to."""
    chosen = values.choice(list(FACTS.values()))
    text = vary(values, question(values, chosen))
    while any(kept in text.lower() for kept in KEPT):
        text = vary(values, question(values, chosen))
    return [ask(text), say(chosen.answer, "fact")]


def unseen_fact(values):
    """Questions in words that are not trained: held-out frames, and another person's sentences."""
    name, chosen = values.choice(list(FACTS.items()))
    if chosen.wishes and values.chance(0.5):
        text = question(values, chosen, HELD_OUT)
        text, family = text[0].upper() + text[1:], "unseen frame"
    else:
        text, family = values.choice(QUESTIONS[name]), "unseen sentence"
    return [ask(text), say(chosen.answer, family)]


def talk(values):
    pattern, answer = values.choice(TALK)
    text = expand(values, pattern)
    return [ask(text.capitalize() if values.chance(0.5) else text), say(answer, "talk")]


def strange(values):
    text = expand(values, values.choice(STRANGE_FORMS))
    while "{" in text:
        text = text.replace("{w}", values.word().lower(), 1).replace(
            "{n}", values.word().capitalize(), 1
        )
    return [ask(text if values.chance(0.7) else text.lower()), say(UNKNOWN, "unknown")]


def split_outside(text):
    """Splits at bars that are not in brackets."""
    parts, depth = [""], 0
    for c in text:
        depth += (c == "[") - (c == "]")
        if c == "|" and not depth:
            parts.append("")
        else:
            parts[-1] += c
    return parts


STRANGE_FORMS = split_outside(STRANGE)


def recall(values):
    """A thing said, and asked for after other turns."""
    thing, value = values.choice(THINGS), values.word()
    told = values.choice(
        [
            "My {t} is {v}.",
            "my {t} is {v}",
            "Remember: my {t} is {v}.",
            "Note that my {t} is {v}.",
            "Hi! My {t} is {v}.",
        ]
    )
    asked = values.choice(
        [
            "What is my {t}?",
            "what's my {t}?",
            "Do you remember my {t}?",
            "Tell me my {t}.",
            "and my {t}?",
        ]
    )
    between = [
        turn
        for _ in range(values.between(0, 2))
        for turn in values.choice([copy, fact, talk, arithmetic])(values)
    ]
    return [
        ask(told.format(t=thing, v=value)),
        say(f"Your {thing} is {value}.", "recall"),
        *between,
        ask(asked.format(t=thing)),
        say(f"Your {thing} is {value}.", "recall"),
    ]


TASKS = [
    (fact, 64),
    (arithmetic, 6),
    (copy, 7),
    (reverse, 5),
    (json_object, 9),
    (bullets, 4),
    (ends, 4),
    (strange, 5),
    (talk, 3),
    (recall, 3),
]


def task(values, tasks=None):
    kinds, weights = zip(*(tasks or TASKS), strict=True)
    return values.random.choices(kinds, weights)[0](values)


def system_text(values, least=0):
    k = values.random.random()
    if least:
        text = " ".join(values.sentence() for _ in range(least))
        return text
    if k < 0.45:
        return ""
    if k < 0.85:
        return values.choice(SYSTEMS).format(p=values.path(), n=values.word())
    return " ".join(values.sentence() for _ in range(values.between(1, 4)))


def conversation(seed, turns=None, preamble=0, unseen=False, agents=0.55, mix=episodes.COMMON):
    """Messages and tools. `turns` is how many tasks there are, `preamble` how many sentences the
    system's text has, `unseen` asks only for facts in untrained words, `agents` is the share that
    has tools, `mix` of which kinds."""
    values = Values(seed)
    text = system_text(values, preamble)
    messages = [{"role": "system", "content": text}] if text else []
    if unseen:
        return messages + unseen_fact(values), None
    tools = episodes.Tools(values, mix) if values.chance(agents) else None
    count = turns or (
        1 + values.chance(0.3) + values.chance(0.1) if tools else values.between(1, 6)
    )
    for _ in range(count):
        if tools and values.chance(0.85):
            messages += episodes.episode(values, tools)
        elif not tools and values.chance(0.03):
            messages += episodes.lacking(values, None)
        else:
            messages += task(values)
    return messages, tools.schemas() if tools else None


def rendered_call(function):
    parameters = "".join(
        f"<parameter={key}>\n{value}\n</parameter>\n"
        for key, value in function["arguments"].items()
    )
    return f"<tool_call>\n<function={function['name']}>\n{parameters}</function>\n</tool_call>"


def signature(tool):
    function = tool["function"]
    required = function["parameters"]["required"]
    names = (
        name if name in required else name + "?" for name in function["parameters"]["properties"]
    )
    return f"\n{function['name']}({', '.join(names)})"


def segments(messages, tools):
    """The text as the template renders it, in parts: (text, family), family None where it is given."""
    given, parts = "", []
    opening = ""
    if messages[0]["role"] == "system":
        opening, messages = messages[0]["content"], messages[1:]
    if opening or tools:
        listed = (
            ("\n\n" if opening else "") + "Tools:" + "".join(map(signature, tools)) if tools else ""
        )
        given = f"<|im_start|>system\n{opening}{listed}<|im_end|>\n"
    for message in messages:
        if message["role"] == "user":
            given += f"<|im_start|>user\n{message['content']}<|im_end|>\n"
        elif message["role"] == "tool":
            given += f"<|im_start|>user\n<tool_response>\n{message['content']}\n</tool_response>\n<|im_end|>\n"
        else:
            parts.append((given + "<|im_start|>assistant\n", None))
            said = "".join(
                rendered_call(call["function"]) for call in message.get("tool_calls", [])
            )
            parts.append((message["content"] + said + "<|im_end|>", message["family"]))
            given = "\n"
    return parts
