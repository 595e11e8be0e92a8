"""The examples run, and say the same of the same tracks."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

import ottla
from ottla.testing import Cluster

EXAMPLES = Path(__file__).parents[3] / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / "python" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def counts() -> Counter[str]:
    lines = (EXAMPLES / "data" / "gpsraw.jsonl").read_text().splitlines()
    return Counter(json.loads(line)["track"] for line in lines)


def test_the_example_for_threads(counts: Counter[str]) -> None:
    assert example("tracks").main() == counts


def test_the_example_for_asyncio(counts: Counter[str]) -> None:
    assert asyncio.run(example("tracks_asyncio").main()) == counts


def test_the_example_of_a_group(counts: Counter[str]) -> None:
    assert example("group").main() == counts


def test_the_examples_of_workers_and_of_positions_that_a_program_keeps(counts: Counter[str], tmp_path: Path) -> None:
    with Cluster() as cluster:
        servers = cluster.bootstrap_servers
        with ottla.Admin(servers) as admin:
            admin.create_topics([ottla.NewTopic("gpsraw", partitions=3)])
        with ottla.Producer(servers) as producer:
            for line in (EXAMPLES / "data" / "gpsraw.jsonl").read_bytes().splitlines():
                producer.send("gpsraw", line, key=json.loads(line)["track"])
        assert example("parallel").main(servers) == counts
        assert example("manual").main(servers, tmp_path / "state.json") == (counts.total(), counts.total())
        assert example("manual").main(servers, tmp_path / "state.json") == (0, counts.total())


def test_the_example_with_arrow(counts: Counter[str]) -> None:
    pytest.importorskip("pyarrow")
    assert example("tracks_arrow").main() == counts
