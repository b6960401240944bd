"""Episodes: an agent's requests, calls, results and answers, with tools under many names.

Every episode is a list of messages as OpenAI's wire has them; an assistant's message also carries
its family, which the training leaves out of the text and the evaluation counts by.
"""

READ, WRITE, EDIT, RUN = "read", "write", "edit", "run"
USUAL = {
    READ: ("read_file", ["path"]),
    WRITE: ("write_file", ["path", "content"]),
    EDIT: ("edit_file", ["path", "old", "new"]),
    RUN: ("run_command", ["command"]),
}
NAMES = {
    READ: ["read_file", "read", "Read", "open_file", "view", "cat_file", "get_file"],
    WRITE: ["write_file", "write", "Write", "create_file", "save_file", "put_file"],
    EDIT: ["edit_file", "edit", "Edit", "replace", "replace_in_file", "str_replace", "substitute"],
    RUN: [
        "run_command",
        "bash",
        "Bash",
        "shell",
        "run_shell_command",
        "execute",
        "terminal",
        "exec",
    ],
}
PARAMETERS = {
    "path": ["path", "file_path", "filename", "file", "absolute_path"],
    "content": ["content", "text", "contents", "data"],
    "old": ["old", "old_string", "old_text", "old_str", "search"],
    "new": ["new", "new_string", "new_text", "new_str"],
    "command": ["command", "cmd", "script"],
}
OPTIONAL = {
    READ: ["offset", "limit"],
    WRITE: ["append", "mode"],
    EDIT: ["replace_all", "expected_replacements"],
    RUN: ["timeout", "description", "is_background"],
}
OTHERS = [
    ("list_files", ["path"]),
    ("list_directory", ["path"]),
    ("glob", ["pattern"]),
    ("search", ["pattern", "path?"]),
    ("grep", ["pattern", "path?"]),
    ("web_fetch", ["url"]),
    ("todo_write", ["todos"]),
    ("think", ["thought"]),
    ("task", ["prompt"]),
    ("ask_user", ["question"]),
    ("delete_file", ["path"]),
    ("move_file", ["from", "to"]),
    ("save_memory", ["fact"]),
]
EXITS = ["exit status {}", "exit {}", "[exit status {}]", "(exit code {})", "exit code: {}"]

