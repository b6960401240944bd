"""The server against its own description, with requests that a machine thought of."""

import os
import subprocess
import sys
from pathlib import Path

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,"
CHECKS += "response_headers_conformance,response_schema_conformance,unsupported_method"


def test_every_answer_is_described(server, long, tmp_path):
    command = [
        Path(sys.executable).parent / "schemathesis", "run", f"{server.root}/openapi.json",
        "--seed", "4", "--max-examples", "400" if long else "25", "--checks", CHECKS,
        "--phases", "examples,coverage,fuzzing", "--request-timeout", "30", "--workers", "2",
        "--generation-database", "none", "--no-color",
    ]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=3600)
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
    assert server.metric("qwire_panics_total") + server.metric("qwire_request_panics_total") == 0
