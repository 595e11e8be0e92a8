"""The clients for asyncio: the same names as in `ottla`, on the event loop itself.

    import asyncio, ottla.aio

    async def main():
        async with ottla.aio.Producer("localhost:9092") as producer:
            written = await producer.send("gpsraw", b"48.1,11.6", key=b"truck-7")
        async with ottla.aio.Consumer("localhost:9092", topics=["gpsraw"], auto_offset_reset="earliest") as consumer:
            async for record in consumer:
                print(record.key, record.value)

No thread pool and nothing to poll: the loop watches one file descriptor for each client. A client belongs to the loop in
which it is first used.
"""

from __future__ import annotations

import asyncio
import builtins
import inspect
import select
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from . import _admin, _config, _group, _native, _process
from ._consumer import found
from ._types import (
    Closed,
    ClusterDescription,
    ConsumerClosed,
    ConsumerGroupDescription,
    ConsumerGroupMetadata,
    CreatedTopic,
    Flushed,
    GroupListing,
    NewTopic,
    OffsetAndMetadata,
    OffsetAndTimestamp,
    PartitionProgress,
    TopicDescription,
    TopicListing,
    TopicPartition,
)
from .errors import ClosedError, KafkaError, TimeoutError

if TYPE_CHECKING:
    from ._types import Bytes, ConfigValue, Headers, Offset

__all__ = ["Admin", "Consumer", "Producer"]

_T = TypeVar("_T")


