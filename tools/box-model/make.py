"""Makes the box model from nothing: `python make.py --output FOLDER`. See README.md."""

import argparse
import pathlib

from tokenizers import Tokenizer

from box import tokens, train


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--output", type=pathlib.Path, required=True, help="folder for everything that is made")
    arguments.add_argument("--steps", type=int, default=8000)
    arguments.add_argument("--threads", type=int, default=2)
    given = arguments.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    path = given.output / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path)) if path.exists() else tokens.train(path)
    train.train(tokenizer, given.output, given.steps, given.threads)


if __name__ == "__main__":
    main()
