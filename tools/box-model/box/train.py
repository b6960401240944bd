"""Training: a schedule in steps, every random number from one seed, resumable at any checkpoint."""

import json
import random
import time

import torch
import torch.nn.functional as F
from torch import nn

from . import batches, held_out
from .model import Model, Shape

SEED = 1
RATE, FLOOR, WARM_UP, HOLD = 2e-3, 0.02, 100, 0.5
BALANCE = 0.01
DECAY = 0.05
SIZE = 2048
LONG_FROM, LONG_SHARE = 0.6, 0.08
INDUCTION_FIRST = 1500
CHECKPOINT, REPORT, EVALUATE = 100, 50, 500


def rate(step, steps):
    """Warm-up, hold, then a line down."""
    done = step / steps
    fall = 1 if done < HOLD else max(FLOOR, (1 - done) / (1 - HOLD))
    return RATE * min(1, (step + 1) / WARM_UP) * fall


class Run:
    """One training: model, optimiser, streams and the step it is at."""

    def __init__(self, tokenizer, folder, steps):
        torch.manual_seed(SEED)
        self.tokenizer, self.folder, self.steps, self.step = tokenizer, folder, steps, 0
        self.model = Model(Shape(vocabulary=tokenizer.get_vocab_size()))
        matrices = [p for p in self.model.parameters() if p.dim() > 1]
        vectors = [p for p in self.model.parameters() if p.dim() == 1]
        groups = [
            {"params": matrices, "weight_decay": DECAY},
            {"params": vectors, "weight_decay": 0},
        ]
        self.optimiser = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.95), fused=True)
        self.short = batches.Stream(tokenizer, SEED, SIZE)
        self.long = batches.Stream(tokenizer, SEED, SIZE, long=True)
        self.tokens = 0
        if (folder / "checkpoint.pt").exists():
            self.resume()

    def resume(self):
        kept = torch.load(self.folder / "checkpoint.pt", weights_only=True)
        self.model.load_state_dict(kept["model"])
        self.optimiser.load_state_dict(kept["optimiser"])
        self.step, self.tokens = kept["step"], kept["tokens"]
        for stream, place in zip((self.short, self.long), kept["places"], strict=True):
            stream.chunk, stream.taken = place

    def keep(self):
        kept = {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "tokens": self.tokens,
            "shape": self.model.shape.asdict(),
            "places": [(stream.chunk, stream.taken) for stream in (self.short, self.long)],
        }
        torch.save(kept, self.folder / "checkpoint.part")
        (self.folder / "checkpoint.part").rename(self.folder / "checkpoint.pt")

    def batch(self):
        """The batch of this step, which depends on the step and the streams' places alone."""
        generator = random.Random(f"{SEED} step {self.step}")
        done = self.step / self.steps
        if generator.random() < (0.10 if self.step < INDUCTION_FIRST else 0.03):
            return batches.induction(self.tokenizer, generator, SIZE)
        if done > LONG_FROM and generator.random() < LONG_SHARE:
            return self.long.next()
        return self.short.next()

    def advance(self):
        batch = self.batch()
        for group in self.optimiser.param_groups:
            group["lr"] = rate(self.step, self.steps)
        logits = self.model(batch.ids, batch.wanted)
        loss = F.cross_entropy(logits, batch.targets)
        (loss + BALANCE * self.model.balance()).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.step += 1
        self.tokens += batch.ids.numel()
        return loss.item()


def train(tokenizer, folder, steps, threads):
    """Trains up to `steps`, with a line per report in train.jsonl; returns the model."""
    torch.set_num_threads(threads)
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(tokenizer, folder, steps)
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
