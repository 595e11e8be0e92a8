"""Configuration: Kafka's own keys, in their own spelling or as keyword arguments."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._types import ConfigValue

Pairs = list[tuple[str, str]]


def text(value: object) -> str:
    """The value as Kafka writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, timedelta):
        return str(value // timedelta(milliseconds=1))
    if isinstance(value, (str, int)):
        return str(value)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else str(value)
    if isinstance(value, (list, tuple)):
        return ",".join(text(part) for part in value)
    raise TypeError(f"a configuration value must be a str, number, bool or timedelta, not {type(value).__name__}")


def pairs(config: str | Mapping[str, ConfigValue] | None, keys: Mapping[str, ConfigValue]) -> Pairs:
    """All keys with their values; keyword arguments count more than the mapping."""
    result: Pairs = []
    if isinstance(config, str):
        result.append(("bootstrap.servers", config))
    elif isinstance(config, Mapping):
        result.extend((key, text(value)) for key, value in config.items())
    elif config is not None:
        raise TypeError("the configuration must be the bootstrap servers as a str, or a mapping of Kafka's keys")
    for name, value in keys.items():
        result.append(("group.id" if name == "group" else name.replace("_", "."), text(value)))
    return result
