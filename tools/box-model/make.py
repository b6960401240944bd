"""Makes the box model from nothing: `python make.py --output FOLDER`. See README.md."""

import argparse
import hashlib
import pathlib

from tokenizers import Tokenizer

from box import gguf_file, tokens, train

CONTEXT = 4096
HERE = pathlib.Path(__file__).parent


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument(
        "--output", type=pathlib.Path, required=True, help="folder for all that is made"
    )
    arguments.add_argument("--steps", type=int, default=12_000)
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument(
        "--begun", type=pathlib.Path, help="a box model to go on from, otherwise from nothing"
    )
    given = arguments.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    path = given.output / "tokenizer.json"
    if given.begun and not path.exists():
        gguf_file.vocabulary(given.begun).save(str(path))
    tokenizer = Tokenizer.from_file(str(path)) if path.exists() else tokens.train(path)
    begun = gguf_file.read(given.begun) if given.begun else None
    # Who goes on draws conversations that the model has not seen.
    seed = hashlib.sha256(given.begun.read_bytes()).hexdigest() if begun else train.SEED
    model = train.train(tokenizer, given.output, given.steps, given.threads, seed, begun)
    template = (HERE / "template.jinja").read_text()
    gguf_file.write(given.output / "box-f32.gguf", model, tokenizer, template, CONTEXT)


if __name__ == "__main__":
    main()
