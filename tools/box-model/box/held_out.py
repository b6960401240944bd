"""Held-out conversations: fixed seeds that training never draws, and what is right of them.

A span is exact when the best token is the right one at each of its positions, the end token among
them; greedy decoding then says exactly this.
"""

import collections

import torch
import torch.nn.functional as F

from . import batches, corpus

SEED = "held out"
ROWS = 16


def documents(tokenizer, conversations, facts):
    drawn = [corpus.conversation(f"{SEED} {i}") for i in range(conversations)]
    drawn += [corpus.conversation(f"{SEED} fact {i}", unseen=True) for i in range(facts)]
    return batches.documents(tokenizer, drawn)


@torch.no_grad()
def judge(model, documents):
    """The loss, and every span as (document, family, start, end, whether it is exact)."""
    model.eval()
    spans, loss, tokens = [], 0.0, 0
    documents = sorted(documents, key=lambda d: len(d.ids))
    for first in range(0, len(documents), ROWS):
        rows = documents[first : first + ROWS]
        batch = batches.Batch(rows)
        logits = model(batch.ids, batch.wanted)
        right = logits.argmax(-1) == batch.targets
        loss += F.cross_entropy(logits, batch.targets, reduction="sum").item()
        tokens += len(batch.targets)
        at = 0
        for family, row, start, end in batch.spans:
            spans.append((rows[row], family, start, end, bool(right[at : at + end - start].all())))
            at += end - start
    model.train()
    return loss / tokens, spans


def score(model, documents):
    """Loss, [share of exact spans, spans] per family, and each expert's load."""
    model.loads()
    loss, spans = judge(model, documents)
    found = collections.defaultdict(list)
    for _, family, _, _, exact in spans:
        found[family].append(exact)
        if family.startswith("call"):
            found["calls"].append(exact)
            found["calls renamed" if family.endswith("renamed") else "calls usual"].append(exact)
        if family.startswith("unseen"):
            found["unseen"].append(exact)
    shares = {
        family: [round(sum(all_) / len(all_), 3), len(all_)]
        for family, all_ in sorted(found.items())
    }
    loads = [[round(value, 2) for value in load.tolist()] for load in model.loads()]
    return {"loss": round(loss, 4), "exact": shares, "loads": loads}
