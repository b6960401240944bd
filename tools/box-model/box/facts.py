"""Facts: what the model knows about qwire, and in how many words one can ask for it.

They lie in `facts/`: a name and the answer, then one pattern a line, its first word the kind. A
pattern is text with alternatives in brackets, `[start|launch] the server`; it stands for every text
that comes of choosing one, and `@model` for a pattern of its own. `HELD_OUT` frames and
`questions.py` are never trained.
"""

import pathlib
import re
from dataclasses import dataclass, field

FOLDER = pathlib.Path(__file__).parent.parent / "facts"
GROUPS = ("commands", "options", "chat", "about")
MACROS = {
    "@model": "[a|the|my|a|the|my|this|some] [model|model|model|model|LLM|language model]",
    "@chat": "[in the chat|during a chat|while chatting|inside the chat|in chat mode|of the chat"
    "|in a conversation|during a conversation|inside a chat|at the chat prompt|in qwire chat"
    "|while I chat|in the middle of a chat|within the chat|from inside the chat|in this chat]",
}


@dataclass
class Fact:
    """One answer, and the patterns that lead to it."""

    answer: str
    wishes: list[str] = field(default_factory=list)  # `to`: infinitives
    results: list[str] = field(default_factory=list)  # `for`: what one wants to have
    deeds: list[str] = field(default_factory=list)  # `it`: what the thing does
    troubles: list[str] = field(default_factory=list)  # `when`: why one asks
    things: list[str] = field(default_factory=list)  # `about`: names
    questions: list[str] = field(default_factory=list)  # `ask`: whole


KINDS = {
    "to": "wishes",
    "for": "results",
    "it": "deeds",
    "when": "troubles",
    "about": "things",
    "ask": "questions",
}
# How often a question is of a kind, where a fact has it.
WEIGHTS = {"wishes": 8, "results": 4, "deeds": 3, "troubles": 3, "things": 3, "questions": 7}


def read(path):
    """The facts of a file by name."""
    found = {}
    for line in path.read_text().splitlines():
        if line.startswith("  "):
            kind, pattern = line.split(maxsplit=1)
            for macro, meaning in MACROS.items():
                pattern = pattern.replace(macro, meaning)
            getattr(fact, KINDS[kind]).append(pattern)
        elif line:
            name, answer = line.split(": ", 1)
            fact = found[name] = Fact(answer)
    return found


FACTS = {name: fact for group in GROUPS for name, fact in read(FOLDER / f"{group}.txt").items()}


def bars(text):
    """The parts of a text with a bar between them, over several lines."""
    return [part.strip() for part in text.strip().replace("\n", "|").split("|")]


