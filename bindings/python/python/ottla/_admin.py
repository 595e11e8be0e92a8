"""The admin client for threads."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self

from . import _config, _group, _native, _process
from ._types import (
    BrokerInfo,
    ClusterDescription,
    ConsumerGroupDescription,
    CreatedTopic,
    GroupListing,
    MemberDescription,
    NewTopic,
    OffsetAndMetadata,
    PartitionDescription,
    TopicDescription,
    TopicListing,
    TopicPartition,
)
from .errors import KafkaError

if TYPE_CHECKING:
    from ._types import ConfigValue, Offset


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


def groups(answer: str) -> list[GroupListing]:
    return [GroupListing(**row) for row in json.loads(answer)]


def described_groups(answers: dict[str, str | KafkaError]) -> dict[str, ConsumerGroupDescription | KafkaError]:
    return {name: answer if isinstance(answer, KafkaError) else group(answer) for name, answer in answers.items()}


def group(answer: str) -> ConsumerGroupDescription:
    known = json.loads(answer)
    for member in known["members"]:
        for key in ("assignment", "target_assignment"):
            if member[key] is not None:
                member[key] = [tuple(pair) for pair in member[key]]
    known["members"] = [MemberDescription(**member) for member in known["members"]]
    return ConsumerGroupDescription(**known)


def group_offsets(
    answers: dict[TopicPartition, tuple[int, int | None, str]],
) -> dict[TopicPartition, OffsetAndMetadata]:
    return {of: _group.offset(row) for of, row in answers.items()}


class Admin(_native.Admin):
    """Looks after topics and groups. Connects with the first call; may be used from any number of threads.

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

    def list_groups(
        self, states: Iterable[str] = (), types: Iterable[str] = (), *, timeout: float | None = None
    ) -> list[GroupListing]:
        """All groups, or those in some states or of some types."""
        return groups(self._list_groups(list(states), list(types)).wait(timeout))

    def describe_consumer_groups(
        self, groups: Iterable[str], *, timeout: float | None = None
    ) -> dict[str, ConsumerGroupDescription | KafkaError]:
        """States, members and assignments of groups."""
        return described_groups(self._describe_consumer_groups(list(groups)).wait(timeout))

    def list_consumer_group_offsets(
        self, group: str, *, require_stable: bool = False, timeout: float | None = None
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        """All committed offsets of a group."""
        return group_offsets(self._list_consumer_group_offsets(group, require_stable).wait(timeout))

    def alter_consumer_group_offsets(
        self, group: str, offsets: Mapping[TopicPartition, Offset], *, timeout: float | None = None
    ) -> dict[TopicPartition, KafkaError | None]:
        """Commits offsets on behalf of a group that has no members."""
        return self._alter_consumer_group_offsets(group, _group.rows(offsets)).wait(timeout)

    def delete_consumer_group_offsets(
        self, group: str, partitions: Iterable[TopicPartition], *, timeout: float | None = None
    ) -> dict[TopicPartition, KafkaError | None]:
        """Forgets committed offsets, of topics that no member of the group is subscribed to."""
        return self._delete_consumer_group_offsets(group, list(partitions)).wait(timeout)

    def delete_consumer_groups(
        self, groups: Iterable[str], *, timeout: float | None = None
    ) -> dict[str, KafkaError | None]:
        """Deletes groups without members, with all their committed offsets."""
        return self._delete_consumer_groups(list(groups)).wait(timeout)

    def close(self) -> None:
        """Closes the connections as soon as open calls have ended."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