WRITE_REQUESTS = """Create a file {p} with the content {q}|Create {p} with the content: {c}|Create {p} with this content: {c}
Create a file {p} with the content: {c}|create {p} with content {q}|Make a new file called {p} containing {q}|Please write {q} into {p}
write {q} to {p}|Write the text {q} to the file {p}|save {q} as {p}|Save {q} in the file {p}|Create file {p}. Content: {c}|Write this to {p}: {c}
I need a file {p} that says {q}|Put {q} into {p}|put the text {q} in a file named {p}|Write a file {p}:@{c}|Create {p}:@```@{c}@```
Please create the file {p} with exactly this content:@{c}|The file {p} should contain {q}. Please create it.|Store {q} in {p}.|New file {p}: {c}
Make {p} with the line {q}""".replace(
    "\n", "|"
).replace(
    "@", "\n"
)
READ_REQUESTS = """Read {p}|read the file {p}|Show me {p}|What is in {p}?|open {p} please|Please print the contents of {p}|What does {p} say?
cat {p}|Show the content of {p}.|Let me see {p}|Can you read {p}?|what's in the file {p}|Print {p}|Display {p}.|Look into {p}|What does the file {p} contain?""".replace(
    "\n", "|"
)
EDIT_REQUESTS = """Replace {a} by {b} in {p}|In {p}, replace {a} with {b}|change {a} to {b} in {p}|Edit {p}: {a} should become {b}|In {p} change {a} into {b}.
Please substitute {b} for {a} in the file {p}|swap {a} for {b} in {p}|Edit {p} and replace {a} with {b}.|In the file {p}, {a} must be {b}.|{p}: change {a} to {b}
Modify {p} so that {a} becomes {b}|Update {p}: replace {a} with {b}|Please change {a} to {b} in {p}.|There is {a} in {p}, make it {b}.""".replace(
    "\n", "|"
)
RUN_REQUESTS = """Run {c}|run the command {c}|Please execute {c}|execute: {c}|Can you run {c}?|run this: {c}|Run {c} and show me the output.|Start {c}
What does {c} print?|Please run {c}|Try {c}|I want you to run {c}|Execute the command {c}.|Call {c}|Show me the output of {c}""".replace(
    "\n", "|"
)
FIX_REQUESTS = """Run {c}. It fails; fix what it names and run it again.|{c} fails. Please fix it.|Fix the failing test {c}.|The check {c} fails, make it pass.
Make {c} pass.|Please fix the failing check: {c}|The test fails. Run {c}, fix the file and run it again.|Run {c} and fix what is wrong.|Why does {c} fail? Fix it.
Our check {c} is red, repair it.|Get {c} to pass.|Find out why {c} fails and repair it.|Please make the test {c} green.""".replace(
    "\n", "|"
)
FIX_BY_REQUESTS = """Fix the failing test {c} by changing {a} to {b} in {p}.|Fix {c} by replacing {a} with {b} in {p}.|{c} fails: in {p}, change {a} to {b}, then run it again.
In {p}, change {a} to {b}. Then run {c}.|Replace {a} by {b} in {p} and run {c}.|Make {c} pass: {p} needs {b} instead of {a}.|Edit {p}: {a} should be {b}. Check with {c}.""".replace(
    "\n", "|"
)
SET_REQUESTS = """In {p} set {k} to {v}.|Set {k} to {v} in {p}|Change {k} in {p} to {v}.|Please set {k} in the file {p} to {v}|{k} in {p} must be {v}.|Open {p} and set {k} to {v}.
Update {k} to {v} in {p}|I want {k} to be {v} in {p}.|Make {k} {v} in {p}|{p} has the wrong {k}: it must be {v}.|Edit {p} so that {k} is {v}.""".replace(
    "\n", "|"
)
OPERATOR_REQUESTS = """In {p}, {f} must use {b} instead of {a}. Fix it.|Fix the bug in {p}: {f} uses {a} but should use {b}.|{f} in {p} computes with {a}, it should be {b}.
The function {f} in {p} is wrong: use {b}, not {a}.|Please repair {f} in {p}: {a} has to be {b}.""".replace(
    "\n", "|"
)
COPY_REQUESTS = """Copy {p} to {r}.|Copy the text of {p} into {r}|Copy the content of {p} to the new file {r}.|Read {p} and write the same text to {r}.|Make a copy of {p} called {r}
Write what is in {p} to {r}.|Duplicate {p} as {r}|Create {r} with the content of {p}.|I need the text of {p} in {r} as well.""".replace(
    "\n", "|"
)
APPEND_REQUESTS = """Add the line {q} to the end of {p}.|Append {q} to {p}|Append the line {q} to the file {p}.|Add {q} as the last line of {p}|Put {q} at the end of {p}.
{p} needs one more line: {q}|Write {q} below the text in {p}.""".replace(
    "\n", "|"
)
ASK_REQUESTS = """What is {k} in {p}?|Which value has {k} in {p}?|Look into {p}: what is {k}?|Read {p} and tell me {k}.|what's the value of {k} in {p}|Tell me {k} from {p}.
Find {k} in {p}.|How is {k} set in {p}?|I need the {k} from {p}.|What value does {p} give for {k}?""".replace(
    "\n", "|"
)
CREATE_RUN_REQUESTS = """Create {p} with the content {q} and run {c}.|Write {q} to {p}, then run {c}.|Make the file {p} with {q}, then check with {c}.|Create {p} containing {q}. Then run {c}.
Put {q} into {p} and execute {c}|Save {q} as {p} and run {c} afterwards.""".replace(
    "\n", "|"
)


