"""Sending and receiving on an event loop."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

import ottla
import ottla.aio
from conftest import read
from ottla.testing import Cluster


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, 120))


def earliest(servers: str, topic: str) -> ottla.aio.Consumer:
    return ottla.aio.Consumer(servers, topics=[topic], auto_offset_reset="earliest")


def test_a_record_goes_there_and_comes_back(servers: str, topic: str) -> None:
    async def main() -> None:
        async with ottla.aio.Producer(servers) as producer:
            written = await producer.send(topic, b"value", key=b"key", headers={"h": b"1"}, timestamp=7)
            assert (written.topic, written.partition, written.offset, written.timestamp) == (topic, 0, 0, 7)
            producer.send_nowait(topic, b"second")
            flushed = await producer.flush()
            # The record may be there before anybody waits for it.
            assert flushed.delivered <= 1 and flushed[1:] == (0, 0)
            assert producer.metrics()["records_delivered"] == 2
        async with earliest(servers, topic) as consumer:
            record = await anext(aiter(consumer))
            assert (record.key, record.value, record.headers) == (b"key", b"value", [("h", b"1")])
            async for batch in consumer.batches():
                assert batch.values() == [b"second"]
                break

    run(main())


def test_ten_thousand_sends_are_gathered_in_order(servers: str, topic: str) -> None:
    async def main() -> None:
        async with ottla.aio.Producer(servers) as producer:
            written = await asyncio.gather(*[producer.send(topic, str(i)) for i in range(10_000)])
            assert [w.offset for w in written] == list(range(10_000))
        async with earliest(servers, topic) as consumer:
            count = 0
            async for record in consumer:
                assert record.value == str(record.offset).encode()
                count += 1
                if count == 10_000:
                    break

    run(main())


def test_many_tasks_send_through_a_small_buffer(servers: str, new_topic: Callable[..., str]) -> None:
    """Records that find no room wait in their order; nothing is lost, and whoever awaits waits."""
    topic = new_topic()

    async def main() -> None:
        keys: dict[str, str | int] = {"bootstrap.servers": servers, "buffer.memory": 100_000, "batch.size": 10_000}
        async with ottla.aio.Producer(keys) as producer:
            futures = [producer.send(topic, b"%06d" % i + bytes(1_000)) for i in range(2_000)]
            with pytest.raises(ottla.QueueFullError):
                for _ in range(1_000):
                    producer.send_nowait(topic, bytes(1_000))
            written = await asyncio.gather(*futures)
            assert [w.offset for w in written] == list(range(2_000))
            lot = await producer.send_many(topic, [bytes(1_000)] * 500)
            assert [w.offset for w in lot] == list(range(lot[0].offset or 0, (lot[0].offset or 0) + 500))
            await producer.ready()
            producer.send_nowait(topic, b"room again")

    run(main())
    assert [r.value and r.value[:6] for r in read(servers, topic, 2_000)] == [b"%06d" % i for i in range(2_000)]


def test_cancelling_a_send_loses_no_other(servers: str, topic: str) -> None:
    async def main() -> None:
        async with ottla.aio.Producer(servers, linger_ms=300) as producer:
            futures = [producer.send(topic, str(i)) for i in range(100)]
            for future in futures[::2]:
                future.cancel()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(producer.send(topic, b"late"), 0.001)
            written = await asyncio.gather(*futures[1::2])
            assert [w.offset for w in written] == list(range(1, 100, 2))
        assert len(read(servers, topic, 101)) == 101

    run(main())


def test_a_cancelled_wait_loses_no_record(servers: str, topic: str) -> None:
    async def main() -> None:
        async with earliest(servers, topic) as consumer, ottla.aio.Producer(servers, linger_ms=0) as producer:
            await consumer.connected()
            seen: list[bytes | None] = []
            for i in range(50):
                waiting = asyncio.ensure_future(anext(consumer))
                sending = producer.send(topic, str(i))
                await asyncio.sleep(0.001 * (i % 4))
                waiting.cancel()
                try:
                    seen.append((await waiting).value)
                except asyncio.CancelledError:
                    pass
                await sending
            while len(seen) < 50:
                seen.append((await anext(consumer)).value)
            assert seen == [str(i).encode() for i in range(50)]

    run(main())


def test_send_many_has_one_future_for_the_lot(cluster: Cluster, servers: str, topic: str) -> None:
    async def main() -> None:
        async with ottla.aio.Producer(servers, linger_ms=50) as producer:
            written = await producer.send_many(topic, [b"a", (b"k", b"b"), ottla.Record(b"c", timestamp=5)])
            assert [(w.offset, w.topic) for w in written] == [(0, topic), (1, topic), (2, topic)]
            assert await producer.send_many(topic, []) == []
            with pytest.raises(ottla.TooLargeError):
                await producer.send_many(topic, [b"d", bytes(2_000_000)])
            await producer.flush()
            cluster.fault(f"api=Produce topic={topic} error_before=TOPIC_AUTHORIZATION_FAILED times=1")
            with pytest.raises(ottla.AuthorizationError, match="first of 3"):
                await producer.send_many(topic, [b"1", b"2", b"3"])
            assert len(await producer.send_many(topic, (str(i) for i in range(3_000)))) == 3_000

    run(main())


def test_errors_come_through_the_future_the_flush_or_on_error(cluster: Cluster, servers: str, topic: str) -> None:
    async def main() -> None:
        refuse = f"api=Produce topic={topic} error_before=TOPIC_AUTHORIZATION_FAILED times=1"
        async with ottla.aio.Producer(servers, linger_ms=0) as producer:
            await producer.send(topic, b"fine")
            cluster.fault(refuse)
            with pytest.raises(ottla.AuthorizationError):
                await producer.send(topic, b"refused")
            cluster.fault(refuse)
            producer.send_nowait(topic, b"refused")
            with pytest.raises(ottla.AuthorizationError):
                await producer.flush()
            await producer.flush()
            with pytest.raises(ottla.TooLargeError):
                await producer.send(topic, bytes(2_000_000))
            with pytest.raises(TypeError):
                producer.send(topic, 5)  # type: ignore[arg-type]
        heard: asyncio.Queue[ottla.KafkaError] = asyncio.Queue()
        async with ottla.aio.Producer(servers, linger_ms=0, on_error=heard.put_nowait) as producer:
            await producer.send(topic, b"fine")
            cluster.fault(refuse)
            producer.send_nowait(topic, b"refused")
            assert isinstance(await heard.get(), ottla.AuthorizationError)
            await producer.flush()
        cluster.clear_faults()

    run(main())


def test_one_client_belongs_to_one_loop(servers: str, topic: str) -> None:
    producer = ottla.aio.Producer(servers)
    consumer = earliest(servers, topic)

    async def first() -> None:
        await producer.send(topic, b"x")
        assert (await anext(consumer)).value == b"x"

    async def second() -> None:
        for call in (lambda: producer.send(topic, b"x"), lambda: producer.send_nowait(topic, b"x")):
            with pytest.raises(ottla.RuntimeError, match="another event loop"):
                call()
        with pytest.raises(ottla.RuntimeError, match="another event loop"):
            await producer.flush()
        with pytest.raises(ottla.RuntimeError, match="another event loop"):
            await anext(consumer)

    with asyncio.Runner() as runner:
        runner.run(first())
        other = threading.Thread(target=lambda: asyncio.run(second()))
        other.start()
        other.join()
        with pytest.raises(ottla.RuntimeError, match="no event loop is running"):
            producer.send(topic, b"x")
        runner.run(producer.close())
        runner.run(consumer.close())


def test_loops_in_several_threads_have_a_client_each(servers: str, new_topic: Callable[..., str]) -> None:
    topic = new_topic(partitions=4)
    counts: list[int] = []

    async def main() -> None:
        async with ottla.aio.Producer(servers) as producer:
            counts.append(len(await asyncio.gather(*[producer.send(topic, b"x") for _ in range(1_000)])))

    threads = [threading.Thread(target=lambda: asyncio.run(main())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [1_000] * 4


class LoopWithoutReaders(asyncio.SelectorEventLoop):
    def add_reader(self, *args: Any) -> None:  # type: ignore[override]
        raise NotImplementedError


def loops() -> list[Callable[[], asyncio.AbstractEventLoop]]:
    found: list[Callable[[], asyncio.AbstractEventLoop]] = [asyncio.SelectorEventLoop]
    try:
        import uvloop

        found.append(uvloop.new_event_loop)
    except ImportError:
        pass
    return found


@pytest.mark.parametrize("make", loops())
def test_it_works_on_every_kind_of_loop(servers: str, topic: str, make: Callable[[], asyncio.AbstractEventLoop]) -> None:
    with asyncio.Runner(loop_factory=make) as runner:
        runner.run(there_and_back(servers, topic))


def test_a_loop_that_watches_no_descriptors_is_woken_by_a_thread(servers: str, topic: str) -> None:
    loop = LoopWithoutReaders.__new__(LoopWithoutReaders)
    # The loop's own pipe needs a reader while it is made.
    LoopWithoutReaders.add_reader, own = asyncio.SelectorEventLoop.add_reader, LoopWithoutReaders.add_reader  # type: ignore[method-assign]
    loop.__init__()  # type: ignore[misc]
    LoopWithoutReaders.add_reader = own  # type: ignore[method-assign]
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(there_and_back(servers, topic))


async def there_and_back(servers: str, topic: str) -> None:
    async with ottla.aio.Producer(servers) as producer, earliest(servers, topic) as consumer:
        written = await asyncio.gather(*[producer.send(topic, str(i)) for i in range(500)])
        assert len(written) == 500
        for i in range(500):
            assert (await anext(consumer)).value == str(i).encode()
        assert await consumer.position((topic, 0)) == 500


def test_closing_ends_iteration_and_calls_after_it_say_so(servers: str, topic: str) -> None:
    async def main() -> None:
        consumer = earliest(servers, topic)
        await consumer.connected()

        async def count() -> int:
            return len([record async for record in consumer])

        waiting = asyncio.create_task(count())
        await asyncio.sleep(0.01)
        await consumer.close()
        assert await waiting == 0
        assert [record async for record in consumer] == []
        with pytest.raises(ottla.ClosedError):
            await consumer.position((topic, 0))
        await consumer.close()
        producer = ottla.aio.Producer(servers)
        await producer.send(topic, b"x")
        assert (await producer.close()).delivered == 1
        assert (await producer.close()).delivered == 1
        calls: list[Callable[[], Awaitable[Any]]] = [
            lambda: producer.send(topic, b"x"),
            lambda: producer.send_many(topic, [b"x"]),
            lambda: producer.flush(),
        ]
        for call in calls:
            with pytest.raises(ottla.ClosedError):
                await call()
        with pytest.raises(ottla.ClosedError):
            producer.send_nowait(topic, b"x")

    run(main())


def test_positions_are_those_of_the_records_handed_out(servers: str, new_topic: Callable[..., str]) -> None:
    topic = new_topic()

    async def main() -> None:
        of = (topic, 0)
        async with ottla.aio.Producer(servers) as producer:
            await producer.send_many(topic, [ottla.Record(str(i), timestamp=i) for i in range(100)])
        async with ottla.aio.Consumer(servers, assign=[of], auto_offset_reset="earliest") as consumer:
            assert (await anext(consumer)).offset == 0
            assert await consumer.position(of) == 1
            await consumer.seek(of, 50)
            assert (await anext(consumer)).offset == 50
            await consumer.seek_to_beginning()
            assert (await consumer.poll(max_records=3)).values() == [b"0", b"1", b"2"]
            await consumer.pause(of)
            assert len(await consumer.poll(timeout=0.02)) == 0
            assert await consumer.paused() == [of]
            await consumer.resume(of)
            assert (await anext(consumer)).offset == 3
            await consumer.seek_to_timestamp(of, 77)
            assert (await anext(consumer)).offset == 77
            assert await consumer.lag(of) == 22
            assert await consumer.beginning_offsets([of]) == {of: 0}
            assert await consumer.end_offsets([of]) == {of: 100}
            found = (await consumer.offsets_for_times({of: 30}))[of]
            assert found is not None and found.offset == 30
            assert await consumer.partitions_for(topic) == await consumer.assignment() == [of]
            await consumer.seek_to_end()
            assert await consumer.position(of) == 100

    run(main())


def test_the_admin_client_answers_on_the_loop(servers: str) -> None:
    async def main() -> None:
        async with ottla.aio.Admin(servers) as admin:
            made = await admin.create_topics([ottla.NewTopic("aio-made", 2)])
            assert isinstance(made["aio-made"], ottla.CreatedTopic)
            assert await admin.create_partitions({"aio-made": 3}) == {"aio-made": None}
            topic = (await admin.describe_topics(["aio-made"]))["aio-made"]
            assert isinstance(topic, ottla.TopicDescription) and len(topic.partitions) == 3
            assert "aio-made" in [topic.name for topic in await admin.list_topics()]
            assert (await admin.describe_cluster()).brokers
            assert await admin.delete_topics(["aio-made"]) == {"aio-made": None}
        with pytest.raises(ottla.ClosedError):
            await admin.list_topics()

    run(main())


def test_other_tasks_run_while_many_records_are_resolved(servers: str, topic: str) -> None:
    async def main() -> None:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        async with ottla.aio.Producer(servers) as producer:
            await producer.send(topic, b"first")
            counting = asyncio.create_task(count())
            futures = [producer.send(topic, bytes(100)) for _ in range(50_000)]
            await futures[-1]
            # The lot was told in steps: at most a thousand or so in one turn of the loop.
            assert turns >= 50_000 // 4_096
            counting.cancel()
            await asyncio.gather(*futures)

    run(main())


def test_an_unclosed_client_is_a_warning(servers: str, topic: str) -> None:
    async def main() -> None:
        producer = ottla.aio.Producer(servers)
        await producer.send(topic, b"x")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del producer
            gc.collect()
        assert [warning.category for warning in caught] == [ResourceWarning]

    run(main())
