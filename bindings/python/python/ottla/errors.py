"""The exceptions of the library: one class for each kind of trouble, all of them `KafkaError`."""

from __future__ import annotations

import builtins
from typing import Literal


class KafkaError(Exception):
    """Base of every error of the library.

    `code` is the broker's own error code where a broker said it (`code_name` is Kafka's name for it), and the number of the
    kind (below -1000) otherwise.
    """

    kind: str = "unknown"
    """The kind in snake case, the same in every language; see `KINDS`."""
    code: int = -1021
    code_name: str | None = None
    retriable: bool = False
    """Whether the same call may succeed if it is made again."""
    persisted: Literal["no", "possibly", "yes"] = "no"
    """Whether the record, or what the call asked for, may have been written."""
    partition: tuple[str, int] | None = None
    """The (topic, partition) that it is about."""
    offset: int | None = None
    """The offset that it is about."""
    attempts: int = 0
    """How many attempts were made, for a failed send."""
    count: int = 1
    """How many records failed like this one, when one error is raised for many."""


class ConfigError(KafkaError, ValueError):
    """A key of the configuration is unknown, has a value that does not fit, or contradicts another."""


class ArgumentError(KafkaError, ValueError):
    """An argument of a call does not fit."""


class ConnectError(KafkaError, ConnectionError):
    """No connection to a broker could be made."""


class DisconnectedError(KafkaError, ConnectionError):
    """A connection was lost before the answer came."""


class TimeoutError(KafkaError, builtins.TimeoutError):
    """The time for it ran out. Python's own `TimeoutError` too."""


class ProtocolError(KafkaError):
    """The other side does not speak Kafka's protocol, or broke it."""


class UnsupportedError(KafkaError):
    """The broker supports no version of the request that this client speaks."""


class UnknownTopicError(KafkaError, LookupError):
    """The topic or partition does not exist."""


class AuthorizationError(KafkaError, PermissionError):
    """The principal may not do this."""


class AuthenticationError(KafkaError):
    """The broker did not accept who we say we are, or we do not accept who it says it is."""


class FencedError(KafkaError):
    """Another instance took this one's place."""


class TooLargeError(KafkaError, ValueError):
    """A record or request is larger than it may be."""


class QueueFullError(KafkaError, BufferError):
    """The buffer is full and the call was not to wait."""


class OffsetError(KafkaError):
    """A position lies outside the log, or there is neither a position nor a policy to find one."""


class CorruptError(KafkaError):
    """Records failed their checksum or cannot be read."""


class ClosedError(KafkaError):
    """The client was closed, or is closing."""


class RuntimeError(KafkaError, builtins.RuntimeError):
    """The client's threads cannot be started, or it was called from the wrong event loop."""


class BrokerError(KafkaError):
    """Any other error code of a broker."""


class ForkedError(ClosedError):
    """The client was made before a fork, in the parent process: make a new one in the child."""


class PanicError(KafkaError):
    """A mistake inside the library, caught at the border. The client may be used on, but please report it."""


class InterruptedError(KafkaError):
    """The wait was ended from elsewhere."""


class UnknownError(KafkaError):
    """An error of a kind that this version of the binding does not know."""


KINDS: dict[str, type[KafkaError]] = {
    "config": ConfigError,
    "argument": ArgumentError,
    "connect": ConnectError,
    "disconnected": DisconnectedError,
    "timeout": TimeoutError,
    "protocol": ProtocolError,
    "unsupported": UnsupportedError,
    "unknown_topic": UnknownTopicError,
    "authorization": AuthorizationError,
    "authentication": AuthenticationError,
    "fenced": FencedError,
    "too_large": TooLargeError,
    "queue_full": QueueFullError,
    "offset": OffsetError,
    "corrupt": CorruptError,
    "closed": ClosedError,
    "runtime": RuntimeError,
    "broker": BrokerError,
    "forked": ForkedError,
    "panic": PanicError,
    "interrupted": InterruptedError,
    "unknown": UnknownError,
}
"""The class of each kind."""

for _kind, _class in KINDS.items():
    _class.kind = _kind


def _make(
    kind: str,
    text: str,
    code: int,
    code_name: str | None,
    retriable: bool,
    persisted: Literal["no", "possibly", "yes"],
    partition: tuple[str, int] | None,
    offset: int | None,
    attempts: int,
    count: int,
) -> KafkaError:
    """Called by the native module."""
    if count > 1:
        text = f"{text} (the first of {count} records that failed)"
    error = KINDS.get(kind, UnknownError)(text)
    error.code = code
    error.code_name = code_name
    error.retriable = retriable
    error.persisted = persisted
    error.partition = partition
    error.offset = offset
    error.attempts = attempts
    error.count = count
    return error
