"""
Whatever the public OpenAPI document allows, and much that it does not: no answer fails, and none is of another shape.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sandbox.running import running

DOCUMENT = Path(__file__).with_name("openapi.json")
CHECKS = (
    "not_a_server_error,content_type_conformance,response_headers_conformance,response_schema_conformance,unsupported_method"
)
EXAMPLES = int(os.environ.get("EXAMPLES", "250"))
"""Of each of eight operations, besides those that cover every boundary."""
TIMESTAMPS = "/v1/tts/stream/with-timestamp"


@pytest.mark.long
@pytest.mark.parametrize(
    ("checks", "paths"),
    [
        (CHECKS, ["--exclude-path", TIMESTAMPS]),
        # Its schema is that of what stands behind `data:`, and is compared with the event around it.
        ("not_a_server_error,content_type_conformance", ["--include-path", TIMESTAMPS]),
    ],
    ids=["all", "timestamps"],
)
def test_schema(checks: str, paths: list[str], tmp_path: Path) -> None:
    """
    The statuses themselves are not compared: the document names neither 400 nor 422, which are known all the same.
    """
    command = [sys.executable, "-m", "schemathesis.cli", "run", str(DOCUMENT), "--checks", checks, "--seed", "1"]
    key = ["--header", "Authorization: Bearer test-key"]
    much = [
        "--max-examples",
        str(EXAMPLES),
        "--phases",
        "examples,coverage,fuzzing",
        "--continue-on-failure",
        "--request-timeout",
        "60",
    ]
    with running() as server:
        done = subprocess.run(
            [*command, *key, *much, *paths, "--url", server.url], cwd=tmp_path, capture_output=True, text=True, check=False
        )

    assert done.returncode == 0, done.stdout[-5000:]
