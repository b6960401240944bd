"""Agent: greedy decoding, and a loop of four tools that solves a fixture in a folder of its own."""

import json
import re
import subprocess
import tempfile
from pathlib import Path

import jinja2
import torch

from .episodes import COMMON, USUAL, Tools
from .values import Values

TURNS = 8
MOST_TOKENS = 400
CALL = re.compile(
    r"<tool_call>\n<function=([^>\n]+)>\n((?:<parameter=[^>\n]+>\n.*?\n</parameter>\n)+)</function>\n</tool_call>",
    re.S,
)
PARAMETER = re.compile(r"<parameter=([^>\n]+)>\n(.*?)\n</parameter>\n", re.S)


def environment():
    """Jinja as Transformers sets it up."""
    return jinja2.Environment(trim_blocks=True, lstrip_blocks=True)


class Speaker:
    """A model that continues text with its best tokens."""

    def __init__(self, model, tokenizer):
        self.model, self.tokenizer = model, tokenizer
        self.end = tokenizer.token_to_id("<|im_end|>")

    @torch.no_grad()
    def say(self, ids):
        """The text up to the end token, and whether that came."""
        given, cache, said = torch.tensor([ids]), None, []
        while len(said) < MOST_TOKENS:
            out = self.model(given, past_key_values=cache, use_cache=True)
            best = out.logits[0, -1].argmax().item()
            if best == self.end:
                return self.tokenizer.decode(said, skip_special_tokens=False), True
            said.append(best)
            given, cache = torch.tensor([[best]]), out.past_key_values
        return self.tokenizer.decode(said, skip_special_tokens=False), False


def parse(text):
    """The name and arguments of a well-formed call that is the whole text."""
    found = CALL.fullmatch(text)
    return (found[1], dict(PARAMETER.findall(found[2]))) if found else None


def apply(folder, name, arguments):
    """What a tool gives."""
    if name == "run_command":
        done = subprocess.run(
            ["sh", "-c", arguments["command"]],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=20,
        )
        output = (done.stdout + done.stderr).rstrip("\n")
        return (output + "\n" if output else "") + f"exit status {done.returncode}"
    path = folder / arguments["path"]
    if name == "write_file":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(arguments["content"] + "\n")
        return "ok"
    if not path.exists():
        return f"error: no such file: {arguments['path']}"
    text = path.read_text()
    if name == "read_file":
        return text.rstrip("\n")
    if arguments["old"] not in text:
        return f"error: {arguments['old']} not found"
    path.write_text(text.replace(arguments["old"], arguments["new"], 1))
    return "ok"


def usual_tools():
    """The four tools under their usual names, in the usual order."""
    tools = Tools(Values(0), COMMON)
    tools.rows = list(USUAL.values())
    return tools.schemas()


def solve(speaker, template, fixture):
    """Lets the model work on a fixture; whether its judge is content, and the conversation."""
    template = environment().from_string(template)
    tools = usual_tools()
    messages = [{"role": "user", "content": fixture["prompt"]}]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path, text in fixture["files"].items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        for _ in range(TURNS):
            text = template.render(messages=messages, tools=tools, add_generation_prompt=True)
            said, _ = speaker.say(speaker.tokenizer.encode(text).ids)
            call = parse(said)
            if call is None or call[0] not in {name for name, _ in USUAL.values()}:
                messages.append({"role": "assistant", "content": said})
                break
            function = {"name": call[0], "arguments": call[1]}
            messages.append(
                {"role": "assistant", "content": "", "tool_calls": [{"function": function}]}
            )
            try:
                result = apply(folder, *call)
            except (KeyError, OSError, subprocess.TimeoutExpired) as error:
                result = f"error: {error}"
            messages.append({"role": "tool", "content": result})
        judged = subprocess.run(["sh", "-c", fixture["judge"]], cwd=folder, capture_output=True)
    return judged.returncode == 0, messages


def fixtures(folder):
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
