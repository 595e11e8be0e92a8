"""A web server with several worker processes: the example, served by uvicorn."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest

from conftest import read

EXAMPLES = Path(__file__).parents[3] / "examples" / "python"


@dataclass
class Server:
    process: subprocess.Popen[bytes]
    output: IO[str]

    def wait(self, timeout: float) -> tuple[int, str]:
        """How it ended, and all that it and its workers have said."""
        code = self.process.wait(timeout)
        self.output.seek(0)
        return code, self.output.read()


@contextmanager
def uvicorn(servers: str, *words: str) -> Iterator[tuple[Server, int]]:
    """The server on a port that this process has bound, so that connections wait for it from the beginning."""
    # A file: nobody reads while it runs, and a worker that fills a pipe stands still.
    with socket.create_server(("127.0.0.1", 0)) as listener, tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "--app-dir", str(EXAMPLES), "--fd", str(listener.fileno()), *words, "asgi:app"],
            env={**os.environ, "BOOTSTRAP_SERVERS": servers},
            pass_fds=[listener.fileno()],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield Server(process, output), listener.getsockname()[1]
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


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
    with uvicorn(servers, "--workers", "2", "--loop", loop) as (server, port):
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
        server.process.send_signal(signal.SIGTERM)
        code, out = server.wait(60)
    assert code in (0, -signal.SIGTERM), out
    assert "Traceback" not in out and "Warning" not in out, out
    assert out.count("Application shutdown complete") == 2, out
    records = read(servers, topic, len(written))
    assert {record.offset: record.value for record in records} == {offset: value.encode() for offset, value in written.items()}


def test_a_worker_that_finds_no_cluster_says_why_it_does_not_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"127.0.0.1:{taken.getsockname()[1]}"
    with uvicorn(nobody) as (server, _):
        code, out = server.wait(120)
    assert code == 3, out
    assert nobody in out and "Traceback" not in out, out