# {w} is a wish, {g} the same with -ing, {d} what it does.
FRAMES = bars("""
how do I {w}?|how can I {w}?|how to {w}|how to {w}?|how does one {w}?|how do you {w}?
how can you {w}?|how would I {w}?|how should I {w}?|how could I {w}?|how might I {w}?
how do we {w}?|how can one {w}?|how is it possible to {w}?|what is the way to {w}?
what's the way to {w}?|what is the best way to {w}?|what is the command to {w}?
what's the command to {w}?|which command do I need to {w}?|which command lets me {w}?
which command should I use to {w}?|what command do I use to {w}?|which command can {w}?
what do I type to {w}?|what should I type to {w}?|what must I enter to {w}?
what do I have to do to {w}?|what do I need to {w}?|what should I do if I want to {w}?
what do I do when I want to {w}?|which option do I need to {w}?|I want to {w}|I want to {w}.
I'd like to {w}|I would like to {w}.|I wish to {w}.|I have to {w}.|I must {w}|I am trying to {w}.
I'm trying to {w}|I don't know how to {w}.|I do not know how to {w}|I forgot how to {w}.
I can't find out how to {w}.|I have no idea how to {w}|tell me how to {w}|tell me how I can {w}.
show me how to {w}|explain how to {w}.|explain to me how I {w}|say how to {w}|teach me to {w}
help me to {w}|help me {w}|let me {w}|please {w}|{w}|{w}?|{w} with qwire|{w}, how?|to {w}?
can I {w}?|can you {w}?|can qwire {w}?|is it possible to {w}?|am I able to {w}?|does qwire {w}?
do you know how to {w}?|is there a way to {w}?|is there some way to {w}|any way to {w}?
my goal is to {w}|what about {g}?|how about {g}|command for {g}|what is the command for {g}?
which command is for {g}?|how does {g} work?|what helps with {g}?|I have a question about {g}.
I need help with {g}.|{g}|{g}?|is {g} possible?|what do I use for {g}?|tell me about {g}
explain {g}|suppose I want to {w}, what do I type?|what would I type to {w}?
where do I look if I want to {w}?|is it somehow possible to {w}?|which subcommand is there to {w}?
which subcommand do I use to {w}?|which flag do I pass to {w}?|which flag lets me {w}?
what switch do I need to {w}?|what is typed to {w}?|I was asked to {w}.
somebody told me that I can {w}.|my plan is to {w}, what do I type?|to {w}, how?
in order to {w}, what do I do?|to {w}, what do I type?|to {w}, which command is right?
remind me how to {w}|if I want to {w}, which command is it?|if I wanted to {w}, how would I?
when I want to {w}, what then?|could I {w}?|can one {w}?|may I {w}?|will qwire {w} for me?
give me the command to {w}|how exactly do I {w}?|give me an example of how to {w}
what is the syntax to {w}?|what is the option to {w}?|I'd love to {w}|what's needed to {w}?
what does it take to {w}?|does qwire let me {w}?|does qwire have a way to {w}?
who knows how to {w}?|how do people {w}?|how can somebody {w}?|how can a beginner {w}?|I try to {w}
can I somehow {w}?|can I also {w}?|can I use qwire to {w}?|can it {w}?|could qwire {w}?
will it {w}?|where can I {w}?|where do I {w}?|with what do I {w}?|by which command can I {w}?
how do I go about it to {w}?|I hope to {w}.|I intend to {w}.|I plan to {w}, how?
I would need to {w}|we want to {w}|we would like to {w}.|my task is to {w}.
my boss wants me to {w}.|a friend wants to {w}.|the next thing is to {w}|all I want is to {w}
which part of qwire {d}?|which command {d}?|what {d}?|which subcommand {d}?|which option {d}?
which flag {d}?|is there an option that {d}?|is there something that {d}?
is there anything which {d}?|what is it that {d}?|name the command that {d}|the command that {d}?
the option that {d}|I look for something that {d}.|I am looking for the command which {d}
what's the command that {d}?|which of the commands {d}?|does anything {d}?|the way of {g}?
how does one go about {g}?|how do I start with {g}?|I am interested in {g}|I am thinking of {g}.
what do I type for {g}?|what is used for {g}?|which option is for {g}?|{g} is what I want
what is good for {g}?|does qwire support {g}?|is {g} supported?|is there support for {g}?
is there a trick for {g}?|{g}, how?|would you tell me how to {w}?|could you explain how to {w}?
can you show me how to {w}?|can you tell me how one can {w}?|would you know how to {w}?
do you happen to know how to {w}?|I wonder how to {w}|I wonder if I can {w}.|I wondered how one can {w}
I am wondering if it is possible to {w}|I was curious how to {w}.|the right command to {w}?
what's the right way to {w}?|what would the command be to {w}?|what would you type to {w}?
what would be a good way to {w}?|which would be the option to {w}?|what must one do to {w}?
what must be typed to {w}?|what do I have to type to {w}?|do I need a command to {w}?
are there commands to {w}?|is there some command that lets me {w}?|is there any option to {w}?
there must be a command to {w}|I need to {w}.|I need to {w}, which command does that?
I need to {w}, what do I type?|I have to {w}, how does that work?|I want to {w}, how does one do it?
I'd like to {w}, is that possible?|I should {w}, but how?|we need to {w}, how do we do that?
a short question: how can I {w}?|just a question, how would I {w}?|let's say I want to {w}.
assume that I want to {w}, what do I do?|imagine I want to {w}. What now?|say I wanted to {w}, how then?
given that I want to {w}, what comes next?|supposing I had to {w}, how?|steps to {w}?
what steps do I take to {w}?|list the steps for {g}|which steps lead to {g}?|how is it that I {w}?
how can {g} be done?|how would {g} be done?|how does one get to {w}?|by what means do I {w}?
is {g} done by a command?|how is {g} possible?|which way is there for {g}?|give me a command for {g}
give me a way to {w}|give me an option for {g}|name a command for {g}|I need a command for {g}
what can I do to {w}?|what could I do to {w}?|anything to {w}?|some hint on {g}?|a hint how to {w}?
instructions for {g}|instructions to {w}|the way to {w} please|guide me to {w}|advise me how to {w}
""")
HELD_OUT = """could you tell me how I {w}?|what would be the right command to {w}?|I need to {w}, how is that done?|is there a command to {w}?
what must I do to {w}?|would you show me how one can {w}?|quick question: how do I {w}?|I was wondering how to {w}
give me the command for {g}|how is {g} done?|what are the steps to {w}?|suppose I want to {w}, what then?""".replace(
    "\n", "|"
).split(
    "|"
)

