"""Topics, the kinds of errors, the package itself."""

from __future__ import annotations

import ast
import json
import logging
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import ottla
import ottla.aio
from ottla import _native, errors
from ottla.testing import Cluster


def test_topics_are_made_described_and_deleted(servers: str) -> None:
    with ottla.Admin(servers) as admin:
        made = admin.create_topics([ottla.NewTopic("made", 3, config={"retention.ms": 60_000}), "made", "by-default"])
        assert isinstance(made["by-default"], ottla.CreatedTopic)
        again = admin.create_topics(["by-default"])["by-default"]
        assert isinstance(again, ottla.KafkaError) and again.code_name == "TOPIC_ALREADY_EXISTS"
        assert isinstance(admin.create_topics(["only-a-look"], validate_only=True)["only-a-look"], ottla.CreatedTopic)
        names = {topic.name for topic in admin.list_topics()}
        assert "by-default" in names and "only-a-look" not in names
        assert admin.create_partitions({"by-default": 4}) == {"by-default": None}
        described = admin.describe_topics(["by-default", "nowhere"])
        topic = described["by-default"]
        assert isinstance(topic, ottla.TopicDescription)
        assert [part.partition for part in topic.partitions] == [0, 1, 2, 3]
        assert isinstance(described["nowhere"], ottla.UnknownTopicError)
        assert admin.delete_topics(["by-default"]) == {"by-default": None}
        cluster = admin.describe_cluster()
        assert cluster.brokers[0].host == "127.0.0.1"
    with pytest.raises(ottla.ClosedError):
        admin.list_topics()


def test_every_kind_has_its_class_and_its_words() -> None:
    kinds = _native.error_kinds()
    assert set(errors.KINDS) == {name for name, _, _ in kinds}
    for name, _, doc in kinds:
        kind = errors.KINDS[name]
        assert kind.kind == name and kind.__name__.lower() == name.replace("_", "") + "error"
        assert getattr(ottla, kind.__name__) is kind
        if name not in ("timeout", "runtime"):
            assert kind.__doc__ == doc
    assert issubclass(ottla.ForkedError, ottla.ClosedError)
    assert issubclass(ottla.TimeoutError, TimeoutError)


def test_a_key_goes_where_java_puts_it() -> None:
    assert ottla.partition_for_key(b"truck-7", 12) == 3
    assert ottla.partition_for_key("truck-7", 50, "consistent") == 15
    assert ottla.partition_for_key(None, 12) is None
    with pytest.raises(ottla.ArgumentError):
        ottla.partition_for_key(b"k", 12, "by_mood")


def test_faults_are_understood_or_refused(cluster: Cluster) -> None:
    with pytest.raises(ottla.ArgumentError):
        cluster.fault("make it rain")
    cluster.fault("api=Produce topic=nowhere delay_response=1ms")
    cluster.clear_faults()


def test_a_stopped_cluster_says_so() -> None:
    with Cluster(num_partitions=2) as cluster:
        with ottla.Producer(cluster.bootstrap_servers) as producer:
            producer.send_wait("made-by-itself", b"x")
        cluster.disconnect_all()
    with pytest.raises(ottla.ClosedError):
        cluster.fault("api=Produce delay_response=1ms")
    cluster.stop()


def test_log_lines_reach_pythons_loggers(caplog: pytest.LogCaptureFixture) -> None:
    with Cluster() as cluster, ottla.Producer(cluster.bootstrap_servers) as producer:
        producer.send_wait("logged", b"x")
        with ottla.Consumer(cluster.bootstrap_servers, assign=[("logged", 0)]) as consumer:
            consumer.position(("logged", 0))  # what comes next is a fetch, and it fails
            cluster.stop()
            wait_until(lambda: any(record.name.startswith("ottla.consumer") for record in caplog.records))
    records = [record for record in caplog.records if record.name.startswith("ottla.")]
    assert all(record.levelno >= logging.WARNING and record.getMessage() for record in records)


def test_the_level_of_the_log_follows_the_loggers() -> None:
    from ottla import _process

    logger = logging.getLogger("ottla.producer")
    assert _process._level() == 2
    logger.setLevel(logging.DEBUG)
    assert _process._level() == 4
    logger.setLevel(logging.NOTSET)
    logging.disable(logging.CRITICAL)
    assert _process._level() == 0
    logging.disable(logging.NOTSET)
    assert _process._level() == 2


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_module_is_made_for_threads_without_a_lock() -> None:
    """The build without a global lock must not take it back: the module says that it needs none."""
    source = Path(__file__).parents[1] / "src"
    if source.is_dir():
        assert "#[pymodule(gil_used = false)]" in (source / "lib.rs").read_text()
        for path in source.glob("*.rs"):
            classes = [line for line in path.read_text().splitlines() if line.startswith("#[pyclass")]
            assert all("frozen" in line for line in classes), path
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        assert not sys._is_gil_enabled()  # type: ignore[attr-defined, unused-ignore]


def test_sync_and_asyncio_have_the_same_names() -> None:
    for sync, aio in ((ottla.Producer, ottla.aio.Producer), (ottla.Consumer, ottla.aio.Consumer), (ottla.Admin, ottla.aio.Admin)):
        names = {name for name in dir(sync) if not name.startswith("_")} - {"send_wait"}
        assert names <= {name for name in dir(aio) if not name.startswith("_")}


def test_the_package_is_typed_and_every_public_name_has_a_doc() -> None:
    package = Path(ottla.__file__).parent
    assert (package / "py.typed").exists()
    for name in ottla.__all__:
        assert name.startswith("__") or name == "TopicPartition" or getattr(ottla, name).__doc__, name
    for path in package.glob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text())), path
    assert json.dumps(ottla.__version__)
