"""Sending from threads."""

from __future__ import annotations

import gc
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

import ottla
from conftest import read
from ottla.testing import Cluster


def test_what_is_sent_arrives_as_it_was(servers: str, topic: str) -> None:
    with ottla.Producer(servers) as producer:
        producer.send(topic, b"bytes", key=b"key", headers={"a": b"1", "b": None})
        producer.send(topic, "text \u00e9", key="schl\u00fcssel", headers=[("twice", b"1"), ("twice", b"2")])
        producer.send(topic, bytearray(b"array"), key=memoryview(b"view"), timestamp=1_234)
        producer.send(topic, None, key=b"tombstone")
        producer.send(topic, b"", partition=0)
    records = read(servers, topic, 5)
    assert [(r.key, r.value) for r in records] == [
        (b"key", b"bytes"),
        ("schl\u00fcssel".encode(), "text \u00e9".encode()),
        (b"view", b"array"),
        (b"tombstone", None),
        (None, b""),
    ]
    assert records[0].headers == [("a", b"1"), ("b", None)]
    assert records[1].headers == [("twice", b"1"), ("twice", b"2")]
    assert (records[2].timestamp, records[2].timestamp_type) == (1_234, "create_time")
    assert [r.offset for r in records] == [0, 1, 2, 3, 4]
    assert {(r.topic, r.partition) for r in records} == {(topic, 0)}


def test_a_receipt_tells_where_the_record_is(servers: str, topic: str) -> None:
    with ottla.Producer(servers, linger_ms=0) as producer:
        receipt = producer.send(topic, b"1", receipt=True)
        written = receipt.result(timeout=10)
        assert (written.topic, written.partition, written.offset) == (topic, 0, 0)
        assert receipt.done() and not receipt.cancelled() and receipt.exception() is None
        assert producer.send_wait(topic, b"2").offset == 1


def test_receipts_of_many_blocks_and_partitions_tell_each_its_own(servers: str, new_topic: Callable[..., str]) -> None:
    topic = new_topic(partitions=3)
    with ottla.Producer(servers) as producer:
        receipts = [producer.send(topic, str(i), key=str(i % 50), receipt=True) for i in range(5_000)]
        producer.flush()
        written = {(r.partition, r.offset): i for i, receipt in enumerate(receipts) for r in [receipt.result(0)]}
    assert len(written) == 5_000
    for record in read(servers, topic, 5_000):
        assert record.value == str(written[record.partition, record.offset]).encode()


def test_send_many_takes_values_pairs_and_records(servers: str, topic: str) -> None:
    with ottla.Producer(servers) as producer:
        receipt = producer.send_many(
            topic, [b"a", (b"k", b"b"), ottla.Record(b"c", headers={"h": b"1"}, timestamp=5), None], receipt=True
        )
        assert [written.offset for written in receipt.result(10)] == [0, 1, 2, 3]
        assert len(receipt) == 4 and receipt.done()
        assert producer.send_many(topic, (str(i) for i in range(3))) is None
    records = read(servers, topic, 7)
    assert [r.value for r in records] == [b"a", b"b", b"c", None, b"0", b"1", b"2"]
    assert (records[1].key, records[2].headers, records[2].timestamp) == (b"k", [("h", b"1")], 5)


def test_a_callback_of_a_receipt_is_called_once_with_it(servers: str, topic: str) -> None:
    called = threading.Event()
    seen: list[ottla.Receipt] = []
    with ottla.Producer(servers, linger_ms=50) as producer:
        receipt = producer.send(topic, b"1", receipt=True)

        def note(receipt: ottla.Receipt) -> None:
            seen.append(receipt)
            called.set()

        receipt.add_done_callback(note)
        assert called.wait(10)
        receipt.add_done_callback(seen.append)
    assert seen == [receipt, receipt]


def test_flush_counts_and_close_counts_all(servers: str, topic: str) -> None:
    producer = ottla.Producer(servers, linger_ms=10_000)
    for _ in range(10):
        producer.send(topic, b"x")
    assert producer.flush(timeout=30) == (10, 0, 0)
    producer.send(topic, b"x")
    assert producer.close() == ottla.Closed(delivered=11, failed=0, unknown=0)
    assert producer.close() == (11, 0, 0)
    assert producer.closed