class Tools:
    """The tools of one conversation: what they are called here, and what else is offered."""

    def __init__(self, values, mix):
        self.values, self.mix = values, mix
        self.exit = values.choice(EXITS)
        usual = self.usual = values.chance(mix.usual)
        self.names, self.parameters, rows = {}, {}, []
        shared = {
            key: names[0] if values.chance(mix.first) else values.choice(names)
            for key, names in PARAMETERS.items()
        }
        for kind, (name, parameters) in USUAL.items():
            self.names[kind] = name if usual else values.choice(NAMES[kind])
            self.parameters[kind] = parameters if usual else [shared[key] for key in parameters]
            optional = (
                []
                if usual and values.chance(0.8)
                else [p for p in OPTIONAL[kind] if values.chance(0.4)]
            )
            rows.append((self.names[kind], self.parameters[kind] + [p + "?" for p in optional]))
        if values.chance(0.35):
            rows += values.random.sample(OTHERS, values.between(1, 5))
        if values.chance(0.6):
            values.random.shuffle(rows)
        self.missing = None
        if values.chance(0.06):
            self.missing = values.choice([READ, WRITE, EDIT, RUN])
            rows = [row for row in rows if row[0] != self.names[self.missing]]
        self.rows = rows

    def schemas(self):
        """As OpenAI's wire sends them."""
        tools = []
        for name, parameters in self.rows:
            properties = {p.rstrip("?"): {"type": "string"} for p in parameters}
            required = [p for p in parameters if not p.endswith("?")]
            schema = {"type": "object", "properties": properties, "required": required}
            tools.append(
                {
                    "type": "function",
                    "function": {"name": name, "description": "", "parameters": schema},
                }
            )
        return tools

    def call(self, kind, *arguments):
        function = {
            "name": self.names[kind],
            "arguments": dict(zip(self.parameters[kind], arguments, strict=True)),
        }
        return {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"function": function}],
            "family": f"call {kind}" if self.usual else f"call {kind} renamed",
        }

    def ran(self, output, status):
        """The result of a command."""
        line = self.exit.format(status)
        return result(f"{output}\n{line}" if output else line)


def ask(text):
    return {"role": "user", "content": text}


def result(text):
    return {"role": "tool", "content": text}


def held(values, text):
    """What reading a file gives: with its last line end or without."""
    return result(text + "\n" if values.chance(0.35) else text)


def say(text, family="final"):
    return {"role": "assistant", "content": text, "family": family}


def request(values, templates, **slots):
    return ask(values.choice(templates.split("|")).format(**slots))


def failed(values, subject):
    """What a tool says that could not do it."""
    text = values.choice(
        [
            "error: {} not found",
            "error: no such file: {}",
            "error: cannot open {}",
            "error: {}: permission denied",
        ]
    )
    return text.format(subject)


def command_text(values, command):
    return values.quoted(command) if values.chance(0.6) else command


def write(values, tools):
    path, content = values.path(), values.content()
    slots = {"p": values.maybe_quoted(path), "c": content, "q": values.quoted(content)}
    turns = [request(values, WRITE_REQUESTS, **slots), tools.call(WRITE, path, content)]
    return turns + ending(values, path, "ok", f"I wrote {path}.")


def read(values, tools):
    path, content = values.path(), values.content()
    turns = [request(values, READ_REQUESTS, p=values.maybe_quoted(path)), tools.call(READ, path)]
    return turns + ending(
        values, path, held(values, content)["content"], f"{path} contains:\n{content}"
    )


def edit(values, tools):
    path = values.path()
    old, new = (
        (values.line(), values.line())
        if values.chance(0.3)
        else (values.words(1, 2), values.words(1, 2))
    )
    slots = {
        "p": values.maybe_quoted(path),
        "a": values.maybe_quoted(old),
        "b": values.maybe_quoted(new),
    }
    turns = [request(values, EDIT_REQUESTS, **slots), tools.call(EDIT, path, old, new)]
    return turns + ending(values, path, "ok", f"I changed {path}.")


def run(values, tools):
    command, output = values.command(), values.lines(0, 3)
    turns = [
        request(values, RUN_REQUESTS, c=command_text(values, command)),
        tools.call(RUN, command),
    ]
    if not output:
        return turns + [tools.ran("", 0), say("It ran without output.")]
    if values.chance(0.1):
        return turns + [tools.ran(output, 1), say(f"It failed:\n{output}")]
    return turns + [tools.ran(output, 0), say(f"Output:\n{output}")]


def ending(values, path, good, text):
    """The result of a call and the answer, now and then a failure."""
    if values.chance(0.06):
        error = failed(values, path)
        return [result(error), say(f"That failed: {error}")]
    return [result(good), say(text)]


