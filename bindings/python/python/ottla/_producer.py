"""The producer for threads."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from . import _config, _native, _process
from ._types import Closed, Flushed
from .errors import KafkaError, TimeoutError

if TYPE_CHECKING:
    from ._types import Bytes, ConfigValue, Headers


class Producer(_native.Producer):
    """Sends records. May be used from any number of threads; use it as a context manager, or call `close`.

    `config` is the bootstrap servers, or a mapping of Kafka's keys; keyword arguments are the same keys with `_` for `.`:
    `Producer("localhost:9092", linger_ms=5)`. The constructor checks the keys and begins to connect; it does not wait.

    `send` copies the record into a batch and returns; it waits only while the buffer is full. Nobody has to poll. Records
    that fail and have no receipt are raised by `flush` and `close`, or given to `on_error(error)`, which is called in a
    thread of the library.
    """

    def __init__(
        self,
        config: str | Mapping[str, ConfigValue] | None = None,
        /,
        *,
        on_error: Callable[[KafkaError], object] | None = None,
        **keys: ConfigValue,
    ) -> None:
        self._on_error = on_error
        self._start(_config.pairs(config, keys), on_error is not None)
        _process.started(self)

    def send_wait(
        self,
        topic: str,
        value: Bytes | None = None,
        *,
        key: Bytes | None = None,
        headers: Headers | None = None,
        partition: int | None = None,
        timestamp: int | None = None,
        timeout: float | None = None,
    ) -> _native.RecordMetadata:
        """Sends a record and waits until it is written. For many records use `send` and `flush`."""
        receipt = self.send(
            topic, value, key=key, headers=headers, partition=partition, timestamp=timestamp, receipt=True
        )
        return receipt.result(timeout)

    def ready(self, timeout: float | None = None) -> None:
        """Waits until there is room for more records, after a QueueFullError of `send(block=False)`."""
        self._ready().wait(timeout)

    def connected(self, timeout: float | None = None) -> None:
        """Waits until the producer has connected: to fail early when it cannot."""
        self._connected().wait(timeout)

    def flush(self, timeout: float | None = None) -> Flushed:
        """Sends what is queued without lingering and waits until each record of it is delivered or has failed.

        Raises the error of records without a receipt that failed since the last flush, unless there is `on_error`, and
        TimeoutError if records are still under way after `timeout` seconds; they stay under way.
        """
        (delivered, failed, unknown, pending), error = self._flush(timeout).wait()
        if error is not None:
            raise error
        if pending:
            late = TimeoutError(f"{pending} records are still under way after {timeout} s")
            late.code, late.retriable, late.persisted, late.count = -1004, True, "possibly", pending
            raise late
        return Flushed(delivered, failed, unknown)

    def close(self, timeout: float = 30.0) -> Closed:
        """Takes no more records, sends what is queued, and ends the producer, at the latest after `timeout` seconds.

        What is not delivered by then fails. Counts all records since the start. Raises what `flush` raises. A second call
        finds nothing left to do.
        """
        (delivered, failed, unknown, _), error = self._close(timeout).wait()
        if error is not None:
            raise error
        return Closed(delivered, failed, unknown)

    def _call_back(self) -> None:
        due, error = self._due()
        for function, receipt in due:
            _process.call_back(function, receipt)
        if error is not None and self._on_error is not None:
            _process.call_back(self._on_error, error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except KafkaError as other:
            if error is None:
                raise
            _process.unraised(other)

    def __del__(self, _warn: Any = warnings.warn) -> None:
        if not self.closed:
            _warn(f"unclosed producer {self!r}", ResourceWarning, source=self, stacklevel=2)
