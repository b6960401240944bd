"""Held-out conversations: fixed seeds that training never draws, and what is right of them.

A span is exact when the best token is the right one at each of its positions, the end token among
them; greedy decoding then says exactly this.
"""

import collections

import torch
import torch.nn.functional as F

from . import batches, corpus

SEED = "held out"


def documents(tokenizer, conversations, facts):
    drawn = [corpus.conversation(f"{SEED} {i}") for i in range(conversations)]
    drawn += [corpus.conversation(f"{SEED} fact {i}", unseen=True) for i in range(facts)]
    return batches.documents(tokenizer, drawn)


@torch.no_grad()
def score(model, documents):
    """Loss, share of exact spans per family, and the experts' loads."""
    model.eval()
    model.loads()
    exact, count = collections.Counter(), collections.Counter()
    loss, tokens = 0.0, 0
    documents = sorted(documents, key=lambda d: len(d.ids))
    for start in range(0, len(documents), 16):
        batch = batches.Batch(documents[start : start + 16])
        logits = model(batch.ids, batch.wanted)
        right = logits.argmax(-1) == batch.targets
        loss += F.cross_entropy(logits, batch.targets, reduction="sum").item()
        tokens += len(batch.targets)
        at = 0
        for family, _, first, last in batch.spans:
            count[family] += 1
            exact[family] += bool(right[at : at + last - first].all())
            at += last - first
    model.train()
    calls = [family for family in count if family.startswith("call")]
    share = {
        family: [round(exact[family] / count[family], 3), count[family]] for family in sorted(count)
    }
    share["calls"] = [
        round(sum(exact[f] for f in calls) / max(1, sum(count[f] for f in calls)), 3),
        sum(count[f] for f in calls),
    ]
    loads = [[round(value, 2) for value in load.tolist()] for load in model.loads()]
    return {"loss": round(loss / tokens, 4), "exact": share, "loads": loads}
