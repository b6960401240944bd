"""The requests of six agents, played by `qwire doctor` against the real server."""

import json
import subprocess

import pytest
from server import Scripted
from test_agents import call

# agent: its tool that reads, called as its model would
READS = {
    "aider": None,
    "claude-code": ("Read", {"file_path": "notes.txt"}),
    "cline": ("read_files", {"files": '[{"path": "notes.txt"}]'}),
    "codex": ("exec_command", {"cmd": "cat notes.txt"}),
    "opencode": ("read", {"filePath": "notes.txt"}),
    "qwen-code": ("read_file", {"file_path": "notes.txt"}),
}


@pytest.mark.parametrize("calls", [True, False], ids=["calls", "must be asked"])
@pytest.mark.parametrize("agent", READS)
def test_the_server_is_what_the_agent_expects(agent, calls, tmp_path, scripted, qwire):
    tool = READS[agent]
    script = [{"hears": ["<tool_response>"], "says": "Well read."}]
    if tool and calls:
        # Where tools are listed, one is called.
        script.append({"hears": [f"{tool[0]}("], "says": f"I look.\n{call(*tool)}"})
    script.append({"hears": [""], "says": '{"title": "Notes"}'})
    with Scripted(scripted, script, tmp_path) as server:
        command = [qwire, "doctor", "--agent", agent, "--url", server.url, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        report = json.loads(done.stdout)
    told = json.dumps(report["checks"], indent=1)
    assert done.returncode == 0 and report["passed"], told
    names = [check["check"] for check in report["checks"]]
    assert {"models", "conversation", "refusal", "too long"} <= set(names), told
    if tool and calls:
        assert "result" in names and "demanded call" not in names, told
    elif tool:
        assert "demanded call" in names, told
