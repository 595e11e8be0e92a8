"""Groups, for threads and on an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

import ottla
import ottla.aio
from ottla import TopicPartition
from ottla.testing import Cluster

_numbers = itertools.count()


@pytest.fixture
def group() -> str:
    return f"g{os.getpid()}-{next(_numbers)}"


@pytest.fixture
def filled(servers: str, new_topic: Callable[..., str]) -> str:
    """A topic of four partitions with ten records each, named by their partition and number."""
    topic = new_topic(4)
    with ottla.Producer(servers) as producer:
        for partition in range(4):
            producer.send_many(topic, [ottla.Record(f"{partition}/{i}", partition=partition) for i in range(10)])
    return topic


def member(servers: str, group: str, topic: str, **keys: Any) -> ottla.Consumer:
    defaults: dict[str, Any] = {"auto_offset_reset": "earliest", "heartbeat_interval_ms": 50, "session_timeout_ms": 6000}
    return ottla.Consumer(servers, group=group, topics=[topic], **(defaults | keys))


def records(consumer: ottla.Consumer, count: int) -> list[ottla.ConsumerRecord]:
    return list(itertools.islice(consumer, count))


def committed(servers: str, group: str) -> dict[TopicPartition, int]:
    with ottla.Admin(servers) as admin:
        return {of: known.offset for of, known in admin.list_consumer_group_offsets(group).items()}


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, 120))


def test_a_restarted_consumer_goes_on_where_it_committed(servers: str, group: str, filled: str) -> None:
    with member(servers, group, filled, enable_auto_commit=False) as consumer:
        first = records(consumer, 15)
        assert consumer.subscription() == [filled]
        assert len(consumer.assignment()) == 4
        consumer.commit()
        known = consumer.committed(consumer.assignment())
        assert sum(0 if of is None else of.offset for of in known.values()) == 15
    with member(servers, group, filled) as consumer:
        second = records(consumer, 25)
    assert len({record.value for record in first + second}) == 40


def test_a_commit_that_nobody_waits_for_and_a_partition_that_stands_still_are_told(
    cluster: Cluster, servers: str, group: str, filled: str, new_topic: Callable[..., str]
) -> None:
    events: list[ottla.ConsumerEvent] = []
    keys = {"enable_auto_commit": False, "stalled_partition_timeout_ms": 200}
    with member(servers, group, filled, on_event=lambda _, event: events.append(event), **keys) as consumer:

        def told(kind: str, of: str | None = None) -> ottla.ConsumerEvent:
            def wanted(event: ottla.ConsumerEvent) -> bool:
                # One that stands still before its position is known is told as well.
                known = event.progress is None or event.progress.position is not None
                return event.kind == kind and known and (of is None or event.partitions == [(of, 0)])

            while not (found := [event for event in events if wanted(event)]):
                consumer.poll(0.05)
            return found[0]

        records(consumer, 1)
        cluster.fault("api=OffsetCommit error_before=30 times=1")
        consumer.commit_async()
        failed = told("commit_failed")
        assert isinstance(failed.error, ottla.AuthorizationError) and failed.error.code == 30
        consumer.commit()
        # Where a fetch fails again and again nothing moves.
        topic = new_topic(1)
        with ottla.Producer(servers) as producer:
            producer.send(topic, b"v")
        cluster.fault("api=Fetch error_before=6")
        consumer.subscribe([topic])
        try:
            stalled = told("stalled", topic)
        finally:
            cluster.clear_faults()
        assert stalled.partitions == [(topic, 0)]
        assert stalled.progress is not None and stalled.progress.position == 0


def test_a_body_that_raises_does_not_count_its_record(servers: str, group: str, filled: str) -> None:
    with pytest.raises(ZeroDivisionError):
        with member(servers, group, filled) as consumer:
            for number, _ in enumerate(consumer):
                if number == 6:
                    1 / 0  # the seventh
    assert sum(committed(servers, group).values()) == 6


def test_closing_tells_what_it_committed_and_what_not(servers: str, group: str, filled: str) -> None:
    consumer = member(servers, group, filled)
    records(consumer, 5)
    told = consumer.close()
    assert told.finished and told.error is None
    assert sum(told.committed.values()) == 4
    assert len(told.unprocessed) == 1
    assert consumer.close() == ({}, {}, True, None)
    assert sum(committed(servers, group).values()) == 4


def test_a_batch_is_processed_when_the_next_one_is_asked_for(servers: str, group: str, filled: str) -> None:
    with member(servers, group, filled) as consumer:
        handed = len(consumer.poll(max_records=3))
        last = consumer.poll(max_records=2)
        assert len(last) > 0
    assert sum(committed(servers, group).values()) == handed


def test_offsets_of_records_batches_and_mappings_are_committed(servers: str, group: str, filled: str) -> None:
    with member(servers, group, filled, enable_auto_commit=False) as consumer:
        batch = consumer.poll(max_records=8)
        record = batch[1]
        of = (record.topic, record.partition)
        consumer.commit(record)
        assert consumer.committed([of]) == {of: ottla.OffsetAndMetadata(record.offset + 1, "", record.leader_epoch)}
        consumer.commit(batch[:3])
        consumer.commit(batch)
        assert committed(servers, group) == batch.next_offsets()
        consumer.commit({of: ottla.OffsetAndMetadata(2, "by hand"), (filled, 3): 7})
        known = consumer.committed([of, (filled, 3)])
        assert known[of] == ottla.OffsetAndMetadata(2, "by hand")
        with pytest.raises(ottla.ArgumentError):
            consumer.commit({of: -1})


def test_with_stored_offsets_only_those_are_committed(servers: str, group: str, filled: str) -> None:
    with member(servers, group, filled, enable_auto_offset_store=False) as consumer:
        batch = consumer.poll(max_records=5)
        consumer.poll(max_records=5)
        consumer.commit()
        assert committed(servers, group) == {}
        consumer.store_offsets(batch[0])
        consumer.commit()
        assert sum(committed(servers, group).values()) == 1
        consumer.store_offsets({(filled, 0): 4})
    assert committed(servers, group)[(filled, 0)] == 4


def test_two_members_share_and_one_takes_over_when_the_other_closes(servers: str, group: str, filled: str) -> None:
    told: list[tuple[str, str, list[TopicPartition]]] = []

    def listening(name: str) -> dict[str, Any]:
        return {
            "on_assigned": lambda _, partitions: told.append((name, "assigned", partitions)),
            "on_revoked": lambda _, partitions: told.append((name, "revoked", partitions)),
        }

    one = member(servers, group, filled, **listening("one"))
    records(one, 1)
    assert len(one.assignment()) == 4
    two = member(servers, group, filled, **listening("two"))
    while not (len(one.assignment()) == len(two.assignment()) == 2):
        one.poll(timeout=0.05)
        two.poll(timeout=0.05)
    two.poll(timeout=0)  # what is assigned is told by a poll
    assert set(one.assignment()).isdisjoint(two.assignment())
    assert two.close().finished
    while len(one.assignment()) < 4:
        one.poll(timeout=0.05)
    one.poll(timeout=0)
    one.close()
    assert told[0][:2] == ("one", "assigned") and len(told[0][2]) == 4
    assert ("one", "revoked") in [entry[:2] for entry in told]
    assert told[-1][:2] == ("one", "revoked") and len(told[-1][2]) == 4
    assert [len(of) for name, kind, of in told if name == "two" and of] == [2, 2]


def test_offsets_committed_while_partitions_are_revoked_are_those_of_the_next_owner(
    servers: str, group: str, filled: str
) -> None:
    own: dict[TopicPartition, int] = {}

    def on_revoked(consumer: ottla.Consumer, partitions: list[TopicPartition]) -> None:
        own.update({of: 3 for of in partitions})
        consumer.commit({of: ottla.OffsetAndMetadata(3, "mine") for of in partitions})

    keys = {"enable_auto_commit": False, "partition_assignment_strategy": "cooperative-sticky"}
    with member(servers, group, filled, on_revoked=on_revoked, **keys) as one:
        records(one, 40)
        with member(servers, group, filled, **keys) as two:
            first: list[ottla.ConsumerRecord] = []
            while len(first) < 2:
                one.poll(timeout=0.05)
                first += two.poll(timeout=0.05)
            assert own
            assert {(record.topic, record.partition) for record in first} <= set(own)
            assert min(record.offset for record in first) == 3


def test_an_exception_of_a_callback_is_that_of_the_poll_and_the_rebalance_goes_on(
    servers: str, group: str, filled: str
) -> None:
    def on_revoked(_: ottla.Consumer, partitions: list[TopicPartition]) -> None:
        raise LookupError("mine")

    one = member(servers, group, filled, on_revoked=on_revoked)
    records(one, 1)
    with member(servers, group, filled) as two:
        with pytest.raises(LookupError, match="mine"):
            while True:
                one.poll(timeout=0.05)
                two.poll(timeout=0.05)
        while len(two.assignment()) != 2:
            one.poll(timeout=0.05)
            two.poll(timeout=0.05)
    # Closing tells of what it gives up, which is nothing in the middle of a rebalance.
    while len(one.assignment()) != 4:
        with contextlib.suppress(LookupError):
            one.poll(timeout=0.05)
    one.poll(timeout=0)  # what is assigned is told by a poll, and what was not told is not given up
    with pytest.raises(LookupError):
        one.close()
    assert one.closed


def test_a_member_that_stays_away_loses_its_partitions_and_is_told_once(
    servers: str, group: str, filled: str
) -> None:
    lost: list[list[TopicPartition]] = []
    keys = {"max_poll_interval_ms": 3000, "session_timeout_ms": 6000}
    with member(servers, group, filled, on_lost=lambda _, of: lost.append(of), **keys) as consumer:
        records(consumer, 1)
        with ottla.Admin(servers) as admin:
            while True:
                known = admin.describe_consumer_groups([group])[group]
                assert isinstance(known, ottla.ConsumerGroupDescription)
                if known.state == "Empty":
                    break
        with pytest.raises(ottla.FencedError):
            while True:
                consumer.poll(timeout=0.05)
        assert [len(of) for of in lost] == [4]
        while not consumer.assignment():
            with contextlib.suppress(ottla.FencedError):
                consumer.poll(timeout=0.05)


def test_ctrl_c_ends_a_poll_in_the_middle_of_a_rebalance(servers: str, group: str, filled: str) -> None:
    with member(servers, group, filled) as one:
        records(one, 1)
        # Nobody polls for the first member, so the second one waits to be let in.
        with member(servers, group, filled) as two:
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
            with pytest.raises(KeyboardInterrupt):
                two.poll()
            while not two.assignment():
                one.poll(timeout=0.05)
                two.poll(timeout=0.05)


def test_closing_returns_by_its_deadline(servers: str, group: str, filled: str) -> None:
    with Cluster() as own:
        with ottla.Admin(own.bootstrap_servers) as admin:
            admin.create_topics(["t"])
        with ottla.Producer(own.bootstrap_servers) as producer:
            producer.send_many("t", [b"1", b"2"])
        consumer = member(own.bootstrap_servers, group, "t")
        records(consumer, 2)
        # What comes after it on the connection is held too; an answer that is left out would be noticed.
        own.fault("api=OffsetCommit delay_response=60000ms")
        told = consumer.close(timeout=0.3)
        assert not told.finished
        own.clear_faults()


def test_a_consumer_says_how_it_is(servers: str, group: str, filled: str) -> None:
    with member(servers, group, filled, group_instance_id="me") as consumer:
        records(consumer, 3)
        progress = consumer.progress()
        assert [(of.topic, of.partition) for of in progress] == [(filled, number) for number in range(4)]
        health = consumer.health()
        assert health["group"]["phase"] == "stable" and health["group"]["group_id"] == group
        known = consumer.group_metadata()
        assert (known.group_id, known.group_instance_id) == (group, "me") and known.generation_id >= 0
        consumer.extend_poll(60)
        assert consumer.health()["group"]["time_to_poll_ms"] is not None
        before = known.generation_id
        consumer.enforce_rebalance("a test")
        while consumer.group_metadata().generation_id <= before:
            consumer.poll(timeout=0.05)
        consumer.unsubscribe()
        assert consumer.assignment() == [] and consumer.subscription() == []
        consumer.subscribe(pattern=f"{filled}|other")
        while not consumer.assignment():
            consumer.poll(timeout=0.05)


def test_partitions_assigned_by_hand_have_committed_offsets_too(servers: str, group: str, filled: str) -> None:
    with ottla.Consumer(servers, group=group, assign=[(filled, 2)], auto_offset_reset="earliest") as consumer:
        assert [record.value for record in records(consumer, 4)] == [b"2/0", b"2/1", b"2/2", b"2/3"]
        consumer.commit()
    with ottla.Consumer(servers, group=group, assign=[(filled, 2)], auto_offset_reset="earliest") as consumer:
        assert next(consumer).value == b"2/4"


def test_seeking_leaves_what_was_in_hand_uncommitted(servers: str, group: str, filled: str) -> None:
    with ottla.Consumer(servers, group=group, assign=[(filled, 2)], auto_offset_reset="earliest") as consumer:
        records(consumer, 6)
        consumer.seek((filled, 2), 0)
        assert next(consumer).offset == 0
    assert committed(servers, group).get((filled, 2), 0) == 0


def test_pausing_in_the_middle_of_a_batch_keeps_what_is_processed(servers: str, group: str, filled: str) -> None:
    with ottla.Consumer(servers, group=group, assign=[(filled, 2)], auto_offset_reset="earliest") as consumer:
        records(consumer, 6)
        consumer.pause((filled, 2))
    assert committed(servers, group) == {(filled, 2): 5}


def test_what_needs_a_group_says_so(servers: str, filled: str) -> None:
    with ottla.Consumer(servers, assign=[(filled, 0)]) as consumer:
        for call in (consumer.commit, consumer.group_metadata, lambda: consumer.subscribe([filled])):
            with pytest.raises(ottla.ConfigError, match=r"group\.id"):
                call()
    with pytest.raises(ottla.ConfigError, match=r"enable\.auto\.offset\.store"):
        ottla.Consumer(servers, group="g", enable_auto_offset_store="perhaps")


def test_the_admin_client_looks_after_groups(servers: str, group: str, filled: str) -> None:
    with ottla.Admin(servers) as admin:
        with member(servers, group, filled) as consumer:
            records(consumer, 1)
            listed = {row.group_id: row for row in admin.list_groups()}
            assert listed[group].state == "Stable"
            described = admin.describe_consumer_groups([group, "nobody"])
            known = described[group]
            assert isinstance(known, ottla.ConsumerGroupDescription)
            assert known.members[0].assignment == [(filled, number) for number in range(4)]
            assert isinstance(described["nobody"], ottla.KafkaError)
            refused = admin.alter_consumer_group_offsets(group, {(filled, 0): 2})
            assert isinstance(refused[(filled, 0)], ottla.KafkaError)
        answers = admin.alter_consumer_group_offsets(group, {(filled, 0): 2, (filled, 1): ottla.OffsetAndMetadata(3, "x")})
        assert answers == {(filled, 0): None, (filled, 1): None}
        assert admin.list_consumer_group_offsets(group)[(filled, 1)] == ottla.OffsetAndMetadata(3, "x")
        assert admin.delete_consumer_group_offsets(group, [(filled, 1)]) == {(filled, 1): None}
        assert (filled, 1) not in admin.list_consumer_group_offsets(group)
        assert admin.delete_consumer_groups([group]) == {group: None}
        assert group not in {row.group_id for row in admin.list_groups()}


def aio_member(servers: str, group: str, topic: str, **keys: Any) -> ottla.aio.Consumer:
    defaults: dict[str, Any] = {"auto_offset_reset": "earliest", "heartbeat_interval_ms": 50, "session_timeout_ms": 6000}
    return ottla.aio.Consumer(servers, group=group, topics=[topic], **(defaults | keys))


def test_on_a_loop_a_body_that_raises_does_not_count_its_record(servers: str, group: str, filled: str) -> None:
    async def main() -> None:
        number = 0
        with pytest.raises(ZeroDivisionError):
            async with aio_member(servers, group, filled) as consumer:
                async for _ in consumer:
                    number += 1
                    if number == 7:
                        1 / 0
        assert sum(committed(servers, group).values()) == 6
        async with aio_member(servers, group, filled) as consumer:
            rest = [await anext(consumer) for _ in range(34)]
            assert len({record.value for record in rest}) == 34
            await consumer.commit()
            assert (await consumer.close()).finished
        assert sum(committed(servers, group).values()) == 40

    run(main())


def test_on_a_loop_callbacks_may_be_coroutines_and_commit(servers: str, group: str, filled: str) -> None:
    loops: set[asyncio.AbstractEventLoop] = set()
    told: list[str] = []

    async def on_assigned(_: ottla.aio.Consumer, partitions: list[TopicPartition]) -> None:
        loops.add(asyncio.get_running_loop())
        told.append("assigned")

    async def on_revoked(consumer: ottla.aio.Consumer, partitions: list[TopicPartition]) -> None:
        loops.add(asyncio.get_running_loop())
        await consumer.commit({of: 10 for of in partitions})
        told.append("revoked")

    async def main() -> None:
        listening = {"on_assigned": on_assigned, "on_revoked": on_revoked, "enable_auto_commit": False}
        async with aio_member(servers, group, filled, **listening) as one:
            await anext(one)
            async with aio_member(servers, group, filled) as two:
                while len(await two.assignment()) != 2:
                    await one.poll(timeout=0.05)
                    await two.poll(timeout=0.05)
                for of in await two.assignment():
                    assert await two.position(of) == 10
        assert told[0] == "assigned" and told[-1] == "revoked"
        assert loops == {asyncio.get_running_loop()}

    run(main())


def test_on_a_loop_a_callback_comes_to_its_end_however_late_the_poll_is(servers: str, group: str, filled: str) -> None:
    begun: list[int] = []
    ended: list[int] = []

    async def on_revoked(consumer: ottla.aio.Consumer, partitions: list[TopicPartition]) -> None:
        begun.append(len(partitions))
        await asyncio.sleep(0.2)  # longer than the poll may take
        await consumer.commit({of: 10 for of in partitions})
        ended.append(len(partitions))

    async def main() -> None:
        async with aio_member(servers, group, filled, on_revoked=on_revoked, enable_auto_commit=False) as one:
            await anext(one)
            async with aio_member(servers, group, filled) as two:
                while len(await two.assignment()) != 2:
                    await one.poll(timeout=0.05)
                    await two.poll(timeout=0.05)
                assert begun == ended == [4]  # all, since `range` is eager
                for of in await two.assignment():
                    assert await two.position(of) == 10

    run(main())


def test_on_a_loop_a_poll_is_cancelled_in_the_middle_of_a_rebalance(servers: str, group: str, filled: str) -> None:
    async def main() -> None:
        async with aio_member(servers, group, filled) as one, aio_member(servers, group, filled) as two:
            await anext(one)
            waiting = asyncio.create_task(two.poll())
            await asyncio.sleep(0.3)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            while not await two.assignment():
                await one.poll(timeout=0.05)
                await two.poll(timeout=0.05)
            told = await one.close()
            assert told.finished

    run(main())


def test_on_a_loop_every_call_of_a_group_is_there(servers: str, group: str, filled: str) -> None:
    async def main() -> None:
        async with aio_member(servers, group, filled, enable_auto_offset_store=False) as consumer:
            batch = await consumer.poll(max_records=3)
            await consumer.store_offsets(batch)
            await consumer.commit_async()
            await consumer.commit()
            known = await consumer.committed([(filled, number) for number in range(4)])
            assert sum(0 if of is None else of.offset for of in known.values()) == 3
            assert (await consumer.group_metadata()).group_id == group
            assert len(await consumer.progress()) == 4
            assert (await consumer.health())["group"]["group_id"] == group
            await consumer.extend_poll(1.0)
            await consumer.enforce_rebalance()
            assert await consumer.subscription() == [filled]
            await consumer.unsubscribe()
            await consumer.subscribe([filled])
        async with ottla.aio.Admin(servers) as admin:
            assert group in {row.group_id for row in await admin.list_groups(states=["Empty"])}
            described = (await admin.describe_consumer_groups([group]))[group]
            assert isinstance(described, ottla.ConsumerGroupDescription) and described.state == "Empty"
            assert (await admin.alter_consumer_group_offsets(group, {(filled, 0): 9})) == {(filled, 0): None}
            assert (await admin.list_consumer_group_offsets(group))[(filled, 0)].offset == 9
            assert (await admin.delete_consumer_group_offsets(group, [(filled, 0)])) == {(filled, 0): None}
            assert (await admin.delete_consumer_groups([group])) == {group: None}

    run(main())


@pytest.fixture(autouse=True)
def interrupts() -> Iterator[None]:
    """Ctrl-C is Python's own in every test."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