# {n} is a result.
RESULTS = bars("""
I need {n}|I need {n}.|I want {n}|I want {n}.|I'd like {n}|I would like {n}, please|give me {n}
show me {n}|is there {n}?|is there {n} in qwire?|where is {n}?|where do I find {n}?
where do I get {n}?|where can I see {n}?|what gives me {n}?|which command gives me {n}?
which option gives me {n}?|which subcommand is for {n}?|{n}|how do I get {n}?|how can I have {n}?
how do I come by {n}?|can I have {n}?|can I get {n}?|may I have {n}?|{n}?|does qwire have {n}?
does qwire offer {n}?|does it support {n}?|do you have {n}?|can qwire give me {n}?
I am looking for {n}|I'm looking for {n}.|looking for {n}|I am after {n}|I am searching for {n}.
I could use {n}.|{n} please|any chance of {n}?|is {n} possible?|is {n} available?|{n}, how?
{n}: how?|how about {n}?|what about {n}?|what do I type for {n}?|what is the command for {n}?
which flag is for {n}?|which option do I need for {n}?|I miss {n}|my boss wants {n}.
somebody asked me for {n}|we need {n} here|all I want is {n}.|let me have {n}
where does one ask for {n}?|what should I use for {n}?|what do I use for {n}?
is qwire able to give {n}?|got {n}?
""")
# {d} is what it does.
DEEDS = bars("""
which command {d}?|what {d}?|which subcommand {d}?|which option {d}?|which flag {d}?
which switch {d}?|is there something that {d}?|is there an option that {d}?
is there anything which {d}?|is there a switch that {d}?|what is the command that {d}?
what's the option that {d}?|name the command that {d}|tell me which command {d}
I want a command that {d}.|I am looking for something that {d}|looking for the option which {d}
what is it that {d}?|the command that {d}|the option that {d}?|do you have something which {d}?
what part of qwire {d}?|it {d}, how?|does qwire have something that {d}?
do you know which command {d}?|I forgot which command {d}.|whatever {d}
what do I type so that it {d}?|how do I make sure it {d}?|which argument {d}?|the thing that {d}
something that {d}
""")
# {c} is a trouble.
TROUBLES = bars("""
{c}|{c}.|{c}, what can I do?|{c}. What can I do?|{c}. What now?|{c}, what now?
{c}, what should I do?|{c}, help|what do I do when {c}?|what can I do if {c}?|what if {c}?
what should I do when {c}?|what helps when {c}?|how do I deal with it when {c}?
what do I type when {c}?|which command do I need when {c}?|which option helps if {c}?
{c}, is there a remedy?|{c}. Which option helps?|{c}. Which command helps?
{c}, which command is for that?|my problem: {c}|the problem is that {c}.|I noticed that {c}
it bothers me that {c}.|{c} and I want to change that|help, {c}|sometimes {c}
{c}, how do I change that?|{c}, can that be changed?|{c}, what do I use?|{c}. How?|{c}. Any idea?
what does one do when {c}?|is there something for the case that {c}?|when {c}, what do I type?
if {c}, what then?
""")
# {t} is a thing.
ABOUT = bars("""
what does {t} do?|what is {t}?|what is {t} for?|what's {t}?|explain {t}|what does {t} mean?
tell me about {t}|describe {t}|how does {t} work?|when do I use {t}?|what do I use {t} for?
why would I use {t}?|{t}|{t}?|can you explain {t}?|what about {t}?|how do I use {t}?
what happens with {t}?|I saw {t}, what is it?|please explain {t}|what is the purpose of {t}?
what good is {t}?|when would I need {t}?|I don't understand {t}|I read about {t}, what is that?
what's the meaning of {t}?|what is the use of {t}?|somebody mentioned {t}
what does one do with {t}?
""")

