"""A web application that answers once the record is in the log: ASGI as it is, for uvicorn and its kin.

BOOTSTRAP_SERVERS=localhost:9092 uvicorn --workers 2 asgi:app        # then: curl --data-binary '45.77,14.35' localhost:8000
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import ottla.aio

Message = MutableMapping[str, Any]


class Application:
    """Each worker process has one, with a producer that lives as long as the worker's event loop."""

    producer: ottla.aio.Producer

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        if scope["type"] == "lifespan":
            await self.live(receive, send)
        elif scope["type"] == "http":
            await self.answer(scope, receive, send)

    async def live(self, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]) -> None:
        await receive()  # lifespan.startup
        self.producer = ottla.aio.Producer(os.environ.get("BOOTSTRAP_SERVERS", "localhost:9092"), linger_ms=1)
        try:
            await self.producer.connected()
        except ottla.KafkaError as error:
            await self.producer.close(0)
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()  # lifespan.shutdown: every answer has been sent
        await self.producer.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def answer(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        value, more = b"", True
        while more:
            part = await receive()
            if part["type"] == "http.disconnect":
                return
            value += part.get("body", b"")
            more = part.get("more_body", False)
        topic = scope["path"].strip("/") or "gpsraw"
        status, told = 200, dict[str, str | int | None]()
        try:
            written = await self.producer.send(topic, value)
        except ottla.KafkaError as error:
            status, told = 503, {"error": str(error), "persisted": str(error.persisted)}
        else:
            told = {"partition": written.partition, "offset": written.offset, "worker": os.getpid()}
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": json.dumps(told).encode()})


app = Application()
