"""One broker for all tests; topics have names of their own."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator

import pytest

import ottla
from ottla.testing import Cluster

_numbers = itertools.count()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with Cluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def servers(cluster: Cluster) -> str:
    return cluster.bootstrap_servers


@pytest.fixture
def new_topic(servers: str) -> Iterator[Callable[..., str]]:
    """Makes a topic that no other test knows."""
    with ottla.Admin(servers) as admin:

        def make(partitions: int = 1, **config: str) -> str:
            name = f"t{os.getpid()}-{next(_numbers)}"
            keys = {key.replace("_", "."): value for key, value in config.items()}
            answer = admin.create_topics([ottla.NewTopic(name, partitions, config=keys)])[name]
            assert isinstance(answer, ottla.CreatedTopic)
            return name

        yield make


@pytest.fixture
def topic(new_topic: Callable[..., str]) -> str:
    return new_topic()


def read(servers: str, topic: str, count: int) -> list[ottla.ConsumerRecord]:
    """The first records of a topic."""
    with ottla.Consumer(servers, topics=[topic], auto_offset_reset="earliest") as consumer:
        return list(itertools.islice(consumer, count))