# Verbs whose last letter is doubled before -ing.
DOUBLED = set(
    "run get set put stop cut chat plot cap begin skip drop spin split wrap let quit hit trim"
    " control submit swap chop dig scan slim map format".split()
)
UNCHANGED = {"not", "always"}


def expand(values, pattern):
    """One of the texts that a pattern stands for."""
    while "[" in pattern:
        pattern = re.sub(r"\[([^\[\]]*)\]", lambda m: values.choice(m[1].split("|")), pattern)
    return re.sub(r"\s+", " ", pattern).replace(" 's", "'s").replace(" ,", ",").strip()


def gerund(wish):
    """`start the server` becomes `starting the server`."""
    first, _, rest = wish.partition(" ")
    if first in DOUBLED:
        first += first[-1]
    elif first.endswith("e") and not first.endswith("ee"):
        first = first[:-1]
    return f"{first}{'' if first in UNCHANGED else 'ing'} {rest}".strip()


def deed(wish):
    """`start the server` becomes `starts the server`."""
    first, _, rest = wish.partition(" ")
    if first in UNCHANGED:
        return f"does {wish}"
    if first.endswith("y") and first[-2] not in "aeiou":
        first = first[:-1] + "ie"
    elif first.endswith(("s", "sh", "ch", "x", "z", "o")):
        first += "e"
    return f"{'has' if first == 'have' else first + 's'} {rest}".strip()


def question(values, fact, frames=None):
    """One question with this answer; `frames` are for wishes."""
    kinds = [kind for kind in WEIGHTS if getattr(fact, kind)]
    kind = values.random.choices(kinds, [WEIGHTS[kind] for kind in kinds])[0]
    if frames is not None and fact.wishes:
        kind = "wishes"
    text = expand(values, values.choice(getattr(fact, kind)))
    if kind == "wishes":
        frame = values.choice(frames or FRAMES)
        return frame.format(w=text, g=gerund(text), d=deed(text))
    if kind == "results":
        return values.choice(RESULTS).format(n=text)
    if kind == "deeds":
        return values.choice(DEEDS).format(d=text)
    if kind == "troubles":
        return values.choice(TROUBLES).format(c=text)
    if kind == "things":
        return values.choice(ABOUT).format(t=f"`{text}`" if values.chance(0.2) else text)
    return text + values.choice(["?", "?", "", "."])


