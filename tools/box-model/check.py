"""Checks what the training relies on, in seconds: `python check.py`.

The corpus renders conversations itself, because that tells the model's words from the others; here
it is held against the template, in Transformers and in minijinja. What is never to be trained is
looked for in a sample of the corpus.
"""

import pathlib

import minijinja
from transformers.utils.chat_template_utils import render_jinja_template

from box import agent, corpus, facts, questions

HERE = pathlib.Path(__file__).parent
COUNT = 400
SAMPLE = 40_000


def renderings_are_the_same(template):
    other = minijinja.Environment(trim_blocks=True, lstrip_blocks=True)
    other.add_template("chat", template)
    for i in range(COUNT):
        messages, tools = corpus.conversation(f"check {i}")
        ours = "".join(text for text, _ in corpus.segments(messages, tools)) + "\n"
        theirs, _ = render_jinja_template([messages], tools=tools, chat_template=template)
        assert ours == theirs[0], f"Transformers renders conversation {i} in another way"
        both = {"messages": messages, "tools": tools, "add_generation_prompt": False}
        assert ours == other.render_template("chat", **both), f"minijinja differs in {i}"


def held_out_stays_out():
    assert not set(facts.FRAMES) & set(facts.HELD_OUT), "a frame is both trained and held out"
    kept = {corpus.bare(text) for both in questions.QUESTIONS.values() for text in both}
    prompts = (fixture["prompt"] for fixture in agent.fixtures(HERE / "fixtures").values())
    kept |= {corpus.bare(prompt) for prompt in prompts}
    for i in range(SAMPLE):
        messages, _ = corpus.conversation(f"sample {i}")
        asked = {corpus.bare(m["content"]) for m in messages if m["role"] == "user"}
        assert not asked & kept, f"the corpus asks {asked & kept}"


def main():
    renderings_are_the_same((HERE / "template.jinja").read_text())
    held_out_stays_out()
    print("ok")


if __name__ == "__main__":
    main()
