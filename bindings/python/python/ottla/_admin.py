"""The admin client for threads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self

from . import _config, _native, _process
from ._types import (
    BrokerInfo,
    ClusterDescription,
    CreatedTopic,
    NewTopic,
    PartitionDescription,
    TopicDescription,
    TopicListing,
)
from .errors import KafkaError

if TYPE_CHECKING:
    from ._types import ConfigValue


def wishes(topics: Iterable[NewTopic | str]) -> list[_native._Wish]:
    """Topics as the native module takes them."""
    rows = [NewTopic(topic) if isinstance(topic, str) else topic for topic in topics]
    return [
        (
            topic.name,
            topic.partitions,
            topic.replication_factor,
            topic.assignments,
            [(key, _config.text(value)) for key, value in topic.config.items()],
        )
        for topic in rows
    ]


def created(
    answers: dict[str, tuple[str, int | None, int | None] | KafkaError],
) -> dict[str, CreatedTopic | KafkaError]:
    return {
        name: answer if isinstance(answer, KafkaError) else CreatedTopic(*answer) for name, answer in answers.items()
    }


def described(answers: dict[str, _native._Described | KafkaError]) -> dict[str, TopicDescription | KafkaError]:
    result: dict[str, TopicDescription | KafkaError] = {}
    for name, answer in answers.items():
        if isinstance(answer, KafkaError):
            result[name] = answer
            continue
        identity, internal, rows = answer
        partitions = [PartitionDescription(number, leader, epoch, *of) for number, leader, epoch, of in rows]
        result[name] = TopicDescription(name, identity, internal, partitions)
    return result


def cluster(answer: _native._DescribedCluster) -> ClusterDescription:
    identity, controller, brokers = answer
    return ClusterDescription(identity, controller, [BrokerInfo(*broker) for broker in brokers])


class Admin(_native.Admin):
    """Looks after topics. Connects with the first call; may be used from any number of threads.

    Every call for several topics answers for each: with a KafkaError in the place of what failed. `timeout` is in seconds.
    """

    def __init__(self, config: str | Mapping[str, ConfigValue] | None = None, /, **keys: ConfigValue) -> None:
        self._start(_config.pairs(config, keys))
        _process.started(self)

    def connected(self, timeout: float | None = None) -> None:
        """Waits until it has connected, or raises why it could not. The first call does the same."""
        self._connected().wait(timeout)

    def create_topics(
        self, topics: Iterable[NewTopic | str], *, validate_only: bool = False, timeout: float | None = None
    ) -> dict[str, CreatedTopic | KafkaError]:
        """Creates topics, or only says whether they could be created."""
        return created(self._create_topics(wishes(topics), validate_only).wait(timeout))

    def delete_topics(self, names: Iterable[str], *, timeout: float | None = None) -> dict[str, KafkaError | None]:
        """Deletes topics with everything in them."""
        return self._delete_topics(list(names)).wait(timeout)

    def create_partitions(
        self, totals: Mapping[str, int], *, timeout: float | None = None
    ) -> dict[str, KafkaError | None]:
        """Gives topics more partitions: so many in total."""
        return self._create_partitions(list(totals.items())).wait(timeout)

    def list_topics(self, *, timeout: float | None = None) -> list[TopicListing]:
        """All topics."""
        return [TopicListing(*row) for row in self._list_topics().wait(timeout)]

    def describe_topics(
        self, names: Iterable[str], *, timeout: float | None = None
    ) -> dict[str, TopicDescription | KafkaError]:
        """Partitions, leaders and replicas of topics."""
        return described(self._describe_topics(list(names)).wait(timeout))

    def describe_cluster(self, *, timeout: float | None = None) -> ClusterDescription:
        """The cluster's id and brokers."""
        return cluster(self._describe_cluster().wait(timeout))

    def close(self) -> None:
        """Closes the connections as soon as open calls have ended."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