def test_a_failure_without_receipt_is_raised_by_flush_and_by_it_alone(cluster: Cluster, servers: str, topic: str) -> None:
    with ottla.Producer(servers, batch_size=0, linger_ms=0) as producer:
        producer.send_wait(topic, b"fine")
        cluster.fault(f"api=Produce topic={topic} error_before=TOPIC_AUTHORIZATION_FAILED times=1")
        producer.send(topic, b"refused")
        with pytest.raises(ottla.AuthorizationError) as caught:
            producer.flush()
        error = caught.value
        assert (error.code, error.code_name, error.kind) == (29, "TOPIC_AUTHORIZATION_FAILED", "authorization")
        assert (error.retriable, error.persisted, error.partition) == (False, "no", (topic, 0))
        assert error.attempts == 1
        producer.flush()


def test_on_error_hears_of_failures_without_receipt(cluster: Cluster, servers: str, topic: str) -> None:
    heard: list[ottla.KafkaError] = []
    called = threading.Event()

    def on_error(error: ottla.KafkaError) -> None:
        heard.append(error)
        called.set()

    with ottla.Producer(servers, linger_ms=0, on_error=on_error) as producer:
        producer.send_wait(topic, b"fine")
        cluster.fault(f"api=Produce topic={topic} error_before=TOPIC_AUTHORIZATION_FAILED times=1")
        producer.send(topic, b"refused")
        assert called.wait(10)
        producer.flush()
    assert [type(error) for error in heard] == [ottla.AuthorizationError]
    cluster.clear_faults()


def test_a_failed_receipt_raises_and_says_whether_the_record_may_be_there(
    cluster: Cluster, servers: str, topic: str
) -> None:
    with ottla.Producer(servers, linger_ms=0) as producer:
        producer.send_wait(topic, b"fine")
        cluster.fault(f"api=Produce topic={topic} error_before=TOPIC_AUTHORIZATION_FAILED times=1")
        receipt = producer.send(topic, b"refused", receipt=True)
        with pytest.raises(ottla.AuthorizationError):
            receipt.result(10)
        error = receipt.exception()
        assert isinstance(error, ottla.AuthorizationError) and error.persisted == "no"
    cluster.clear_faults()


def test_a_full_buffer_waits_and_without_waiting_it_is_an_error(cluster: Cluster, servers: str, topic: str) -> None:
    keys: dict[str, str | int] = {"bootstrap.servers": servers, "buffer.memory": 100_000, "batch.size": 10_000}
    with ottla.Producer(keys) as producer:
        producer.send_wait(topic, b"fine")
        cluster.fault(f"api=Produce topic={topic} delay_response=500ms times=1")
        sent = 1
        with pytest.raises(ottla.QueueFullError) as caught:
            while sent < 10_000:
                producer.send(topic, bytes(1_000), block=False)
                sent += 1
        assert caught.value.retriable and isinstance(caught.value, BufferError)
        producer.ready(timeout=30)
        for _ in range(1_000):
            producer.send(topic, bytes(1_000))
        assert producer.close().delivered == sent + 1_000


def test_flush_that_is_late_says_so_and_the_records_go_on(cluster: Cluster, servers: str, topic: str) -> None:
    with ottla.Producer(servers, linger_ms=0) as producer:
        producer.send_wait(topic, b"fine")
        cluster.fault(f"api=Produce topic={topic} delay_response=1000ms times=1")
        producer.send(topic, b"late")
        with pytest.raises(TimeoutError) as caught:
            producer.flush(timeout=0.05)
        assert isinstance(caught.value, ottla.TimeoutError) and caught.value.count == 1
        assert producer.flush().delivered >= 0
        assert producer.close().delivered == 2


def test_a_receipt_that_is_waited_for_in_vain_raises_a_timeout(cluster: Cluster, servers: str, topic: str) -> None:
    with ottla.Producer(servers, linger_ms=0) as producer:
        producer.send_wait(topic, b"fine")
        cluster.fault(f"api=Produce topic={topic} delay_response=1000ms times=1")
        receipt = producer.send(topic, b"late", receipt=True)
        with pytest.raises(TimeoutError):
            receipt.result(timeout=0.05)
        assert receipt.result(timeout=30).offset == 1


def test_arguments_that_do_not_fit_are_refused_with_their_name(servers: str, topic: str) -> None:
    with ottla.Producer(servers) as producer:
        with pytest.raises(TypeError, match="value must be bytes, str"):
            producer.send(topic, 5)  # type: ignore[call-overload]
        with pytest.raises(TypeError, match="key must be"):
            producer.send(topic, b"", key=1.5)  # type: ignore[call-overload]
        with pytest.raises(TypeError, match="headers must be"):
            producer.send(topic, b"", headers=[b"x"])  # type: ignore[list-item]
        with pytest.raises(TypeError, match="for one record there is send"):
            producer.send_many(topic, b"abc")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="not a tuple of 3"):
            producer.send_many(topic, [(1, 2, 3)])  # type: ignore[list-item]
        with pytest.raises(ottla.KafkaError, match="no partition -3"):
            producer.send_wait(topic, b"", partition=-3)
        with pytest.raises(ValueError, match="from 0 up"):
            producer.flush(timeout=-1)
        with pytest.raises(ottla.TooLargeError) as caught:
            producer.send_many(topic, [b"small", bytes(2_000_000), b"never"])
        assert caught.value.__notes__ == ["record 1 of 3; those before it were sent, none after it was"]
        assert producer.flush().failed == 0


