"""Real agents do a task against the real server: they read a file, edit it, run a command, finish.

What they did is judged by the files and the server's log. Their exit status says little.
"""

import os
import subprocess

import pytest
from server import Scripted

TASK = "Mend the typo in notes.txt and count its lines"
COUNT = 'wc -l < notes.txt | tr -d " " > count.txt && echo "counted $(cat count.txt)"'
PATCH = """apply_patch <<'PATCH'
*** Begin Patch
*** Update File: notes.txt
@@
-teh first line
+the first line
 second line
*** End Patch
PATCH"""
# Tokens that a turn may read again of what was read before: a value that comes back in another
# spelling begins where it begins.
AGAIN = 160

# agent: (path of its wire, calls that read, edit and run, what stands behind its settings)
AGENTS = {
    "codex": (
        "/v1/responses",
        lambda file: [
            ("exec_command", {"cmd": "cat notes.txt"}),
            ("exec_command", {"cmd": PATCH}),
            ("exec_command", {"cmd": COUNT}),
        ],
        ["exec", "--skip-git-repo-check", "--ephemeral"]
        + ["--dangerously-bypass-approvals-and-sandbox", TASK],
    ),
    "qwen-code": (
        "/v1/chat/completions",
        lambda file: [
            ("read_file", {"file_path": file}),
            ("edit", {"file_path": file, "old_string": "teh", "new_string": "the"}),
            ("run_shell_command", {"command": COUNT}),
        ],
        ["-p", TASK, "--yolo"],
    ),
    "claude-code": (
        "/v1/messages",
        lambda file: [
            ("Read", {"file_path": file}),
            ("Edit", {"file_path": file, "old_string": "teh", "new_string": "the"}),
            ("Bash", {"command": COUNT, "description": "Count lines"}),
        ],
        ["-p", TASK, "--dangerously-skip-permissions"],
    ),
}


def call(name, arguments):
    rows = [f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in arguments.items()]
    return f"<tool_call>\n<function={name}>\n{''.join(rows)}</function>\n</tool_call>"


def script(calls):
    """What is said to what was heard last: a file's text, an edit's success, a count."""
    read, edit, count = [call(*row) for row in calls]
    return [
        {"hears": ["counted 2"], "says": "The typo is mended."},
        {"hears": ["<tool_response>", "pdated"], "says": f"Now I count.\n{count}"},
        {"hears": ["<tool_response>", "teh first line"], "says": f"There it is.\n{edit}"},
        {"hears": [TASK], "says": f"I read it first.\n{read}"},
    ]


@pytest.mark.parametrize("agent", AGENTS)
def test_an_agent_reads_edits_runs_and_finishes(agent, request, tmp_path, scripted, qwire):
    path, calls, arguments = AGENTS[agent]
    fixture = "claude_code" if agent == "claude-code" else "programs"
    programs = request.getfixturevalue(fixture)
    work, home = tmp_path / "work", tmp_path / "home"
    work.mkdir(), home.mkdir()
    notes = work / "notes.txt"
    notes.write_text("teh first line\nsecond line\n")
    variables = {
        name: os.environ[name] for name in ("LANG", "TERM", "TMPDIR") if name in os.environ
    }
    variables |= {"HOME": str(home), "PATH": f"{programs}:{os.environ['PATH']}", "IS_SANDBOX": "1"}
    with Scripted(scripted, script(calls(str(notes))), tmp_path) as server:
        command = [qwire, "launch", agent, "--url", server.url, "--", *arguments]
        done = subprocess.run(
            command, cwd=work, env=variables, timeout=120, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        told = f"{done.stdout[-3000:]}\n{server.said()[-5000:]}"
        assert notes.read_text() == "the first line\nsecond line\n", told
        assert (work / "count.txt").read_text() == "2\n", told
        turns = [row for row in server.requests() if row["path"].strip('"') == path]
    assert [row["status"] for row in turns] == [200] * 4, told
    assert [row["finish"] for row in turns] == ["calls", "calls", "calls", "natural"], told
    for before, row in zip(turns, turns[1:]):
        assert row["cached"] >= before["prompt"] - 1, told
        assert row["cached"] >= before["prompt"] + before["tokens"] - AGAIN, told
