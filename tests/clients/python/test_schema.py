"""The server against its own description, with requests that a machine thought of."""

import subprocess
import sys
from pathlib import Path

import httpx
from server import Server

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,"
CHECKS += "response_headers_conformance,response_schema_conformance,unsupported_method"


ENDPOINTS = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/models"]


def test_every_answer_is_described(long, tmp_path):
    # A short context, as most of these requests forget to say where an answer ends.
    with Server("--ctx", "128") as server:
        described = httpx.get(f"{server.root}/openapi.json").json()["paths"]
        assert set(ENDPOINTS) <= set(described)
        command = [
            Path(sys.executable).parent / "schemathesis", "run", f"{server.root}/openapi.json",
            "--seed", "4", "--max-examples", "400" if long else "20", "--checks", CHECKS,
            "--phases", "examples,coverage,fuzzing" if long else "examples,fuzzing",
            "--request-timeout", "60", "--workers", "2", "--generation-database", "none",
            "--no-color",
        ]
        run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
        panics = ["qwire_panics_total", "qwire_request_panics_total", "qwire_crashes_total"]
        assert sum(map(server.metric, panics)) == 0
