"""A web server with several worker processes: the example, served by uvicorn."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from conftest import read

EXAMPLES = Path(__file__).parents[3] / "examples" / "python"


@contextmanager
def uvicorn(servers: str, *words: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The server on a port that this process has bound, so that connections wait for it from the beginning."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "--app-dir", str(EXAMPLES), "--fd", str(listener.fileno()), *words, "asgi:app"],
            env={**os.environ, "BOOTSTRAP_SERVERS": servers},
            pass_fds=[listener.fileno()],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            yield process, listener.getsockname()[1]
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate()


def post(port: int, topic: str, value: str) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", f"/{topic}", value)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_every_worker_of_uvicorn_produces_and_ends_in_order(servers: str, topic: str, loop: str) -> None:
    with uvicorn(servers, "--workers", "2", "--loop", loop) as (process, port):
        workers: set[int] = set()
        written: dict[int, str] = {}
        deadline = time.monotonic() + 60
        # Which of the two takes a connection is the kernel's choice.
        while len(workers) < 2 or len(written) < 100:
            assert time.monotonic() < deadline, f"only {workers} of two workers answered"
            value = f"point {len(written)}"
            status, told = post(port, topic, value)
            assert status == 200, told
            assert written.setdefault(told["offset"], value) == value
            workers.add(told["worker"])
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    assert process.returncode in (0, -signal.SIGTERM), out
    assert "Traceback" not in out and "Warning" not in out, out
    assert out.count("Application shutdown complete") == 2, out
    records = read(servers, topic, len(written))
    assert {record.offset: record.value for record in records} == {offset: value.encode() for offset, value in written.items()}


def test_a_worker_that_finds_no_cluster_says_why_it_does_not_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"127.0.0.1:{taken.getsockname()[1]}"
    with uvicorn(nobody) as (process, _):
        out, _ = process.communicate(timeout=120)
    assert process.returncode == 3, out
    assert nobody in out and "Traceback" not in out, out
