"""The consumer for threads."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from . import _config, _group, _native, _process
from ._types import (
    ConsumerClosed,
    ConsumerGroupMetadata,
    OffsetAndMetadata,
    OffsetAndTimestamp,
    PartitionProgress,
    TopicPartition,
)
from .errors import KafkaError

if TYPE_CHECKING:
    from ._types import ConfigValue


def found(
    offsets: dict[TopicPartition, tuple[int, int | None, int | None] | None],
) -> dict[TopicPartition, OffsetAndTimestamp | None]:
    """The answers of `offsets_for_times` as its caller has them."""
    return {of: None if listed is None else OffsetAndTimestamp(*listed) for of, listed in offsets.items()}


class Consumer(_native.Consumer):
    """Receives the records of partitions: as a member of a group (`group`, `topics` or `pattern`), of those that are given
    (`assign`), or of all those of some topics (`topics` without a group).

    Iterate over it for single records, over `batches()` for many at a time: `for record in consumer`. The client fetches
    ahead; a position moves only when records are handed out. Where there is no position, `auto_offset_reset` says where to
    begin (`latest` is the default, as in Kafka). Iterating ends when the consumer is closed, and raises what befell a
    partition, once; iterating again goes on.

    In a group a record is processed when the next one is asked for: a loop whose body raises does not count its record. What
    is processed is committed by itself (`enable_auto_commit`, the default), before partitions go to another member, and by
    `close`. `on_assigned(consumer, partitions)`, `on_revoked` and `on_lost` (by default `on_revoked`) are called within the
    application's own calls, never elsewhere; partitions go to others when `on_revoked` has returned, or the consumer is
    closed meanwhile. `on_event(consumer, event)` hears of the rest. That the membership was lost is a `FencedError` of one
    call as well.

    Calls may come from several threads; `close` wakes whoever waits.
    """

    def __init__(
        self,
        config: str | Mapping[str, ConfigValue] | None = None,
        /,
        *,
        assign: Iterable[TopicPartition] = (),
        topics: Iterable[str] = (),
        pattern: str | None = None,
        on_assigned: _group.Told[Consumer] | None = None,
        on_revoked: _group.Told[Consumer] | None = None,
        on_lost: _group.Told[Consumer] | None = None,
        on_event: _group.Heard[Consumer] | None = None,
        **keys: ConfigValue,
    ) -> None:
        self._topics = [topics] if isinstance(topics, str) else list(topics)
        self._pattern = pattern
        self._listeners = _group.Listeners(on_assigned, on_revoked, on_lost, on_event)
        self._is_ready = False
        assign = list(assign)
        if assign and self._topics:
            raise ValueError("either `assign` or `topics`, not both")
        self._start(_config.pairs(config, keys), assign)
        _process.started(self)

    def _ready(self) -> None:
        if not self._is_ready:
            self._connected().wait()
            if self._pattern is not None or (self._topics and _native.group_in_group(self)):
                _group.subscribe(self, self._topics, self._pattern)
            elif self._topics:
                self._assign_topics(self._topics).wait()
            self._is_ready = True

    def _handle(self, event: _native._Event) -> None:
        try:
            self._listeners.tell(self, event)
        finally:
            if event[0] == "revoked" and not self.closed:
                _native.group_acknowledge(self)

    def connected(self) -> None:
        """Waits until the consumer has connected and knows its partitions."""
        self._ready()

    def __iter__(self) -> Self:
        return self

    __next__ = _native.Consumer._next

    def poll(self, timeout: float | None = None, max_records: int | None = None) -> _native.Batch:
        """What has arrived, at most `max_records` (default: `max.poll.records`). Waits until there is something, at most
        `timeout` seconds; an empty batch after that, or once the consumer is closed."""
        end = None if timeout is None else time.monotonic() + timeout
        self._ready()
        while True:
            batch = self._poll_nowait(max_records)
            if batch is None:
                return _native.Batch()
            if isinstance(batch, tuple):
                self._handle(batch)
                continue
            if len(batch) > 0:
                return batch
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                return batch
            try:
                self._arrived().wait(left)
            except TimeoutError:
                return batch

    def batches(self, max_records: int | None = None, timeout: float | None = None) -> Iterator[_native.Batch]:
        """Batches as they arrive, of at most `max_records`. After `timeout` seconds without records an empty one, so that
        the loop has its turn. Ends when the consumer is closed."""
        while not self.closed:
            batch = self.poll(timeout, max_records)
            if len(batch) > 0 or not self.closed:
                yield batch

    def subscribe(self, topics: Iterable[str] = (), *, pattern: str | None = None) -> None:
        """Reads these topics as a member of the group instead of those before, or all whose whole name matches `pattern`.
        Partitions come with a later call that asks for records."""
        self._topics, self._pattern = [], None
        self._ready()
        _group.subscribe(self, topics, pattern)

    def unsubscribe(self, timeout: float | None = None) -> None:
        """Commits what is processed, lets go of all partitions and leaves the group."""
        self._ready()
        self._listeners.let_go(self)
        _native.group_unsubscribe(self).wait(timeout)

    def subscription(self) -> list[str]:
        """The topics subscribed to, in order."""
        self._ready()
        return _native.group_subscription(self)

    def commit(self, what: _group.What | None = None, timeout: float | None = None) -> None:
        """Commits all records that were handed out; with `enable_auto_offset_store=False` what was stored. Or the offsets
        after a batch or a record, or those of a mapping. Raises `FencedError` when the group went on without this consumer:
        nothing is overwritten then."""
        self._ready()
        _group.committing(self, what).wait(timeout)

    def commit_async(self) -> None:
        """Begins to commit as `commit()`, and does not wait. `on_event` hears of a failure."""
        self._ready()
        _native.group_commit_in_background(self)

    def store_offsets(self, what: _group.What) -> None:
        """Says that records, or what lies before the offsets of a mapping, are processed: the next commit takes them. For
        `enable_auto_offset_store=False`."""
        self._ready()
        _group.store(self, what)

    def committed(
        self, partitions: Iterable[TopicPartition], timeout: float | None = None
    ) -> dict[TopicPartition, OffsetAndMetadata | None]:
        """The committed offset of each partition, asked of the group's coordinator; None for none."""
        self._ready()
        return _group.committed(_native.group_committed(self, list(partitions)).wait(timeout))

    def group_metadata(self) -> ConsumerGroupMetadata:
        """Who this consumer is in its group."""
        self._ready()
        return _group.metadata(self)

    def enforce_rebalance(self, reason: str = "") -> None:
        """Has the group divide its partitions anew, for a reason that only the application knows. Does not wait."""
        self._ready()
        _native.group_enforce_rebalance(self, reason)

    def extend_poll(self, seconds: float) -> None:
        """Says that processing goes on and records will be asked for within so many seconds, whatever
        `max.poll.interval.ms` is."""
        self._ready()
        _native.group_extend_poll(self, seconds)

    def progress(self) -> list[PartitionProgress]:
        """How far each partition is, and why it does not move."""
        self._ready()
        return _group.progress(self)

    def health(self) -> dict[str, Any]:
        """How the consumer is: its place in the group, its partitions, its memory."""
        self._ready()
        return _group.health(self)

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """Reads exactly these partitions from now on."""
        self._topics, self._pattern = [], None
        self._ready()
        self._assign(list(partitions))

    def assignment(self) -> list[TopicPartition]:
        """The partitions that it reads, in order."""
        self._ready()
        return self._assignment()

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Goes on at `offset`."""
        self._ready()
        self._seek(partition, offset)

    def seek_to_beginning(self, *partitions: TopicPartition) -> None:
        """Goes on at the first record that is still there, in these partitions or in all."""
        for partition in partitions or self.assignment():
            self._seek_to_beginning(partition)

    def seek_to_end(self, *partitions: TopicPartition) -> None:
        """Goes on after the last record, in these partitions or in all."""
        for partition in partitions or self.assignment():
            self._seek_to_end(partition)

    def seek_to_timestamp(self, partition: TopicPartition, timestamp: int) -> None:
        """Goes on at the first record whose timestamp (milliseconds since 1970) is at least `timestamp`."""
        self._ready()
        self._seek_to_timestamp(partition, timestamp)

    def pause(self, *partitions: TopicPartition) -> None:
        """Hands out nothing of these partitions until `resume`."""
        self._ready()
        self._pause(partitions)

    def resume(self, *partitions: TopicPartition) -> None:
        """Goes on with paused partitions."""
        self._ready()
        self._resume(partitions)

    def paused(self) -> list[TopicPartition]:
        """The paused partitions, in order."""
        self._ready()
        return self._paused()

    def lag(self, partition: TopicPartition) -> int | None:
        """How many records are ahead of the position, as of the last fetch; None before it."""
        self._ready()
        return self._lag(partition)

    def position(self, partition: TopicPartition, timeout: float | None = None) -> int:
        """The offset of the next record that is handed out; waits while it is looked up."""
        self._ready()
        return self._position(partition).wait(timeout)

    def beginning_offsets(
        self, partitions: Iterable[TopicPartition], timeout: float | None = None
    ) -> dict[TopicPartition, int]:
        """The first offset of each partition that is still there."""
        self._ready()
        return self._beginning_offsets(list(partitions)).wait(timeout)

    def end_offsets(
        self, partitions: Iterable[TopicPartition], timeout: float | None = None
    ) -> dict[TopicPartition, int]:
        """The offset after the last record of each partition."""
        self._ready()
        return self._end_offsets(list(partitions)).wait(timeout)

    def offsets_for_times(
        self, timestamps: Mapping[TopicPartition, int], timeout: float | None = None
    ) -> dict[TopicPartition, OffsetAndTimestamp | None]:
        """For each partition the first record whose timestamp (milliseconds since 1970) is at least the given one."""
        self._ready()
        return found(self._offsets_for_times(list(timestamps.items())).wait(timeout))

    def partitions_for(self, topic: str, timeout: float | None = None) -> list[TopicPartition]:
        """The partitions of a topic."""
        self._ready()
        return self._partitions_for(topic).wait(timeout)

    def close(self, timeout: float = 10.0) -> ConsumerClosed:
        """Ends it, and wakes whoever waits in it. May be called again. Records that were handed out stay valid.

        In a group it calls `on_revoked`, commits what is processed and leaves, within `timeout` seconds, and tells what it
        did. The record that was handed out last is not processed: a last `commit()` says that it is."""
        if self.closed or not _native.group_in_group(self):
            self._close()
            return _group.NOTHING_TO_LEAVE
        try:
            self._listeners.let_go(self)
        finally:
            told = _native.group_finish(self, timeout).wait()
        return ConsumerClosed(*told)

    def _stop_waiting(self) -> None:
        try:
            self._close()
        except KafkaError:
            pass  # a fork's

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self, _warn: Any = warnings.warn) -> None:
        if not self.closed:
            _warn(f"unclosed consumer {self!r}", ResourceWarning, source=self, stacklevel=2)