OPENERS = bars("""
hey,|hi,|hello,|ok,|okay,|so,|well,|sorry,|please,|a question:|question:|one more thing:|and
another question:|hi there,|good morning,|next:|also,|now|just wondering,|btw,|excuse me,|listen,
thanks,|good,|qwire:|short question:|tell me,|say,|dear model,|I wonder,|one thing:|hm,|then,|but
""")
BEFORE = bars("""
I am new here.|I just installed qwire.|I have a GGUF file.|I use Linux.|I am a beginner.
We use qwire at work.|I have read the README.|I looked everywhere.|I know llama.cpp.
Thanks for the last answer.|I have a question.|Here is my problem.|I am a developer.|That worked.
I have an old laptop.|I am not good with terminals.|So far so good.
""")
AFTER = bars("""
I could not find it.|Thanks in advance!|It is urgent.|Any idea?|Do you know?|Please tell me.|How?
Thank you!|How does that work?|What do I type?|Is that possible?|Which command is that?
I have no idea.|That would be great.|How do I do that?|Can you help?|Please help.
What is the right way?|Is there a way?|I forgot it.|How is that called?
""")
CLOSERS = bars("""
please|thanks|thank you|with qwire|in qwire|using qwire|exactly|here|on Linux|now|on my machine
quickly|from the shell|again|then|for my project|in the terminal|on this computer|for a friend
today|somehow|at all|with this program|at home|at work|on my laptop|for a test|easily|right now
from here|if possible|by the way
""")
# Words that say the same; any of a row may stand for another.
SYNONYMS = bars("""
answer, reply, response|answers, replies, responses|show, display|see, view, look at|know, learn
command, subcommand|option, flag, argument, parameter|machine, computer, PC, laptop, system
fast, quick|start, launch|need, require|file, document|print, output|print, write|all, every one of
conversation, chat, dialogue|choose, select, pick|begin, start|stop, end, halt|compare, check
measure, test|create, make, produce|way, possibility, method|shell, terminal, console|want, wish
tell, say to|big, large, huge|small, little, tiny|speed, pace, performance|tool, program|I am, I'm
I would, I'd|what is, what's|do not, don't|does not, doesn't|cannot, can't|it is, it's|which, what
can, could|text, words|use, utilise, employ|work, function|quickly, rapidly|numbers, figures
list, listing|picture, image|store, save, keep|weights, parameters|only, just
""")
SYNONYMS = [row.split(", ") for row in SYNONYMS]
SAME = {word: row for row in SYNONYMS for word in row}
WORDS = re.compile(rf"\b(?:{'|'.join(map(re.escape, sorted(SAME, key=len, reverse=True)))})\b")
# What somebody leaves out who types into a search box.
SMALL = set(
    "how do i can to a the my is it what which of in does for an you me that there with are on one"
    " please qwire command option use want would like should could this when some be will".split()
)


def reworded(values, text):
    """Some words changed for others that say the same."""
    replace = lambda m: values.choice(SAME[m[0]]) if values.chance(0.3) else m[0]
    return " ".join(
        part if part.startswith(("`", "-", "/")) else WORDS.sub(replace, part)
        for part in re.split(r" (?=[`/-])|(?<=`) ", text)
    )


def keywords(values, text):
    """The telling words alone, in order or not; the text itself where few are left."""
    words = [word for word in re.findall(r"[^\s?.,:]+", text) if word.lower() not in SMALL]
    if len(words) < 3:
        return text
    if values.chance(0.4):
        values.random.shuffle(words)
    return " ".join(words)


def slip(values, text):
    """A slip of the keyboard, a word left out, or a word that tells nothing."""
    if values.chance(0.07) and len(text) > 3:
        at = values.between(0, len(text) - 2)
        text = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    words = text.split(" ")
    if values.chance(0.08) and len(words) > 4:
        del words[values.between(0, len(words) - 1)]
    if values.chance(0.06) and len(words) > 2:
        words.insert(values.between(1, len(words)), values.word())
    return " ".join(words)


def vary(values, text):
    """The same question as somebody else types it."""
    if values.chance(0.4):
        text = reworded(values, text)
    if values.chance(0.06):
        text = keywords(values, text)
    if values.chance(0.15):
        text = f"{values.choice(OPENERS)} {text}"
    if values.chance(0.15):
        body, end = (text[:-1], text[-1]) if text[-1] in "?." else (text, "")
        text = f"{body} {values.choice(CLOSERS)}{end}"
    if values.chance(0.5):
        text = text[0].upper() + text[1:]
    elif values.chance(0.2):
        text = text.lower()
    if values.chance(0.12):
        text = text.rstrip("?.")
    if values.chance(0.1):
        before = values.choice(BEFORE) if values.chance(0.6) else values.sentence()
        text = f"{before} {text}"
    if values.chance(0.08):
        text = text if text[-1] in "?.!" else text + "."
        text = f"{text} {values.choice(AFTER)}"
    return slip(values, text)
