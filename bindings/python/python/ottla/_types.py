"""Small types that go in and out of the clients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from .errors import KafkaError


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


class OffsetAndMetadata(NamedTuple):
    """An offset as it is committed: that of the next record to read."""

    offset: int
    metadata: str = ""
    """Any words of the application."""
    leader_epoch: int | None = None


Offset: TypeAlias = int | OffsetAndMetadata
"""An offset to commit."""


class PartitionProgress(NamedTuple):
    """How far a partition is, and why it does not move if it does not."""

    topic: str
    partition: int
    position: int | None
    committed: int | None
    lag: int | None
    state: str
    """`fetching`, `buffered`, `at_end`, `paused`, `awaits_leader`, `revoked_awaits_application`, ..."""
    error: str | None
    since_ms: int
    """For how long it has been doing that."""


class ConsumerEvent(NamedTuple):
    """Something that happened to a consumer, beside partitions that come and go."""

    kind: str
    """`rebalancing`, `commit_failed` or `stalled`."""
    partitions: list[TopicPartition]
    error: KafkaError | None
    """Why a commit failed that nobody waited for."""
    reason: str | None
    """Why a rebalance begins."""
    progress: PartitionProgress | None
    """How the partition stands that has records and does not move."""


class ConsumerGroupMetadata(NamedTuple):
    """Who a consumer is in its group."""

    group_id: str
    generation_id: int
    """The generation, or the member epoch; -1 while it is no member."""
    member_id: str
    group_instance_id: str | None


class ConsumerClosed(NamedTuple):
    """What closing a consumer did."""

    committed: dict[TopicPartition, int]
    """The offsets that it committed."""
    unprocessed: dict[TopicPartition, int]
    """Partitions of which records were handed out that are not known to be processed, with the offset after the last one."""
    finished: bool
    """Whether the group was left in time; otherwise it waits for this member until its session ends."""
    error: KafkaError | None
    """Why offsets could not be committed, if they could not."""


class GroupListing(NamedTuple):
    """A group of the cluster, in the broker's words."""

    group_id: str
    group_type: str
    protocol_type: str
    state: str


class MemberDescription(NamedTuple):
    """A member of a group."""

    member_id: str
    instance_id: str | None
    client_id: str
    host: str
    rack_id: str | None
    member_epoch: int | None
    subscription: list[str]
    subscription_pattern: str | None
    assignment: list[TopicPartition]
    target_assignment: list[TopicPartition] | None


class ConsumerGroupDescription(NamedTuple):
    """A group with its members."""

    group_id: str
    group_type: str
    """`classic` or `consumer`."""
    state: str
    protocol_type: str
    assignor: str
    coordinator: int | None
    group_epoch: int | None
    assignment_epoch: int | None
    members: list[MemberDescription]


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