def test_keys_have_kafkas_names_or_pythons(servers: str) -> None:
    for producer in (
        ottla.Producer({"bootstrap.servers": servers, "linger.ms": 5, "enable.idempotence": True}),
        ottla.Producer(servers, linger_ms=timedelta(milliseconds=5), acks="all"),
        ottla.Producer(bootstrap_servers=[servers]),
    ):
        producer.close()
    with pytest.raises(ottla.ConfigError, match=r"linger\.sm .* did you mean linger\.ms"):
        ottla.Producer(servers, linger_sm=5)
    with pytest.raises(ValueError, match=r"linger\.ms"):
        ottla.Producer(servers, linger_ms="soon")
    with pytest.raises(TypeError):
        ottla.Producer(servers, linger_ms=object())  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        ottla.Producer(5)  # type: ignore[arg-type]


def test_a_closed_producer_says_so(servers: str, topic: str) -> None:
    producer = ottla.Producer(servers)
    receipt = producer.send(topic, b"x", receipt=True)
    producer.close()
    assert receipt.result().offset == 0
    for call in (
        lambda: producer.send(topic, b"x"),
        lambda: producer.send(topic, b"x", receipt=True),
        lambda: producer.send_wait(topic, b"x"),
        lambda: producer.send_many(topic, [b"x"]),
    ):
        with pytest.raises(ottla.ClosedError):
            call()


def test_a_producer_without_init_says_so() -> None:
    class Forgetful(ottla.Producer):
        def __init__(self) -> None:
            pass

    with pytest.raises(RuntimeError, match=r"super\(\).__init__"):
        Forgetful().send("t", b"x")


def test_threads_share_a_producer(servers: str, new_topic: Callable[..., str]) -> None:
    topic = new_topic(partitions=4)
    with ottla.Producer(servers) as producer, ThreadPoolExecutor(8) as pool:

        def send(thread: int) -> list[ottla.Receipt]:
            return [producer.send(topic, f"{thread}-{i}", key=str(i), receipt=True) for i in range(2_000)]

        receipts = [receipt for batch in pool.map(send, range(8)) for receipt in batch]
        producer.flush()
        places = {(written.partition, written.offset) for r in receipts for written in [r.result(0)]}
    assert len(places) == 16_000
    assert len({record.value for record in read(servers, topic, 16_000)}) == 16_000


def test_no_server_is_an_error_and_no_hang() -> None:
    with ottla.Producer("127.0.0.1:1", max_block_ms=500, request_timeout_ms=300, delivery_timeout_ms=500) as producer:
        with pytest.raises(ottla.KafkaError):
            producer.send("t", b"x", receipt=True).result(timeout=60)
        with pytest.raises(ottla.ConnectError) as caught:
            producer.connected()
        assert isinstance(caught.value, ConnectionError)


def test_an_unclosed_producer_is_a_warning_and_its_records_go(servers: str, topic: str) -> None:
    producer = ottla.Producer(servers, linger_ms=0)
    receipt = producer.send(topic, b"left alone", receipt=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del producer
        gc.collect()
    assert [warning.category for warning in caught] == [ResourceWarning]
    assert receipt.result(timeout=30).offset == 0
    assert read(servers, topic, 1)[0].value == b"left alone"


def test_an_error_in_the_block_is_not_hidden_by_one_of_closing(cluster: Cluster, servers: str, topic: str) -> None:
    with pytest.raises(ZeroDivisionError), ottla.Producer(servers, linger_ms=0) as producer:
        producer.send_wait(topic, b"fine")
        cluster.fault(f"api=Produce topic={topic} error_before=TOPIC_AUTHORIZATION_FAILED times=1")
        producer.send(topic, b"refused")
        raise ZeroDivisionError
    cluster.clear_faults()


def test_metrics_count(servers: str, topic: str) -> None:
    with ottla.Producer(servers, client_id="counts") as producer:
        producer.send_wait(topic, b"x")
        metrics = producer.metrics()
    assert (metrics["client_id"], metrics["records_delivered"]) == ("counts", 1)
    assert metrics["records_per_batch"]["count"] == 1
    assert time.time() > 0
