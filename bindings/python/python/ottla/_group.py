"""What a consumer does in a group, the same for threads and for asyncio: what goes in, what comes out, who is told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from . import _native
from ._types import (
    ConsumerClosed,
    ConsumerEvent,
    ConsumerGroupMetadata,
    OffsetAndMetadata,
    PartitionProgress,
    TopicPartition,
)

if TYPE_CHECKING:
    from ._types import Offset

_C = TypeVar("_C")

Told = Callable[[_C, list[TopicPartition]], Any]
"""Is told of partitions that come or go."""
Heard = Callable[[_C, ConsumerEvent], Any]
"""Is told of everything else."""


class Listeners(Generic[_C]):
    """The application's functions, and the partitions that they know to be the consumer's."""

    def __init__(
        self,
        on_assigned: Told[_C] | None,
        on_revoked: Told[_C] | None,
        on_lost: Told[_C] | None,
        on_event: Heard[_C] | None,
    ) -> None:
        self.on_assigned = on_assigned
        self.on_revoked = on_revoked
        self.on_lost = on_lost
        self.on_event = on_event
        self.told: set[TopicPartition] = set()

    def tell(self, consumer: _C, event: _native._Event) -> Any:
        """Calls who is to be told. What comes back may have to be awaited."""
        name, partitions, error, detail = event
        if name == "assigned":
            self.told.update(partitions)
            return self.on_assigned and self.on_assigned(consumer, partitions)
        if name == "revoked":
            self.told.difference_update(partitions)
            return self.on_revoked and self.on_revoked(consumer, partitions)
        if name == "lost":
            self.told.difference_update(partitions)
            on_lost = self.on_lost or self.on_revoked
            return on_lost and on_lost(consumer, partitions)
        if self.on_event is None:
            return None
        progress = PartitionProgress(**json.loads(detail)) if name == "stalled" and detail else None
        reason = detail if name == "rebalancing" else None
        return self.on_event(consumer, ConsumerEvent(name, partitions, error, reason, progress))

    def let_go(self, consumer: _C) -> Any:
        """Tells that all partitions are given up, because the application itself wants it."""
        partitions = sorted(self.told)
        self.told.clear()
        return self.on_revoked(consumer, partitions) if self.on_revoked and partitions else None


def rows(offsets: Mapping[TopicPartition, Offset]) -> list[_native._Row]:
    """Offsets as the native module takes them."""
    result = []
    for (topic, partition), offset in offsets.items():
        if not isinstance(offset, OffsetAndMetadata):
            offset = OffsetAndMetadata(offset)
        result.append((topic, partition, offset.offset, offset.leader_epoch, offset.metadata))
    return result


What = _native.Batch | _native.ConsumerRecord | Mapping[TopicPartition, "Offset"]
"""Records that are processed, or offsets of the next ones."""


def committing(consumer: _native.Consumer, what: What | None) -> _native.Operation[None]:
    if what is None:
        return _native.group_commit(consumer)
    if isinstance(what, _native.Batch):
        return _native.group_commit_batch(consumer, what)
    if isinstance(what, _native.ConsumerRecord):
        return _native.group_commit_record(consumer, what)
    return _native.group_commit_offsets(consumer, rows(what))


def store(consumer: _native.Consumer, what: What) -> None:
    if isinstance(what, _native.Batch):
        _native.group_store_batch(consumer, what)
    elif isinstance(what, _native.ConsumerRecord):
        _native.group_store_record(consumer, what)
    else:
        _native.group_store_offsets(consumer, rows(what))


def subscribe(consumer: _native.Consumer, topics: Iterable[str], pattern: str | None) -> None:
    topics = [topics] if isinstance(topics, str) else list(topics)
    if pattern is None:
        _native.group_subscribe(consumer, topics)
    elif topics:
        raise ValueError("either `topics` or `pattern`, not both")
    else:
        _native.group_subscribe_pattern(consumer, pattern)


def committed(
    answers: dict[TopicPartition, tuple[int, int | None, str] | None],
) -> dict[TopicPartition, OffsetAndMetadata | None]:
    return {of: None if row is None else offset(row) for of, row in answers.items()}


def offset(row: tuple[int, int | None, str]) -> OffsetAndMetadata:
    number, epoch, metadata = row
    return OffsetAndMetadata(number, metadata, epoch)


def metadata(consumer: _native.Consumer) -> ConsumerGroupMetadata:
    return ConsumerGroupMetadata(*_native.group_group_metadata(consumer))


def progress(consumer: _native.Consumer) -> list[PartitionProgress]:
    return [PartitionProgress(**row) for row in json.loads(_native.group_progress(consumer))]


def health(consumer: _native.Consumer) -> dict[str, Any]:
    known: dict[str, Any] = json.loads(_native.group_health(consumer))
    return known


NOTHING_TO_LEAVE = ConsumerClosed({}, {}, True, None)
"""What closing tells without a group."""
