"""Measures a box model: `python evaluate.py MODEL.gguf`. Prints one JSON object.

Conversations come from fixed seeds that training never draws. A span is exact when greedy decoding
says it, end token included; calls that are not exact are decoded to see whether they are at least
well-formed and for the right tool.
"""

import argparse
import collections
import json
import pathlib

import numpy as np
import torch

from box import agent, batches, gguf_file, held_out

HERE = pathlib.Path(__file__).parent
LENGTHS = range(1024, 4097)


def decoded(speaker, model, documents):
    """Turns that end by themselves, and calls that are well-formed, for the right tool, exact."""
    counted = collections.defaultdict(collections.Counter)
    for document, family, start, end, exact in held_out.judge(model, documents)[1]:
        text = lambda ids: speaker.tokenizer.decode(ids, skip_special_tokens=False)
        wanted = text(document.ids[start : end - 1])
        said, ended = (wanted, True) if exact else speaker.say(document.ids[:start])
        counted["turns"] += collections.Counter(all=1, ended=ended)
        if family.startswith("call"):
            call, right = agent.parse(said), agent.parse(wanted)
            named = call is not None and call[0] == right[0]
            kind = "renamed tools" if family.endswith("renamed") else "usual tools"
            counted[kind] += collections.Counter(
                {
                    "all": 1,
                    "well formed": call is not None,
                    "right tool": named,
                    "exact": call == right,
                }
            )
    return counted


def write_logits(folder, model, documents):
    """Ids and Transformers' logits, for `qwire logits --tokens-file --against`."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, document in enumerate(documents):
        with torch.no_grad():
            logits = model(torch.tensor([document.ids])).logits[0]
        (folder / f"{i}.json").write_text(json.dumps(document.ids))
        np.save(folder / f"{i}.npy", logits.numpy())


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    add = arguments.add_argument
    add("model", type=pathlib.Path)
    add("--conversations", type=int, default=1000)
    add("--facts", type=int, default=600)
    add("--decoded", type=int, default=150, help="conversations whose wrong turns are decoded")
    add("--long", type=int, default=60)
    add("--logits", type=pathlib.Path, help="a folder for Transformers' logits of some texts")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    tokenizer = gguf_file.vocabulary(given.model)
    model = gguf_file.read(given.model)
    theirs = gguf_file.transformers_model(model)
    speaker = agent.Speaker(theirs, tokenizer)
    documents = held_out.documents(tokenizer, given.conversations, given.facts)
    long = (batches.long_conversation(f"{held_out.SEED} long {i}") for i in range(given.long))
    long = [d for d in batches.documents(tokenizer, long) if len(d.ids) in LENGTHS]
    if given.logits:
        longest = max(long, key=lambda d: len(d.ids))
        write_logits(given.logits, theirs, [*documents[:4], longest])
    found = {"held out": held_out.score(model, documents)}
    found["long"] = held_out.score(model, long) | {"documents": len(long)}
    found["decoded"] = decoded(speaker, model, documents[: given.decoded])
    template = (HERE / "template.jinja").read_text()
    solved = {}
    for name, fixture in agent.fixtures(HERE / "fixtures").items():
        solved[name] = agent.solve(speaker, template, fixture)
    found["fixtures"] = {name: passed for name, (passed, _) in solved.items()}
    found["work on them"] = {name: messages for name, (_, messages) in solved.items()}
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
