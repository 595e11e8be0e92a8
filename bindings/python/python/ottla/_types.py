"""Small types that go in and out of the clients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import NamedTuple, Protocol, TypeAlias


class Buffer(Protocol):
    """Anything with the buffer protocol: bytearray, memoryview, arrays."""

    def __buffer__(self, flags: int, /) -> memoryview: ...


Bytes: TypeAlias = bytes | str | Buffer
"""What a key, a value or a header's value may be; text is sent as UTF-8."""
Headers: TypeAlias = Mapping[str, Bytes | None] | Iterable[tuple[str, Bytes | None]]
ConfigValue: TypeAlias = str | bool | int | float | timedelta | list[str]
TopicPartition: TypeAlias = tuple[str, int]
"""A topic and the number of one of its partitions."""


class Record(NamedTuple):
    """A record for `send_many`."""

    value: Bytes | None
    key: Bytes | None = None
    headers: Headers | None = None
    partition: int | None = None
    timestamp: int | None = None
    """Milliseconds since 1970; the time of sending if it is left out."""


class Flushed(NamedTuple):
    """What became of the records that a flush waited for."""

    delivered: int
    failed: int
    """Failed, and certainly not in the log."""
    unknown: int
    """Failed, and possibly in the log."""


class Closed(NamedTuple):
    """What became of all records of a producer."""

    delivered: int
    failed: int
    """Failed, and certainly not in the log."""
    unknown: int
    """Failed, and possibly in the log."""


class OffsetAndTimestamp(NamedTuple):
    """A record that was found by its time."""

    offset: int
    timestamp: int | None
    leader_epoch: int | None


class NewTopic(NamedTuple):
    """A topic to be created; what is left out is the broker's default."""

    name: str
    partitions: int | None = None
    replication_factor: int | None = None
    assignments: list[list[int]] | None = None
    """The brokers of each partition, in place of the two numbers."""
    config: Mapping[str, ConfigValue] = {}


class CreatedTopic(NamedTuple):
    """A topic that was created."""

    id: str
    partitions: int | None
    replication_factor: int | None


class TopicListing(NamedTuple):
    """A topic of the cluster."""

    name: str
    id: str
    internal: bool


class PartitionDescription(NamedTuple):
    """A partition of a topic."""

    partition: int
    leader: int | None
    leader_epoch: int
    replicas: list[int]
    in_sync: list[int]
    offline: list[int]


class TopicDescription(NamedTuple):
    """A topic with its partitions."""

    name: str
    id: str
    internal: bool
    partitions: list[PartitionDescription]


class BrokerInfo(NamedTuple):
    """A broker of the cluster."""

    id: int
    host: str
    port: int
    rack: str | None


class ClusterDescription(NamedTuple):
    """The cluster and its brokers."""

    cluster_id: str
    controller: int | None
    brokers: list[BrokerInfo]