def settings(values, count):
    """Lines of a file of settings, and how each is written."""
    form = values.choice(["{} = {}", "{}={}", "{}: {}", "{} = {}", '{} = "{}"', '"{}": "{}",'])
    keys = list(dict.fromkeys(values.key() for _ in range(count)))
    rows = [(key, values.number() if values.chance(0.6) else values.word()) for key in keys]
    return form, rows


def set_value(values, tools):
    path, (form, rows) = values.path(), settings(values, values.between(1, 5))
    key, old = values.choice(rows)
    new = values.number() if old.isdigit() else values.word()
    text = "\n".join(form.format(*row) for row in rows)
    slots = {"p": path, "k": values.maybe_quoted(key), "v": values.maybe_quoted(new)}
    return [
        request(values, SET_REQUESTS, **slots),
        tools.call(READ, path),
        held(values, text),
        tools.call(EDIT, path, form.format(key, old), form.format(key, new)),
        result("ok"),
        say(f"I set {key} to {new} in {path}."),
    ]


def ask_value(values, tools, lines=6):
    path, (form, rows) = values.path(), settings(values, values.between(1, lines))
    key, value = values.choice(rows)
    text = "\n".join(form.format(*row) for row in rows)
    return [
        request(values, ASK_REQUESTS, p=path, k=values.maybe_quoted(key)),
        tools.call(READ, path),
        held(values, text),
        say(f"{key} is {value}."),
    ]


def operator(values, tools):
    path, name = values.path(), values.name()
    x, y = values.random.sample("abcdnmxyk", 2)
    old, new = values.random.sample(["+", "-", "*", "/", "%"], 2)
    head, line = values.choice(
        [
            (f"def {name}({x}, {y}):", "    return {x} {o} {y}"),
            (f"fn {name}({x}: i32, {y}: i32) -> i32 {{", "    {x} {o} {y}"),
            (f"{name}() {{", "    echo $(($1 {o} $2))"),
            (f"function {name}({x}, {y}) {{", "    return {x} {o} {y};"),
        ]
    )
    tail = "" if head.endswith(":") else "\n}"
    before, after = line.format(x=x, y=y, o=old), line.format(x=x, y=y, o=new)
    slots = {"p": path, "f": name, "a": values.maybe_quoted(old), "b": values.maybe_quoted(new)}
    return [
        request(values, OPERATOR_REQUESTS, **slots),
        tools.call(READ, path),
        held(values, f"{head}\n{before}{tail}"),
        tools.call(EDIT, path, before, after),
        result("ok"),
        say(f"{name} uses {new}, in {path}."),
    ]


def copy_file(values, tools):
    path, copy, content = values.path(), values.path(), values.lines(1, 4)
    return [
        request(values, COPY_REQUESTS, p=path, r=copy),
        tools.call(READ, path),
        held(values, content),
        tools.call(WRITE, copy, content),
        result("ok"),
        say(f"I copied {path} to {copy}."),
    ]


def append(values, tools):
    path, content, line = values.path(), values.lines(1, 3), values.line()
    return [
        request(values, APPEND_REQUESTS, p=path, q=values.quoted(line)),
        tools.call(READ, path),
        held(values, content),
        tools.call(WRITE, path, f"{content}\n{line}"),
        result("ok"),
        say(f"I added a line to {path}."),
    ]


def create_run(values, tools):
    path, content, command = values.path(), values.line(), values.check()
    slots = {"p": path, "q": values.quoted(content), "c": command_text(values, command)}
    return [
        request(values, CREATE_RUN_REQUESTS, **slots),
        tools.call(WRITE, path, content),
        result("ok"),
        tools.call(RUN, command),
        passed(values, tools),
        say(f"Done: {command} passes."),
    ]


def passed(values, tools):
    return tools.ran(
        values.choice(
            ["PASS", "ok", "all tests passed", "", "PASS", "1 passed", values.words(1, 3)]
        ),
        0,
    )


