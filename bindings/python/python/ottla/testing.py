"""A broker for tests, in the process of the test.

    import pytest, ottla, ottla.testing

    @pytest.fixture
    def cluster():
        with ottla.testing.Cluster() as cluster:
            yield cluster

    def test_a_record_arrives(cluster):
        with ottla.Producer(cluster.bootstrap_servers) as producer:
            producer.send("orders", b"one")

It is the same broker as `ottla broker`: it starts in milliseconds, keeps its data in a temporary folder, and does wrong what
it is asked to do wrong.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self

from . import _config, _native, _process

if TYPE_CHECKING:
    from ._types import ConfigValue

__all__ = ["Cluster"]


class Cluster(_native.Cluster):
    """A broker of one node; `bootstrap_servers` is what a client takes.

    `properties` are keys of `server.properties`; keyword arguments are the same keys with `_` for `.`. `fault(rule)` makes
    it fail on purpose, as in `cluster.fault("api=Produce topic=orders error_after=6 times=2")`.
    """

    def __init__(
        self,
        properties: Mapping[str, ConfigValue] | None = None,
        /,
        *,
        data_dir: str | os.PathLike[str] | None = None,
        **keys: ConfigValue,
    ) -> None:
        self._start(_config.pairs(properties, keys), data_dir)
        _process.started(self)

    def stop(self) -> None:
        """Ends it, with everything on disk. A second call does nothing."""
        self._stop().wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
