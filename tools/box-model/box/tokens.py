"""Tokens: a byte-level BPE vocabulary with Qwen's pre-tokenizer and special tokens.

Values are copied from one place to another, after a space here and after a line end there. So that
they are the same tokens everywhere, merges are learned inside of runs of letters alone, and only
words that are never values get a token with the space before them.
"""

import collections
import json
import re

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from . import corpus, values

QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
RUNS = r"\p{L}+|\p{N}|[^\s\p{L}\p{N}]|\s+"
CONTROLS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MARKS = [
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
]
SIZE = 2048
SPACED = 420
DOCUMENTS = 20_000


def sample():
    """Texts to learn from."""
    special = re.compile("|".join(map(re.escape, CONTROLS + MARKS)))
    for i in range(DOCUMENTS):
        parts = corpus.segments(*corpus.conversation(f"tokens {i}"))
        yield special.sub("\n", "".join(text for text, _ in parts))


def train(path):
    """Learns the vocabulary and writes it as tokenizer.json."""
    texts = list(sample())
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(RUNS), "isolated"), bytes_only()]
    )
    size = SIZE - len(CONTROLS + MARKS) - SPACED - 16
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    learner.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    )
    model = json.loads(learner.to_str())["model"]
    vocabulary, merges = model["vocab"], [tuple(pair) for pair in model["merges"]]

    def merge(left, right):
        if left in vocabulary and right in vocabulary and left + right not in vocabulary:
            vocabulary[left + right] = len(vocabulary)
            merges.append((left, right))

    for left, right in [(">", "Ċ"), (":", "Ċ"), ("<", "/"), ("<", "function"), ("<", "parameter")]:
        merge(left, right)
    drawn = {
        case(word)
        for word in values.WORDS + values.SETTINGS
        for case in (str, str.capitalize, str.upper)
    }
    counts = collections.Counter(
        word for text in texts for word in re.findall(r" ([A-Za-z]+)", text)
    )
    for word, _ in counts.most_common():
        if len(vocabulary) < SIZE - len(CONTROLS + MARKS) and len(word) > 1 and word not in drawn:
            merge("Ġ", word)
    found = tokenizer(vocabulary, merges)
    found.save(str(path))
    return found


def tokenizer(vocabulary, merges):
    """A tokenizer with these tokens and merges, and the special tokens after them."""
    found = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    found.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(QWEN), "isolated"), bytes_only()]
    )
    found.decoder = decoders.ByteLevel()
    found.add_special_tokens(CONTROLS)
    found.add_tokens(MARKS)
    return found


def bytes_only():
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