def fix_by(values, tools):
    path, command = values.path(), values.check()
    old, new = (
        (values.line(), values.line())
        if values.chance(0.5)
        else (values.words(1, 2), values.words(1, 2))
    )
    if values.chance(0.3):
        left, right = values.name(), values.name()
        old, new = (
            f"{left} {o} {right}"
            for o in values.random.sample(["+", "-", "*", "/", "==", "<", ">"], 2)
        )
    slots = {
        "p": path,
        "c": command_text(values, command),
        "a": values.quoted(old),
        "b": values.quoted(new),
    }
    return [
        request(values, FIX_BY_REQUESTS, **slots),
        tools.call(EDIT, path, old, new),
        result("ok"),
        tools.call(RUN, command),
        passed(values, tools),
        say(f"Done: {command} passes."),
    ]


def fix(values, tools):
    """A check that fails says what is wrong; some faults show only in the file."""
    path, command = values.path(), values.check()
    turns = [
        request(values, FIX_REQUESTS, c=command_text(values, command)),
        tools.call(RUN, command),
    ]
    word = values.choice(["FAIL", "FAILED", "error:", "Error:", "not ok:", "FAIL:"])
    kind = values.between(0, 2)
    if kind == 0:
        old, new = (
            (values.line(), values.line())
            if values.chance(0.5)
            else (values.words(1, 2), values.words(1, 2))
        )
        q = values.choice(["`{}`", '"{}"', "{}"])
        form = values.choice(
            [
                "{p}: found {a}, expected {b}",
                "{p}: expected {b}, found {a}",
                "{p} has {a} but needs {b}",
                "{p}: {a} should be {b}",
            ]
        )
        report = form.format(p=path, a=q.format(old), b=q.format(new))
        middle = [tools.call(EDIT, path, old, new)]
    elif kind == 1:
        form, rows = settings(values, values.between(1, 4))
        key, old = values.choice(rows)
        new = values.number() if old.isdigit() else values.word()
        said = values.choice(
            [
                "{p}: {k} is {a}, expected {b}",
                "{p}: {k} must be {b}, not {a}",
                "in {p}: expected {k} to be {b}, got {a}",
                "{p}: {k} must be {b}",
            ]
        )
        report = said.format(p=path, k=key, a=old, b=new)
        text = "\n".join(form.format(*row) for row in rows)
        middle = [
            tools.call(READ, path),
            held(values, text),
            tools.call(EDIT, path, form.format(key, old), form.format(key, new)),
        ]
    else:
        line = values.line()
        said = values.choice(
            [
                "{p} is missing, it must contain: {c}",
                "no file {p} with the line: {c}",
                "{p} does not exist, expected: {c}",
            ]
        )
        report = said.format(p=path, c=line)
        middle = [tools.call(WRITE, path, line)]
    return (
        turns
        + [tools.ran(f"{word} {report}", 1)]
        + middle
        + [
            result("ok"),
            tools.call(RUN, command),
            passed(values, tools),
            say(f"Done: {command} passes."),
        ]
    )


def lacking(values, tools):
    """A request for which there is no tool."""
    kind = tools.missing if tools else values.choice([READ, WRITE, EDIT, RUN])
    offered = tools or Tools(values, COMMON)
    turns = {READ: read, WRITE: write, EDIT: edit, RUN: run}[kind](values, offered)
    return [turns[0], say("I have no tool for that.", "lacking")]


class Mix:
    """How often tools have their usual names and parameters the first of theirs, and how often each
    kind of episode is drawn."""

    def __init__(self, usual, first, weights):
        self.usual, self.first = usual, first
        self.kinds, self.weights = list(weights), list(weights.values())


COMMON = Mix(
    usual=0.7,
    first=0.5,
    weights={
        write: 20,
        edit: 14,
        read: 10,
        run: 10,
        set_value: 9,
        ask_value: 6,
        operator: 4,
        copy_file: 6,
        append: 5,
        create_run: 5,
        fix_by: 7,
        fix: 13,
    },
)
# More of what a small model gets wrong longest.
HARD = Mix(
    usual=0.35,
    first=0.25,
    weights={
        write: 16,
        edit: 12,
        read: 6,
        run: 14,
        set_value: 8,
        ask_value: 3,
        operator: 14,
        copy_file: 8,
        append: 14,
        create_run: 5,
        fix_by: 10,
        fix: 12,
    },
)


def episode(values, tools):
    """Any of them."""
    if tools.missing:
        return lacking(values, tools)
    return values.random.choices(tools.mix.kinds, tools.mix.weights)[0](values, tools)
