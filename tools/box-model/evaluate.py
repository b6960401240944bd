"""Measures a box model: `python evaluate.py MODEL.gguf`. Prints one JSON object.

Conversations come from fixed seeds that training never draws. A span is exact when greedy decoding
says it, end token included; calls that are not exact are decoded to see whether they are at least
well-formed and for the right tool.
"""

import argparse
import json
import pathlib

import torch
from tokenizers import Tokenizer

from box import agent, batches, corpus, gguf_file, held_out

HERE = pathlib.Path(__file__).parent


def calls(speaker, tokenizer, conversations):
    """Shares of calls that are well-formed, for the right tool, exact, and of turns that end."""
    counted = {"calls": 0, "well formed": 0, "right tool": 0, "exact": 0, "turns": 0, "ended": 0}
    for messages, tools in conversations:
        text = ""
        for part, family in corpus.segments(messages, tools):
            if family:
                said, ended = speaker.say(tokenizer.encode(text).ids)
                counted["turns"] += 1
                counted["ended"] += ended
                if family.startswith("call"):
                    wanted = agent.parse(part.removesuffix("<|im_end|>"))
                    got = agent.parse(said)
                    counted["calls"] += 1
                    counted["well formed"] += got is not None
                    counted["right tool"] += got is not None and got[0] == wanted[0]
                    counted["exact"] += got == wanted
            text += part
    return counted


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("model", type=pathlib.Path)
    arguments.add_argument(
        "--tokenizer", type=pathlib.Path, required=True, help="tokenizer.json of the training"
    )
    arguments.add_argument("--conversations", type=int, default=1000)
    arguments.add_argument("--facts", type=int, default=600)
    arguments.add_argument(
        "--decoded", type=int, default=150, help="conversations that are decoded"
    )
    arguments.add_argument("--long", type=int, default=60)
    given = arguments.parse_args()
    torch.set_num_threads(1)
    tokenizer = Tokenizer.from_file(str(given.tokenizer))
    model = gguf_file.read(given.model)
    speaker = agent.Speaker(gguf_file.transformers_model(model), tokenizer)
    found = {
        "held out": held_out.score(
            model, held_out.documents(tokenizer, given.conversations, given.facts)
        )
    }
    long = (batches.long_conversation(f"{held_out.SEED} long {i}") for i in range(given.long))
    documents = [d for d in batches.documents(tokenizer, long) if 1024 <= len(d.ids) <= 4096]
    found["long"] = held_out.score(model, documents) | {"documents": len(documents)}
    del found["long"]["loads"]
    drawn = (corpus.conversation(f"{held_out.SEED} decoded {i}") for i in range(given.decoded))
    found["decoded"] = calls(speaker, tokenizer, drawn)
    template = (HERE / "template.jinja").read_text()
    solved = {
        name: agent.solve(speaker, template, fixture)
        for name, fixture in agent.fixtures(HERE / "fixtures").items()
    }
    found["fixtures"] = {name: passed for name, (passed, _) in solved.items()}
    found["fixture conversations"] = {name: messages for name, (_, messages) in solved.items()}
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
