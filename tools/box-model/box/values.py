"""Values: words, names, paths, lines and commands, always drawn fresh.

Most are strings that no other document has, so that a model can only copy them.
"""

import random

WORDS = """apple river stone cloud green light table house mouse train garden window paper silver
orange yellow purple winter summer spring autumn morning evening night music dance dream ocean
forest mountain valley desert island bridge castle tower market street school letter number report
notes draft index main test data config server client user admin login value total price count
order item product invoice budget plan task todo list log error debug trace cache queue stack graph
tree node edge path route matrix vector hello world alpha beta gamma delta omega sigma lambda
kernel token model layer weight tensor batch shard expert router cat dog bird fish horse tiger lion
bear wolf eagle coffee bread butter cheese sugar honey lemon banana cherry melon grape tomato
potato onion red blue black white brown pink gold fast slow small large happy quiet bright dark
heavy simple open closed early late first last anna peter maria john lucy oscar nina paul emma
felix berlin paris london tokyo madrid vienna oslo rome cairo lima buy call meet lamp chair door wall roof floor desk phone bus ship plane road farm field
""".split()
ONSETS = "b c d f g h j k l m n p r s t v w x z br ch cr dr fl gr kl pr sh st th tr".split()
VOWELS = "a e i o u ai ea oo y".split()
CODAS = ["", "", "", "n", "r", "s", "t", "l", "m", "x", "k"]
EXTENSIONS = "txt md py rs json toml yaml csv log sh html cfg c js conf ini".split()
SETTINGS = """port timeout retries workers limit size depth width height level count rate delay
threads batch host name mode color title user path format theme language version""".split()


class Values:
    """A source of values; the same seed gives the same ones."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def chance(self, share):
        return self.random.random() < share

    def choice(self, options):
        return self.random.choice(options)

    def between(self, low, high):
        return self.random.randint(low, high)

    def word(self):
        k = self.random.random()
        if k < 0.32:
            word = self.choice(WORDS)
        elif k < 0.85:
            word = "".join(
                self.choice(ONSETS) + self.choice(VOWELS) + self.choice(CODAS)
                for _ in range(self.between(1, 3))
            )
        else:
            letters = "abcdefghijklmnopqrstuvwxyz"
            word = "".join(self.choice(letters) for _ in range(self.between(2, 6)))
        if self.chance(0.12):
            return word.capitalize()
        return word.upper() if self.chance(0.03) else word

    def number(self):
        return str(self.between(0, 10 ** self.between(1, 5)))

    def words(self, least, most):
        count = self.between(least, most)
        return " ".join(self.number() if self.chance(0.12) else self.word() for _ in range(count))

    def name(self):
        """An identifier."""
        k = self.random.random()
        if k < 0.5:
            return self.word()
        if k < 0.75:
            return self.word() + self.choice(["_", "_", "-"]) + self.word()
        return self.word() + self.choice(["", "", "_"]) + self.number()

    def key(self):
        """The left side of a setting."""
        if self.chance(0.4):
            return self.choice(SETTINGS)
        if self.chance(0.3):
            return (
                self.choice(["max", "min", "default", self.word().lower()])
                + "_"
                + self.choice(SETTINGS)
            )
        return self.name()

    def file(self):
        return self.name() + "." + self.choice(EXTENSIONS)

    def path(self):
        k = self.random.random()
        if k < 0.55:
            return self.file()
        folder = self.choice(["", "", "", "src/", "tests/", "./", "/srv/", "/tmp/", "docs/"])
        depth = self.between(1, 2)
        return folder + "".join(self.name() + "/" for _ in range(depth)) + self.file()

    def sentence(self):
        text = self.words(2, 8)
        text = text[0].upper() + text[1:]
        if self.chance(0.2):
            text = text.replace(" ", ", ", 1)
        return text + self.choice([".", ".", "!", "?", ""])

    def call(self):
        inside = self.choice(['"' + self.words(1, 2) + '"', self.name(), self.number(), ""])
        return self.name() + "(" + inside + ")"

    def line(self):
        """One line of a file."""
        return self.choice(
            [
                lambda: self.words(1, 6),
                lambda: self.words(1, 6),
                lambda: self.sentence(),
                lambda: self.key()
                + " = "
                + self.choice([self.number(), self.word(), '"' + self.words(1, 2) + '"']),
                lambda: self.key() + ": " + self.words(1, 2),
                lambda: self.key() + "=" + self.choice([self.number(), self.word()]),
                lambda: "# " + self.words(1, 4),
                lambda: 'print("' + self.words(1, 3) + '")',
                lambda: "echo " + self.words(1, 3),
                lambda: "- " + self.words(1, 4),
                lambda: "return " + self.choice([self.name(), self.number(), self.call()]),
                lambda: self.name() + " = " + self.call(),
                lambda: '"' + self.key() + '": ' + self.number() + ",",
            ]
        )()

    def lines(self, least, most):
        return "\n".join(self.line() for _ in range(self.between(least, most)))

    def content(self):
        """What a small file holds."""
        return self.line() if self.chance(0.8) else self.lines(2, 4)

    def check(self):
        """A command that tests something."""
        script = self.choice(["check", "test", "verify", "run", self.name()])
        folder = self.choice(["", "", "", "./", "tests/", self.name() + "/"])
        return self.choice(
            [
                lambda: "sh " + folder + script + ".sh",
                lambda: "sh " + folder + script + ".sh",
                lambda: "bash " + folder + script + ".sh",
                lambda: "python3 " + folder + script + ".py",
                lambda: "python " + folder + script + ".py",
                lambda: "make " + script,
                lambda: "cargo test " + self.name(),
                lambda: "npm test",
                lambda: "pytest " + folder + "test_" + self.name() + ".py",
                lambda: "./" + script + ".sh",
            ]
        )()

    def command(self):
        return self.choice(
            [
                lambda: "ls -l " + self.name(),
                lambda: "ls " + self.name() + "/",
                lambda: "python3 " + self.path(),
                lambda: "cargo test " + self.name(),
                lambda: "grep " + self.choice(["", "-n ", "-r "]) + self.name() + " " + self.path(),
                lambda: "cat " + self.path(),
                lambda: "mkdir -p " + self.name(),
                lambda: "rm " + self.path(),
                lambda: "echo " + self.words(1, 3),
                lambda: "cp " + self.file() + " " + self.file(),
                lambda: "mv " + self.path() + " " + self.path(),
                lambda: "make " + self.name(),
                lambda: 'git commit -m "' + self.words(1, 3) + '"',
                lambda: "wc -l " + self.path(),
                lambda: "head -n " + self.number() + " " + self.path(),
                self.check,
            ]
        )()

    def quoted(self, text):
        """The text in quotes that it does not contain."""
        marks = [mark for mark in ('"', "`", "'") if mark not in text]
        mark = self.choice(marks) if marks else "`"
        return mark + text + mark

    def maybe_quoted(self, text):
        return self.quoted(text) if self.chance(0.5) or " " in text else text
