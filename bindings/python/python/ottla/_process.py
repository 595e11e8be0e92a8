"""What runs beside the clients: one thread that logs and calls back, and the end of the process.

The thread starts with the first client. It takes what the native module has gathered, so that no thread of the runtime ever
waits for the interpreter.
"""

from __future__ import annotations

import atexit
import logging
import os
import select
import sys
import threading
import warnings
import weakref
from typing import TYPE_CHECKING, Protocol

from . import _native

if TYPE_CHECKING:
    from .errors import KafkaError

exit_timeout = 5.0
"""Seconds that records under way have at the end of the process."""

_SECONDS_BETWEEN_LOOKS = 1.0
_TRACE = 5
_LEVELS = {1: logging.ERROR, 2: logging.WARNING, 3: logging.INFO, 4: logging.DEBUG, 5: _TRACE}
_root = logging.getLogger("ottla")
_log = logging.getLogger("ottla.python")


class _CallsBack(Protocol):
    def _call_back(self) -> None: ...


class _Stoppable(Protocol):
    def _stop_waiting(self) -> None: ...


_calling_back: weakref.WeakSet[_CallsBack] = weakref.WeakSet()
_waiting: weakref.WeakSet[_Stoppable] = weakref.WeakSet()
_lock = threading.Lock()
_thread: threading.Thread | None = None
_bell: _native.Bell | None = None
_stop = False
_dropped = 0


def started(client: object) -> None:
    """A client was made."""
    with _lock:
        if hasattr(client, "_call_back"):
            _calling_back.add(client)
        if hasattr(client, "_stop_waiting"):
            _waiting.add(client)
    _follow_level()
    if _thread is None:
        _start_thread()


def _start_thread() -> None:
    global _thread, _bell, _stop
    with _lock:
        if _thread is not None or _stop:
            return
        _bell = _native.Bell()
        _native.log_start(_level())
        _thread = threading.Thread(target=_run, args=(_bell,), name="ottla", daemon=True)
        _thread.start()
    # The children of multiprocessing leave without atexit.
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        util.Finalize(None, at_exit, exitpriority=10)


def _run(bell: _native.Bell) -> None:
    poll = select.poll()
    poll.register(bell.fileno(), select.POLLIN)
    while not _stop:
        poll.poll(_SECONDS_BETWEEN_LOOKS * 1_000)
        bell.silence()
        _turn()


def _turn() -> None:
    _follow_level()
    _write_log()
    with _lock:
        clients = list(_calling_back)
    for client in clients:
        try:
            client._call_back()
        except Exception:
            _log.exception("a callback raised")


def call_back(function: object, argument: object) -> None:
    """Calls a function of the application; what it raises is logged."""
    try:
        function(argument)  # type: ignore[operator]
    except Exception:
        _log.exception("a callback raised")


def _level() -> int:
    """The lowest level that any logger below `ottla` lets through, as the native module counts."""
    lowest = _root.getEffectiveLevel()
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if name.startswith("ottla.") and isinstance(logger, logging.Logger) and logger.level:
            lowest = min(lowest, logger.level)
    if logging.root.manager.disable >= lowest:
        lowest = logging.root.manager.disable + 1
    return max((number for number, level in _LEVELS.items() if level >= lowest), default=0)


_known_level = -1


def _follow_level() -> None:
    global _known_level
    level = _level()
    if level != _known_level:
        _known_level = level
        _native.log_level(level)


def _write_log() -> None:
    global _dropped
    lines, dropped = _native.log_take()
    for level, target, text, created in lines:
        logger = logging.getLogger(target.replace("::", "."))
        number = _LEVELS[level]
        if logger.isEnabledFor(number):
            record = logger.makeRecord(logger.name, number, "(ottla)", 0, text, (), None)
            record.created = created
            record.msecs = created % 1 * 1_000
            logger.handle(record)
    if dropped != _dropped:
        _log.warning("%d lines of the log were dropped", dropped - _dropped)
        _dropped = dropped


def at_exit() -> None:
    """Delivers what is under way, within `exit_timeout`, and says what is lost."""
    global _stop, _thread
    try:
        lost = _native.settle_all(exit_timeout)
        if lost:
            message = f"{lost} records were not delivered when the process ended: close producers, or flush them, before"
            warnings.warn(message, ResourceWarning, stacklevel=1)
            print(f"ottla: {message}", file=sys.stderr)
    except KeyboardInterrupt:
        print("ottla: interrupted: records may not have been delivered", file=sys.stderr)
    with _lock:
        waiting = list(_waiting)
    for client in waiting:
        client._stop_waiting()
    with _lock:
        thread, _thread, _stop = _thread, None, True
    if thread is not None and _bell is not None and thread is not threading.current_thread():
        _bell.ring()
        thread.join(1.0)
    _write_log()


def _after_fork() -> None:
    global _thread, _bell, _stop, _lock, _known_level
    _lock = threading.Lock()
    _thread = _bell = None
    _stop = False
    _known_level = -1
    _calling_back.clear()
    _waiting.clear()


def unraised(error: KafkaError) -> None:
    """An error that nobody can be told of, because another one is under way."""
    _log.error("while closing after another error: %s", error)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(at_exit)