class _OnLoop:
    """A client's place on its event loop."""

    _bridge: _native.Bridge
    _loop: asyncio.AbstractEventLoop | None = None
    _has_reader = False
    _is_over = False

    def _bind(self) -> None:
        """Called with the first use."""
        self._bridge_to(asyncio.get_running_loop())

    def _bridge_to(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is not None:
            return
        self._bridge.bind(loop)
        self._loop = loop
        try:
            loop.add_reader(self._bridge.fileno(), self._bridge.drain)
            self._has_reader = True
        except NotImplementedError:
            # Loops that watch no file descriptors: a thread does, and the loop is woken by it.
            watch = threading.Thread(target=_watch, args=(self._bridge, loop), name="ottla-loop", daemon=True)
            watch.start()

    def _unbind(self) -> None:
        """The client is closed, and all its futures are resolved."""
        self._is_over = True
        loop = self._loop
        if loop is not None and self._has_reader and not loop.is_closed():
            loop.remove_reader(self._bridge.fileno())
        self._bridge.end()

    async def _await(self, operation: _native.Operation[_T]) -> _T:
        if self._is_over:
            raise ClosedError("the client is closed")
        if self._loop is None:
            self._bind()
        return await self._bridge.future(operation)

    def __del__(self, _warn: Any = warnings.warn) -> None:
        if getattr(self, "closed", True):
            return
        _warn(f"unclosed client {self!r}", ResourceWarning, source=self, stacklevel=2)
        loop = self._loop
        if loop is not None and self._has_reader and not loop.is_closed():
            loop.call_soon_threadsafe(loop.remove_reader, self._bridge.fileno())


def _watch(bridge: _native.Bridge, loop: asyncio.AbstractEventLoop) -> None:
    poll = select.poll()
    poll.register(bridge.fileno(), select.POLLIN)
    turn = threading.Event()

    def drain() -> None:
        try:
            bridge.drain()
        finally:
            turn.set()

    while not bridge.ended:
        if poll.poll(1_000):
            turn.clear()
            try:
                loop.call_soon_threadsafe(drain)
            except RuntimeError:
                return  # the loop is closed
            turn.wait()


async def _within(deadline: float | None, waiting: Coroutine[Any, Any, None]) -> bool:
    """Whether that ended before `deadline`, in the time of the loop."""
    limit = asyncio.timeout_at(deadline)
    try:
        async with limit:
            await waiting
    except builtins.TimeoutError:
        if not limit.expired():
            raise
        return False
    return True


class Producer(_OnLoop, _native.AsyncProducer):
    """Sends records from an event loop. Use it with `async with`, or call `close`.

    `await producer.send(...)` gives where the record was written; `send` itself is no coroutine: the record is on its way when
    it returns, and the future may be gathered, waited for with a timeout, or cancelled. Cancelling does not take a
    record back that was accepted. When the buffer is full, records wait for room in their order, and so does who awaits
    them. `send_nowait` makes no future; failures of its records are raised by `flush` and `close`, or given to `on_error`.

    Configuration as for `ottla.Producer`.
    """

    _counts: Closed | None = None

    def __init__(
        self,
        config: str | Mapping[str, ConfigValue] | None = None,
        /,
        *,
        on_error: Callable[[KafkaError], object] | None = None,
        **keys: ConfigValue,
    ) -> None:
        self._bridge = _native.Bridge()
        self._start(_config.pairs(config, keys), self._bridge, on_error)
        _process.started(self)

    async def send_many(
        self, topic: str, records: Iterable[_native._Sendable]
    ) -> list[_native.RecordMetadata]:
        """Sends values, (key, value) pairs or `ottla.Record`s, and waits until all of them are written; one future for the
        lot. If some failed, raises the error of the first of them."""
        rows = records if isinstance(records, list) else list(records)
        count, future = self._send_lot(topic, rows)
        if count == len(rows):
            return [] if future is None else await future
        lots = [] if future is None else [future]
        while count < len(rows):
            await self.ready()
            rows = rows[count:]
            count, future = self._send_lot(topic, rows)
            if future is not None:
                lots.append(future)
        answers = await asyncio.gather(*lots, return_exceptions=True)
        written: list[_native.RecordMetadata] = []
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
            written.extend(answer)
        return written

    async def ready(self) -> None:
        """Waits until there is room for more records."""
        pumped = self._pumped()
        if pumped is not None:
            await pumped
        await self._await(self._ready())

    async def connected(self) -> None:
        """Waits until the producer has connected: to fail early when it cannot."""
        await self._await(self._connected())

    async def flush(self, timeout: float | None = None) -> Flushed:
        """As `ottla.Producer.flush`."""
        async with asyncio.timeout(timeout):
            while (pumped := self._pumped()) is not None:
                await pumped
        (delivered, failed, unknown, pending), error = await self._await(self._flush(timeout))
        if error is not None:
            raise error
        if pending:
            late = TimeoutError(f"{pending} records are still under way after {timeout} s")
            late.code, late.retriable, late.persisted, late.count = -1004, True, "possibly", pending
            raise late
        return Flushed(delivered, failed, unknown)

    async def close(self, timeout: float = 30.0) -> Closed:
        """As `ottla.Producer.close`."""
        if self._counts is not None:
            return self._counts
        if not self.closed and self._loop is not None:
            try:
                async with asyncio.timeout(timeout):
                    while (pumped := self._pumped()) is not None:
                        await pumped
            except builtins.TimeoutError:
                pass  # they are refused by the closed producer
        (delivered, failed, unknown, _), error = await self._await(self._close(timeout))
        self._pump()
        self._unbind()
        self._counts = Closed(delivered, failed, unknown)
        if error is not None:
            raise error
        return self._counts

    async def __aenter__(self) -> Self:
        self._bind()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.close()
        except KafkaError as other:
            if error is None:
                raise
            _process.unraised(other)


class Consumer(_OnLoop, _native.Consumer):
    """Receives records on an event loop; see `ottla.Consumer`. Use it with `async with`, or call `close`.

    `async for record in consumer`, or `async for batch in consumer.batches()`. A wait that is cancelled loses no record. The
    functions that are told of a group may be coroutine functions; they run on the loop, within the application's own calls.
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
        self._bridge = _native.Bridge()
        assign = list(assign)
        if assign and self._topics:
            raise ValueError("either `assign` or `topics`, not both")
        self._start(_config.pairs(config, keys), assign, self._bridge)
        _process.started(self)

    async def _ready(self) -> None:
        if not self._is_ready:
            await self._await(self._connected())
            if self._pattern is not None or (self._topics and _native.group_in_group(self)):
                _group.subscribe(self, self._topics, self._pattern)
            elif self._topics:
                await self._await(self._assign_topics(self._topics))
            self._is_ready = True

    async def _handle(self, event: _native._Event) -> None:
        try:
            told = self._listeners.tell(self, event)
            if inspect.isawaitable(told):
                await told
        finally:
            if event[0] == "revoked" and not self.closed:
                _native.group_acknowledge(self)

    async def _something(self) -> None:
        """Waits until there may be something. Who is cancelled does not count as waiting any more."""
        arrival = self._arrival()
        try:
            await arrival
        except asyncio.CancelledError:
            self._forsake(arrival)
            raise

    async def connected(self) -> None:
        """Waits until the consumer has connected and knows its partitions."""
        await self._ready()

    def __aiter__(self) -> Self:
        return self

    __anext__ = _native.Consumer._anext

    async def _anext_slowly(self) -> _native.ConsumerRecord:
        await self._ready()
        self._bridge.check()
        while True:
            record = self._next_nowait()
            if record is None:
                await self._something()
            elif isinstance(record, tuple):
                await self._handle(record)
            else:
                return record

    async def poll(self, timeout: float | None = None, max_records: int | None = None) -> _native.Batch:
        """As `ottla.Consumer.poll`."""
        deadline = None if timeout is None else asyncio.get_running_loop().time() + timeout
        if not self._is_ready and not await _within(deadline, self._ready()):
            return _native.Batch()
        self._bridge.check()
        while True:
            batch = self._poll_nowait(max_records)
            if batch is None:
                return _native.Batch()
            if isinstance(batch, tuple):
                # However late it is: a callback that commits what is given up must come to its end.
                await self._handle(batch)
            elif len(batch) > 0 or not await _within(deadline, self._something()):
                return batch

    async def batches(
        self, max_records: int | None = None, timeout: float | None = None
    ) -> AsyncIterator[_native.Batch]:
        """As `ottla.Consumer.batches`."""
        while not self.closed:
            batch = await self.poll(timeout, max_records)
            if len(batch) > 0 or not self.closed:
                yield batch

    async def subscribe(self, topics: Iterable[str] = (), *, pattern: str | None = None) -> None:
        """As `ottla.Consumer.subscribe`."""
        self._topics, self._pattern = [], None
        await self._ready()
        _group.subscribe(self, topics, pattern)

    async def unsubscribe(self) -> None:
        """Commits what is processed, lets go of all partitions and leaves the group."""
        await self._ready()
        told = self._listeners.let_go(self)
        if inspect.isawaitable(told):
            await told
        await self._await(_native.group_unsubscribe(self))

    async def subscription(self) -> list[str]:
        """The topics subscribed to, in order."""
        await self._ready()
        return _native.group_subscription(self)

    async def commit(self, what: _group.What | None = None) -> None:
        """As `ottla.Consumer.commit`."""
        await self._ready()
        await self._await(_group.committing(self, what))

    async def commit_async(self) -> None:
        """Begins to commit as `commit()`, and does not wait for it. `on_event` hears of a failure."""
        await self._ready()
        _native.group_commit_in_background(self)

    async def store_offsets(self, what: _group.What) -> None:
        """As `ottla.Consumer.store_offsets`."""
        await self._ready()
        _group.store(self, what)

    async def committed(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, OffsetAndMetadata | None]:
        """The committed offset of each partition, asked of the group's coordinator; None for none."""
        await self._ready()
        return _group.committed(await self._await(_native.group_committed(self, list(partitions))))

    async def group_metadata(self) -> ConsumerGroupMetadata:
        """Who this consumer is in its group."""
        await self._ready()
        return _group.metadata(self)

    async def enforce_rebalance(self, reason: str = "") -> None:
        """Has the group divide its partitions anew, for a reason that only the application knows. Does not wait for it."""
        await self._ready()
        _native.group_enforce_rebalance(self, reason)

    async def extend_poll(self, seconds: float) -> None:
        """As `ottla.Consumer.extend_poll`."""
        await self._ready()
        _native.group_extend_poll(self, seconds)

    async def progress(self) -> list[PartitionProgress]:
        """How far each partition is, and why it does not move."""
        await self._ready()
        return _group.progress(self)

    async def health(self) -> dict[str, Any]:
        """How the consumer is: its place in the group, its partitions, its memory."""
        await self._ready()
        return _group.health(self)

    async def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """Reads exactly these partitions from now on."""
        self._topics, self._pattern = [], None
        await self._ready()
        self._assign(list(partitions))

    async def assignment(self) -> list[TopicPartition]:
        """The partitions that it reads, in order."""
        await self._ready()
        return self._assignment()

    async def seek(self, partition: TopicPartition, offset: int) -> None:
        """Goes on at `offset`."""
        await self._ready()
        self._seek(partition, offset)

    async def seek_to_beginning(self, *partitions: TopicPartition) -> None:
        """Goes on at the first record that is still there, in these partitions or in all."""
        for partition in partitions or await self.assignment():
            self._seek_to_beginning(partition)

    async def seek_to_end(self, *partitions: TopicPartition) -> None:
        """Goes on after the last record, in these partitions or in all."""
        for partition in partitions or await self.assignment():
            self._seek_to_end(partition)

    async def seek_to_timestamp(self, partition: TopicPartition, timestamp: int) -> None:
        """Goes on at the first record whose timestamp (milliseconds since 1970) is at least `timestamp`."""
        await self._ready()
        self._seek_to_timestamp(partition, timestamp)

    async def pause(self, *partitions: TopicPartition) -> None:
        """Hands out nothing of these partitions until `resume`."""
        await self._ready()
        self._pause(partitions)

    async def resume(self, *partitions: TopicPartition) -> None:
        """Goes on with paused partitions."""
        await self._ready()
        self._resume(partitions)

    async def paused(self) -> list[TopicPartition]:
        """The paused partitions, in order."""
        await self._ready()
        return self._paused()

    async def lag(self, partition: TopicPartition) -> int | None:
        """How many records are ahead of the position, as of the last fetch; None before it."""
        await self._ready()
        return self._lag(partition)

    async def position(self, partition: TopicPartition) -> int:
        """The offset of the next record that is handed out; waits while it is looked up."""
        await self._ready()
        return await self._await(self._position(partition))

    async def beginning_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The first offset of each partition that is still there."""
        await self._ready()
        return await self._await(self._beginning_offsets(list(partitions)))

    async def end_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset after the last record of each partition."""
        await self._ready()
        return await self._await(self._end_offsets(list(partitions)))

    async def offsets_for_times(
        self, timestamps: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, OffsetAndTimestamp | None]:
        """For each partition the first record whose timestamp (milliseconds since 1970) is at least the given one."""
        await self._ready()
        return found(await self._await(self._offsets_for_times(list(timestamps.items()))))

    async def partitions_for(self, topic: str) -> list[TopicPartition]:
        """The partitions of a topic."""
        await self._ready()
        return await self._await(self._partitions_for(topic))

    async def close(self, timeout: float = 10.0) -> ConsumerClosed:
        """As `ottla.Consumer.close`."""
        told: tuple[Any, ...] = _group.NOTHING_TO_LEAVE
        try:
            if not self.closed and _native.group_in_group(self) and self._is_ready:
                try:
                    letting_go = self._listeners.let_go(self)
                    if inspect.isawaitable(letting_go):
                        await letting_go
                finally:
                    told = await self._await(_native.group_finish(self, timeout))
        finally:
            self._close()
            self._bridge.drain()
            self._unbind()
        return ConsumerClosed(*told)

    async def __aenter__(self) -> Self:
        self._bind()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class Admin(_OnLoop, _native.Admin):
    """Looks after topics; see `ottla.Admin`."""

    def __init__(self, config: str | Mapping[str, ConfigValue] | None = None, /, **keys: ConfigValue) -> None:
        self._bridge = _native.Bridge()
        self._start(_config.pairs(config, keys))
        _process.started(self)

    async def connected(self) -> None:
        """Waits until it has connected, or raises why it could not. The first call does the same."""
        await self._await(self._connected())

    async def create_topics(
        self, topics: Iterable[NewTopic | str], *, validate_only: bool = False
    ) -> dict[str, CreatedTopic | KafkaError]:
        """Creates topics, or only says whether they could be created."""
        return _admin.created(await self._await(self._create_topics(_admin.wishes(topics), validate_only)))

    async def delete_topics(self, names: Iterable[str]) -> dict[str, KafkaError | None]:
        """Deletes topics with everything in them."""
        return await self._await(self._delete_topics(list(names)))

    async def create_partitions(self, totals: Mapping[str, int]) -> dict[str, KafkaError | None]:
        """Gives topics more partitions: so many in total."""
        return await self._await(self._create_partitions(list(totals.items())))

    async def list_topics(self) -> list[TopicListing]:
        """All topics."""
        return [TopicListing(*row) for row in await self._await(self._list_topics())]

    async def describe_topics(self, names: Iterable[str]) -> dict[str, TopicDescription | KafkaError]:
        """Partitions, leaders and replicas of topics."""
        return _admin.described(await self._await(self._describe_topics(list(names))))

    async def describe_cluster(self) -> ClusterDescription:
        """The cluster's id and brokers."""
        return _admin.cluster(await self._await(self._describe_cluster()))

    async def list_groups(self, states: Iterable[str] = (), types: Iterable[str] = ()) -> list[GroupListing]:
        """All groups, or those in some states or of some types."""
        return _admin.groups(await self._await(self._list_groups(list(states), list(types))))

    async def describe_consumer_groups(
        self, groups: Iterable[str]
    ) -> dict[str, ConsumerGroupDescription | KafkaError]:
        """States, members and assignments of groups."""
        return _admin.described_groups(await self._await(self._describe_consumer_groups(list(groups))))

    async def list_consumer_group_offsets(
        self, group: str, *, require_stable: bool = False
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        """All committed offsets of a group."""
        return _admin.group_offsets(await self._await(self._list_consumer_group_offsets(group, require_stable)))

    async def alter_consumer_group_offsets(
        self, group: str, offsets: Mapping[TopicPartition, Offset]
    ) -> dict[TopicPartition, KafkaError | None]:
        """Commits offsets on behalf of a group that has no members."""
        return await self._await(self._alter_consumer_group_offsets(group, _group.rows(offsets)))

    async def delete_consumer_group_offsets(
        self, group: str, partitions: Iterable[TopicPartition]
    ) -> dict[TopicPartition, KafkaError | None]:
        """Forgets committed offsets, of topics that no member of the group is subscribed to."""
        return await self._await(self._delete_consumer_group_offsets(group, list(partitions)))

    async def delete_consumer_groups(self, groups: Iterable[str]) -> dict[str, KafkaError | None]:
        """Deletes groups without members, with all their committed offsets."""
        return await self._await(self._delete_consumer_groups(list(groups)))

    async def close(self) -> None:
        """Closes the connections as soon as open calls have ended."""
        self._close()
        self._unbind()

    async def __aenter__(self) -> Self:
        self._bind()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
