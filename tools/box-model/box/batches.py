"""Batches: conversations as padded rows of tokens, with the positions that the loss looks at."""

import random

import torch

from . import corpus, episodes

ROWS = 512  # documents that are drawn together
BUCKET = 64  # documents that are sorted by length together; more would make batches of one family
LONGEST = 4608


class Document:
    """One conversation: ids, and the spans that the model says, each with its family."""

    def __init__(self, ids, spans):
        self.ids, self.spans = ids, spans


def documents(tokenizer, conversations):
    parts = [corpus.segments(*conversation) for conversation in conversations]
    encoded = iter(tokenizer.encode_batch([text for document in parts for text, _ in document]))
    found = []
    for document in parts:
        ids, spans = [], []
        for _, family in document:
            piece = next(encoded).ids
            if family:
                spans.append((family, len(ids), len(ids) + len(piece)))
            ids += piece
        found.append(Document(ids, spans))
    return found


class Batch:
    """Rows of input, where logits are wanted, and the tokens that are right there."""

    def __init__(self, documents):
        length = max(len(document.ids) for document in documents) - 1
        self.ids = torch.zeros(len(documents), length, dtype=torch.long)
        wanted, targets, self.spans = [], [], []
        for row, document in enumerate(documents):
            self.ids[row, : len(document.ids) - 1] = torch.tensor(document.ids[:-1])
            for family, start, end in document.spans:
                wanted += range(row * length + start - 1, row * length + end - 1)
                targets += document.ids[start:end]
                self.spans.append((family, row, start, end))
        self.wanted, self.targets = torch.tensor(wanted), torch.tensor(targets)


def bucketed(documents, size, generator):
    """Batches of at most `size` tokens with padding; a longer document is alone."""
    batches = []
    for start in range(0, len(documents), BUCKET):
        batch = []
        for document in sorted(documents[start : start + BUCKET], key=lambda d: len(d.ids)):
            if batch and (len(batch) + 1) * len(document.ids) > size:
                batches.append(batch)
                batch = []
            batch.append(document)
        batches.append(batch)
    generator.shuffle(batches)
    return [Batch(batch) for batch in batches]


class Stream:
    """Batches without end; `chunk`, `taken` and `agents`, its share of agents, say where it is. `hard`
    is the share of conversations whose tasks are the harder ones."""

    def __init__(self, tokenizer, seed, size, long=False, hard=0.0):
        self.tokenizer, self.seed, self.size, self.long = tokenizer, seed, size, long
        self.hard = hard
        self.chunk, self.taken, self.agents = 0, 0, None
        self.batches = None

    def next(self, agents):
        """The next batch; `agents` is the share of the conversations that are drawn from now on."""
        if self.agents is None:
            self.agents = agents
        if self.batches is None:
            self.batches = self.draw()
        if self.taken == len(self.batches):
            self.chunk, self.taken, self.agents = self.chunk + 1, 0, agents
            self.batches = self.draw()
        self.taken += 1
        return self.batches[self.taken - 1]

    def draw(self):
        seeds = [
            f"{self.seed} {self.long} {self.chunk} {i}" for i in range(32 if self.long else ROWS)
        ]
        conversations = [self.conversation(seed) for seed in seeds]
        found = [d for d in documents(self.tokenizer, conversations) if len(d.ids) <= LONGEST]
        return bucketed(found, self.size, random.Random(f"{self.seed} {self.chunk}"))

    def conversation(self, seed):
        chooser = random.Random(f"mix {seed}")
        mix = episodes.HARD if chooser.random() < self.hard else episodes.COMMON
        if self.long:
            return long_conversation(seed, mix)
        return corpus.conversation(seed, agents=self.agents, mix=mix)


def long_conversation(seed, mix=episodes.COMMON):
    """Up to some thousand tokens: many turns, or a long preamble."""
    chooser = random.Random(seed)
    if chooser.random() < 0.6:
        return corpus.conversation(seed, turns=chooser.randint(6, 24), mix=mix)
    turns, preamble = chooser.randint(1, 6), chooser.randint(20, 160)
    return corpus.conversation(seed, turns=turns, preamble=preamble, mix=mix)


def induction(tokenizer, generator, size):
    """Random tokens to repeat: every token of the vocabulary is copied, frequent or not."""
    length = generator.randint(5, 33)
    encode = lambda text: tokenizer.encode(text).ids
    before = encode("<|im_start|>user\n")
    between = encode("<|im_end|>\n<|im_start|>assistant\n")
    rows = []
    for _ in range(max(1, size // (2 * length + 9))):
        ids = [generator.randrange(tokenizer.get_vocab_size() - 9) for _ in range(length)]
        if generator.random() < 0.3:
            few = ids[: max(4, length // 2)]
            ids = [generator.choice(few) for _ in range(length)]
        start = len(before) + length + len(between)
        whole = before + ids + between + ids + encode("<|im_end|>")
        rows.append(Document(whole, [("induction", start, len(whole))]))
    return Batch(rows)
