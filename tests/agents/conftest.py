"""What is built and installed once for all suites."""

import os
import shutil
import subprocess

import pytest
from server import ROOT, built

AGENTS = ROOT / "target/agents"


@pytest.fixture(scope="session")
def scripted():
    return built("test", "--workspace", "--test", "scripted", "--no-run")


@pytest.fixture(scope="session")
def qwire():
    return os.environ.get("QWIRE_BIN") or built("build", "--package", "qwire")


def installed(lock, *flags):
    """The programs of a lock file's packages; skips where the registry is out of reach."""
    name = lock.parent.name
    folder = AGENTS / name
    folder.mkdir(parents=True, exist_ok=True)
    for file in ("package.json", "package-lock.json"):
        shutil.copy(lock.parent / file, folder / file)
    command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", folder, *flags]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"{name} cannot be installed: {done.stderr[-300:]}")
    return folder / "node_modules/.bin"


@pytest.fixture(scope="session")
def programs():
    return installed(ROOT / "tests/agents/package-lock.json", "--ignore-scripts")


@pytest.fixture(scope="session")
def claude_code():
    if os.environ.get("QWIRE_CLAUDE_CODE") != "1":
        pytest.skip("Claude Code has a licence of its own: QWIRE_CLAUDE_CODE=1 installs it")
    # Its script puts its program in place.
    return installed(ROOT / "tests/agents/claude-code/package-lock.json")
