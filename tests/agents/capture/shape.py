"""Makes the shape of an agent's requests of what was recorded: structure, names and lengths stay,
texts go. `shape.py RECORDED PACKAGE VERSION > SHAPE.json`, with RECORDED as `recorder.py` wrote it.

A text of 1,234 characters becomes "{text:1234}". In the request that follows a call, what repeats
the request before it is "{same}", and what came from the model is "{answer}", "{call}" (its id),
"{tool}", "{arguments}" (as text) or "{input}" (as an object).
"""

import json
import re
import sys
from pathlib import Path

from recorder import ANSWER, is_call

# Their texts are words of the wire, or of JSON Schema.
WORDS = {"type", "role", "name", "tool_choice", "$schema", "$ref", "pattern", "format", "effort"}
WORDS |= {"display", "keep", "status", "required", "enum", "const", "ttl", "include", "summary"}
HEADERS = {"accept", "content-type", "user-agent", "originator", "x-app", "accept-language"}
HEADERS |= {"anthropic-version", "anthropic-beta", "x-codex-beta-features", "x-stainless-lang"}
# Said by every client, or by ours in its own way.
LEFT_OUT = {"host", "content-length", "connection", "accept-encoding", "authorization"}
MARK = re.compile(r"\{(text:\d+|same|answer|call|tool|arguments|input|model)\}")


def filler(text):
    return f"{{text:{len(text)}}}" if text else ""


def stripped(value, key=None):
    """The value without its texts."""
    if isinstance(value, dict):
        return {name: stripped(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [stripped(item, key) for item in value]
    if not isinstance(value, str) or MARK.fullmatch(value):
        return value
    if key == "model":
        return "{model}" if value == "recorded" else value
    short = re.fullmatch(r"\S{0,60}", value)
    return value if key in WORDS and (short or key in {"pattern"}) else filler(value)


def marked(value, called):
    """The value with marks where it says what the model said."""
    id_, name, arguments = called
    if isinstance(value, dict):
        echoes = {"{call}" for text in value.values() if text == id_}
        value = {key: marked(item, called) for key, item in value.items()}
        if echoes or value.get("arguments") is not None:
            for key in value.keys() & {"name", "arguments", "input"}:
                value[key] = {"name": "{tool}", "arguments": "{arguments}", "input": "{input}"}[key]
        return value
    if isinstance(value, list):
        return [marked(item, called) for item in value]
    return (
        {ANSWER: "{answer}", id_: "{call}"}.get(value, value) if isinstance(value, str) else value
    )


def headers(request):
    rows = [(name.lower(), text) for name, text in request["headers"]]
    rows = [(name, text) for name, text in rows if name not in LEFT_OUT]
    return {name: text if name in HEADERS else filler(text) for name, text in rows}


def following(main, next_, called):
    """The request after a call, as far as it is not the one before it."""
    shape = {}
    for key, value in next_.items():
        before = main.get(key)
        if value == before:
            shape[key] = "{same}"
        elif isinstance(value, list) and isinstance(before, list):
            pairs = list(zip(value, before))
            same = ["{same}" if new == old else stripped(new) for new, old in pairs]
            shape[key] = same + [stripped(marked(new, called)) for new in value[len(pairs) :]]
        else:
            shape[key] = stripped(value)
    return shape


def shape(folder, package, version):
    recorded = [json.loads(path.read_text()) for path in sorted(Path(folder).glob("*.json"))]
    rows, main = [], None
    for request in recorded:
        body, row = request["body"], {key: request[key] for key in ("method", "path")}
        if body == "":
            rows.append({"turn": "probe", **row, "headers": headers(request)})
        elif main is None and is_call(request):
            main = request
            rows.append(
                {"turn": "main", **row, "headers": headers(request), "body": stripped(body)}
            )
        elif main is None:
            rows.append(
                {"turn": "aside", **row, "headers": headers(request), "body": stripped(body)}
            )
        else:
            rows.append({"turn": "result", "body": following(main["body"], body, main["called"])})
            break
    return {"package": package, "version": version, "requests": rows}


if __name__ == "__main__":
    print(json.dumps(shape(*sys.argv[1:]), indent=1, ensure_ascii=False))
