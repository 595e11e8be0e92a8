"""The consumer for threads."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from . import _config, _native, _process
from ._types import OffsetAndTimestamp, TopicPartition
from .errors import KafkaError

if TYPE_CHECKING:
    from ._types import ConfigValue


def found(
    offsets: dict[TopicPartition, tuple[int, int | None, int | None] | None],
) -> dict[TopicPartition, OffsetAndTimestamp | None]:
    """The answers of `offsets_for_times` as its caller has them."""
    return {of: None if listed is None else OffsetAndTimestamp(*listed) for of, listed in offsets.items()}


class Consumer(_native.Consumer):
    """Receives the records of partitions, which are given (`assign`) or all those of some topics (`topics`).

    Iterate over it for single records, over `batches()` for many at a time: `for record in consumer`. The client fetches
    ahead; a position moves only when records are handed out. Where there is no position, `auto_offset_reset` says where to
    begin (`latest` is the default, as in Kafka). Iterating ends when the consumer is closed, and raises what befell a
    partition, once; iterating again goes on.

    Calls may come from several threads; `close` wakes whoever waits.
    """

    def __init__(
        self,
        config: str | Mapping[str, ConfigValue] | None = None,
        /,
        *,
        assign: Iterable[TopicPartition] = (),
        topics: Iterable[str] = (),
        **keys: ConfigValue,
    ) -> None:
        self._topics = [topics] if isinstance(topics, str) else list(topics)
        self._is_ready = False
        assign = list(assign)
        if assign and self._topics:
            raise ValueError("either `assign` or `topics`, not both")
        self._start(_config.pairs(config, keys), assign)
        _process.started(self)

    def _ready(self) -> None:
        if not self._is_ready:
            self._connected().wait()
            if self._topics:
                self._assign_topics(self._topics).wait()
            self._is_ready = True

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

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """Reads exactly these partitions from now on."""
        self._topics = []
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

    def close(self) -> None:
        """Ends it, and wakes whoever waits in it. May be called again. Records that were handed out stay valid."""
        self._close()

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
