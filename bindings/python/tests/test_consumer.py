"""Receiving in threads."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import ottla
from ottla.testing import Cluster


@pytest.fixture
def filled(servers: str, topic: str) -> str:
    """A topic with the records 0 to 1,999, one a second from time 0 on."""
    with ottla.Producer(servers) as producer:
        producer.send_many(topic, [ottla.Record(str(i), key=f"k{i}", timestamp=i * 1_000) for i in range(2_000)])
    return topic


def earliest(servers: str, topic: str, **keys: Any) -> ottla.Consumer:
    return ottla.Consumer(servers, assign=[(topic, 0)], auto_offset_reset="earliest", **keys)


def test_batches_can_be_read_in_every_way(servers: str, filled: str) -> None:
    with earliest(servers, filled) as consumer:
        batch = consumer.poll(timeout=10, max_records=100)
        assert len(batch) == 100
        assert batch.values() == [str(i).encode() for i in range(100)]
        assert batch.keys()[7] == b"k7"
        assert (batch[0].value, batch[-1].value) == (b"0", b"99")
        assert [record.offset for record in batch[10:13]] == [10, 11, 12]
        assert batch.next_offsets() == {(filled, 0): 100}
        view = batch.value_view(42)
        assert view is not None and view.readonly and bytes(view) == b"42"
        for wrong in (100, -101):
            with pytest.raises(IndexError):
                batch[wrong]
        with pytest.raises(TypeError):
            batch[::2]
        del batch
        assert bytes(view) == b"42"
        rest = [value for batch in itertools.islice(consumer.batches(max_records=500), 4) for value in batch.values()]
        assert rest[0] == b"100"


def test_records_one_by_one_and_batches_can_be_mixed(servers: str, filled: str) -> None:
    with earliest(servers, filled) as consumer:
        assert [next(consumer).offset for _ in range(3)] == [0, 1, 2]
        assert consumer.position((filled, 0)) == 3
        assert consumer.lag((filled, 0)) == 1_997
        assert consumer.poll(max_records=10).next_offsets() == {(filled, 0): 13}
        assert next(consumer).offset == 13


def test_seeking_moves_the_next_record(servers: str, filled: str) -> None:
    of = (filled, 0)
    with earliest(servers, filled) as consumer:
        next(consumer)
        consumer.seek(of, 500)
        assert next(consumer).offset == 500
        consumer.seek_to_beginning()
        assert next(consumer).offset == 0
        consumer.seek_to_end(of)
        assert consumer.position(of) == 2_000
        assert len(consumer.poll(timeout=0.05)) == 0
        consumer.seek_to_timestamp(of, 700_500)
        assert next(consumer).offset == 701
        with pytest.raises(ottla.ArgumentError):
            consumer.seek(("elsewhere", 0), 1)
        with pytest.raises(TypeError):
            consumer.seek("elsewhere", 1)  # type: ignore[arg-type]


def test_a_paused_partition_keeps_its_place(servers: str, new_topic: Callable[..., str]) -> None:
    topic = new_topic(partitions=2)
    with ottla.Producer(servers) as producer:
        for partition in (0, 1):
            producer.send_many(topic, [ottla.Record(str(i), partition=partition) for i in range(10)])
    with ottla.Consumer(servers, topics=[topic], auto_offset_reset="earliest") as consumer:
        first = next(consumer)
        paused = (topic, first.partition)
        consumer.pause(paused)
        assert consumer.paused() == [paused]
        others = [next(consumer) for _ in range(10)]
        assert {record.partition for record in others} == {1 - first.partition}
        assert len(consumer.poll(timeout=0.05)) == 0
        consumer.resume(paused)
        assert [next(consumer).offset for _ in range(9)] == list(range(1, 10))


def test_offsets_can_be_asked_for(servers: str, filled: str) -> None:
    of = (filled, 0)
    with earliest(servers, filled) as consumer:
        assert consumer.beginning_offsets([of]) == {of: 0}
        assert consumer.end_offsets([of]) == {of: 2_000}
        found = consumer.offsets_for_times({of: 1_500_000})[of]
        assert found is not None and (found.offset, found.timestamp) == (1_500, 1_500_000)
        assert consumer.offsets_for_times({of: 9_000_000})[of] is None
        assert consumer.partitions_for(filled) == [of]
        assert consumer.assignment() == [of]


def test_assigning_anew_forgets_what_was_fetched(servers: str, filled: str, new_topic: Callable[..., str]) -> None:
    other = new_topic()
    with ottla.Producer(servers) as producer:
        producer.send(other, b"other")
    with earliest(servers, filled) as consumer:
        next(consumer)
        consumer.assign([(other, 0)])
        assert next(consumer).value == b"other"


def test_closing_ends_iteration_here_and_in_other_threads(servers: str, topic: str) -> None:
    consumer = earliest(servers, topic)
    consumer.connected()
    seen: list[ottla.ConsumerRecord] = []
    thread = threading.Thread(target=lambda: seen.extend(consumer))
    thread.start()
    consumer.close()
    thread.join(10)
    assert not thread.is_alive() and seen == []
    assert list(consumer) == [] and list(consumer.batches()) == []
    assert len(consumer.poll()) == 0
    consumer.close()
    with pytest.raises(ottla.ClosedError):
        consumer.seek((topic, 0), 1)


def test_an_empty_batch_comes_after_the_timeout(servers: str, topic: str) -> None:
    with earliest(servers, topic) as consumer:
        batches = consumer.batches(timeout=0.01)
        assert len(next(batches)) == 0
        assert len(next(batches)) == 0


def test_an_error_of_a_partition_is_raised_once(servers: str, filled: str) -> None:
    with ottla.Consumer(servers, assign=[(filled, 0)], auto_offset_reset="none") as consumer:
        with pytest.raises(ottla.OffsetError) as caught:
            next(consumer)
        assert caught.value.partition == (filled, 0)
        consumer.seek((filled, 0), 5)
        assert next(consumer).offset == 5


def test_an_unknown_topic_is_an_error(servers: str) -> None:
    with ottla.Consumer(servers, topics=["nowhere"], default_api_timeout_ms=500, allow_auto_create_topics=False) as consumer:
        with pytest.raises(ottla.KafkaError):
            next(consumer)


def test_records_outlive_their_consumer(cluster: Cluster, servers: str, filled: str) -> None:
    with earliest(servers, filled) as consumer:
        record = next(consumer)
        batch = consumer.poll(10)
    assert (record.value, batch[0].offset) == (b"0", 1)


def test_either_topics_or_partitions(servers: str) -> None:
    with pytest.raises(ValueError):
        ottla.Consumer(servers, assign=[("t", 0)], topics=["t"])


def test_a_batch_becomes_arrow_columns(servers: str, new_topic: Callable[..., str]) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    topic = new_topic(partitions=2)
    with ottla.Producer(servers) as producer:
        for i in range(20):
            producer.send(
                topic, None if i % 5 == 0 else b"v%d" % i, key=b"k%d" % i, partition=i % 2, timestamp=i,
                headers=[("a", b"1"), ("b", None)][: i % 3],
            )
    with ottla.Consumer(servers, topics=[topic], auto_offset_reset="earliest") as consumer:
        batches: list[ottla.Batch] = []
        while sum(len(batch) for batch in batches) < 20:
            batches.append(consumer.poll(10))
        for batch in batches:
            table = batch.to_arrow()
            table.validate(full=True)
            assert table.num_rows == len(batch)
            for row, record in zip(table.to_pylist(), batch, strict=True):
                assert (row["topic"], row["partition"], row["offset"]) == (topic, record.partition, record.offset)
                assert (row["key"], row["value"]) == (record.key, record.value)
                assert row["timestamp"].timestamp() * 1_000 == pytest.approx(record.timestamp)
                assert [(h["key"], h["value"]) for h in row["headers"]] == record.headers
        part = batches[0][1:3].to_arrow()
        assert part.column("offset").to_pylist() == [record.offset for record in batches[0][1:3]]
        assert pyarrow.schema(batches[0]) == part.schema
        assert ottla.Batch().to_arrow().num_rows == 0
        whole = pyarrow.Table.from_batches([batch.to_arrow() for batch in batches])
        del batches, batch, part, table
        assert sorted(whole.column("key").to_pylist()) == sorted(b"k%d" % i for i in range(20))


def test_poll_waits_no_longer_than_it_may(servers: str, topic: str) -> None:
    with earliest(servers, topic) as consumer:
        consumer.connected()
        begin = time.monotonic()
        assert len(consumer.poll(timeout=0.05)) == 0
        assert time.monotonic() - begin < 30
