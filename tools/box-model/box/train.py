"""Training: a schedule in steps, every random number from one seed, resumable at any checkpoint.

A step is two batches. Each has a thread, for a thread that is made to wait delays all that share
an operation with it; and gradients are summed in one order, however many threads there are.
"""

import copy
import json
import random
import time
from concurrent.futures import ThreadPoolExecutor

import torch
import torch.nn.functional as F
from torch import nn

from . import batches, held_out
from .model import Model, Shape

SEED = 1
RATE, FLOOR, WARM_UP, HOLD = 2e-3, 0.02, 100, 0.5
AGENTS = 0.55, 0.55  # the share of conversations that have tools, first and last
# Of a model that is trained already.
AGAIN_RATE, AGAIN_HOLD, AGAIN_AGENTS, AGAIN_HARD = 1.5e-3, 0.1, (0.4, 0.6), 0.6
BALANCE = 0.01
DECAY = 0.05
SIZE, PARTS = 1024, 2
LONG_FROM, LONG_SHARE = 0.6, 0.08
INDUCTION_FIRST = 1500
CHECKPOINT, REPORT, EVALUATE = 100, 50, 500


def rate(step, steps, again):
    """Warm-up, hold, then a line down."""
    done = step / steps
    peak, hold = (AGAIN_RATE, AGAIN_HOLD) if again else (RATE, HOLD)
    fall = 1 if done < hold else max(FLOOR, (1 - done) / (1 - hold))
    return peak * min(1, (step + 1) / WARM_UP) * fall


def twin(model):
    """A model with the same weights in the same memory, and gradients of its own."""
    other = copy.deepcopy(model)
    for here, there in zip(other.parameters(), model.parameters(), strict=True):
        here.data = there.data
    return other


class Run:
    """One training: model, optimiser, streams and the step it is at. `seed` names what it draws."""

    def __init__(self, tokenizer, folder, steps, threads, seed=SEED, begun=None):
        torch.manual_seed(SEED)
        torch.set_num_threads(1)
        self.tokenizer, self.folder, self.steps, self.step = tokenizer, folder, steps, 0
        self.seed = seed
        self.again = begun is not None
        self.model = begun or Model(Shape(vocabulary=tokenizer.get_vocab_size()))
        self.model.train()
        self.models = [self.model] + [twin(self.model) for _ in range(PARTS - 1)]
        self.pool = ThreadPoolExecutor(threads, initializer=lambda: torch.set_num_threads(1))
        matrices = [p for p in self.model.parameters() if p.dim() > 1]
        vectors = [p for p in self.model.parameters() if p.dim() == 1]
        groups = [
            {"params": matrices, "weight_decay": DECAY},
            {"params": vectors, "weight_decay": 0},
        ]
        self.optimiser = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.95), fused=True)
        hard = AGAIN_HARD if self.again else 0.0
        self.short = batches.Stream(tokenizer, seed, SIZE, hard=hard)
        self.long = batches.Stream(tokenizer, seed, SIZE, long=True, hard=hard)
        self.tokens = 0
        if (folder / "checkpoint.pt").exists():
            self.resume()

    def resume(self):
        kept = torch.load(self.folder / "checkpoint.pt", weights_only=True)
        self.model.load_state_dict(kept["model"])
        self.optimiser.load_state_dict(kept["optimiser"])
        self.step, self.tokens = kept["step"], kept["tokens"]
        for stream, place in zip((self.short, self.long), kept["places"], strict=True):
            stream.chunk, stream.taken, stream.agents = place

    def keep(self):
        streams = self.short, self.long
        kept = {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "tokens": self.tokens,
            "shape": self.model.shape.asdict(),
            "places": [(stream.chunk, stream.taken, stream.agents) for stream in streams],
        }
        torch.save(kept, self.folder / "checkpoint.part")
        (self.folder / "checkpoint.part").rename(self.folder / "checkpoint.pt")

    def batch(self, part):
        """A batch of this step, which depends on the step and the streams' places alone."""
        generator = random.Random(f"{self.seed} step {self.step} part {part}")
        done = self.step / self.steps
        first = self.step < INDUCTION_FIRST and not self.again
        if generator.random() < (0.10 if first else 0.03):
            return batches.induction(self.tokenizer, generator, SIZE)
        if done > LONG_FROM and generator.random() < LONG_SHARE:
            return self.long.next(0)
        begin, end = AGAIN_AGENTS if self.again else AGENTS
        return self.short.next(begin + (end - begin) * done)

    def advance(self):
        parts = [self.batch(part) for part in range(PARTS)]
        for group in self.optimiser.param_groups:
            group["lr"] = rate(self.step, self.steps, self.again)
        losses = list(self.pool.map(backward, self.models, parts))
        for other in self.models[1:]:
            for here, there in zip(self.model.parameters(), other.parameters(), strict=True):
                here.grad += there.grad
                there.grad = None
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.step += 1
        self.tokens += sum(batch.ids.numel() for batch in parts)
        return sum(losses) / PARTS


def backward(model, batch):
    """Adds a batch's share to the gradients; returns its loss."""
    loss = F.cross_entropy(model(batch.ids, batch.wanted), batch.targets)
    ((loss + BALANCE * model.balance()) / PARTS).backward()
    return loss.item()


def train(tokenizer, folder, steps, threads, seed=SEED, begun=None):
    """Trains up to `steps`, with a line per report in train.jsonl; returns the model. `begun` is a
    model to go on from, otherwise one begins from nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(tokenizer, folder, steps, threads, seed, begun)
    questions = held_out.documents(tokenizer, 200, 120)
    losses, since, tokens = [], time.time(), run.tokens
    with open(folder / "train.jsonl", "a", buffering=1) as log:
        while run.step < steps:
            losses.append(run.advance())
            if run.step % REPORT == 0:
                pace = (run.tokens - tokens) / (time.time() - since)
                line = {
                    "step": run.step,
                    "tokens": run.tokens,
                    "loss": round(sum(losses) / len(losses), 4),
                }
                log.write(json.dumps(line | {"tokens_per_s": round(pace)}) + "\n")
                losses, since, tokens = [], time.time(), run.tokens
            if run.step % EVALUATE == 0 or run.step == steps:
                log.write(
                    json.dumps({"step": run.step} | held_out.score(run.model, questions)) + "\n"
                )
                since = time.time()
            if run.step % CHECKPOINT == 0 or run.step == steps:
                run.keep()
    return run.model
