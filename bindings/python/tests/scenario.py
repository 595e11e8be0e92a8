"""The runner in Python: does what a scenario says with the package's clients, and tells what came of it.

    scenario.py sync|asyncio FILE...

`tests/scenarios/README.md` says what a scenario is, and what is printed.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import socket
import sys
import time
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import ottla
import ottla.aio

PATIENCE = 30.0
TURN = 0.01
AS_THEMSELVES = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
LONGEST = 64


class Failure(Exception):
    """What keeps the story from going on."""


def unescape(text: str) -> bytes:
    repeated = re.fullmatch(r"@(\d+)\*(.*)", text, re.DOTALL)
    if repeated:
        return unescape(repeated[2]) * int(repeated[1])
    return re.sub(rb"%([0-9A-Fa-f]{2})", lambda found: bytes([int(found[1], 16)]), text.encode())


def escape(data: bytes) -> str:
    if len(data) > LONGEST:
        return f"@{len(data)}~{zlib.crc32(data):08x}"
    return "".join(chr(byte) if byte in AS_THEMSELVES else f"%{byte:02X}" for byte in data)


def words_of(line: str) -> list[tuple[str, str]]:
    return [(name, value) for word in line.split() if "=" in word for name, _, value in [word.partition("=")]]


def yes_or_no(yes: bool) -> str:
    return "yes" if yes else "no"


def error_line(error: ottla.KafkaError) -> str:
    code = str(error.code) if error.code > -1000 else "none"
    return f"error kind={error.kind} code={code} retriable={yes_or_no(error.retriable)}"


async def done(answer: Any) -> Any:
    """The clients of asyncio give something to be awaited, those for threads have waited."""
    return await answer if inspect.isawaitable(answer) else answer


class Stage:
    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self.lines = socket.create_connection((host, int(port))).makefile("rw", encoding="utf-8", newline="\n")

    def say(self, words: str) -> str:
        self.lines.write(words + "\n")
        self.lines.flush()
        answer, _, text = self.lines.readline().rstrip("\n").partition(" ")
        if answer != "ok":
            raise Failure(f"the stage: {answer} {text}")
        return text


class Story:
    """One file."""

    def __init__(self, module: Any, stem: str, stage: Stage) -> None:
        self.module, self.stage = module, stage
        self.topics = f"{os.environ['OTTLA_PREFIX']}.{stem}."
        self.clients: dict[str, Any] = {}
        self.sends: dict[str, list[Any]] = {}
        self.told: dict[str, int] = {}
        self.members: set[str] = set()
        self.kept: dict[str, list[ottla.ConsumerRecord]] = {}
        self.events: dict[str, list[tuple[str, list[tuple[str, int]]]]] = {}
        self.error = ""
        self.printed: list[str] = []

    async def follow(self, line: str) -> None:
        name, _, rest = line.partition(" ")
        if name == "stage":
            text = self.stage.say(rest)
            if text:
                self.printed.append(text)
            return
        words = words_of(rest)
        client = "" if "=" in rest.split(" ")[0] else rest.split(" ")[0]
        command = getattr(self, f"do_{name}", None)
        if command is None:
            raise Failure(f"there is no command {name}")
        try:
            await command(client, words, dict(words))
        except ottla.KafkaError as error:
            self.error = str(error)
            self.printed.append(error_line(error))

    async def end(self) -> None:
        for client in self.clients.values():
            close = client.close(0.0) if hasattr(client, "send") else client.close()
            await done(close)

    def topic(self, name: str) -> str:
        return self.topics + unescape(name).decode()

    def partitions(self, text: str) -> list[tuple[str, int]]:
        parts = [part.rpartition(":") for part in text.split(",") if part]
        return [(self.topic(topic), int(number)) for topic, _, number in parts]

    def shown(self, topic: str, partition: int) -> str:
        return f"{topic.removeprefix(self.topics)}:{partition}"

    def listed(self, partitions: Iterable[tuple[str, int]]) -> str:
        return ",".join(self.shown(*of) for of in sorted(partitions)) or "none"

    async def build(self, kind: str, name: str, words: list[tuple[str, str]], **more: Any) -> None:
        keys = {"bootstrap.servers": os.environ["OTTLA_BOOTSTRAP"]}
        keys.update((key, unescape(value).decode()) for key, value in words if key != "assign")
        if keys.get("group.id"):
            keys["group.id"] = self.topics + keys["group.id"]
        client = getattr(self.module, kind)(keys, **more)
        try:
            await done(client.connected())
        except BaseException:
            await done(client.close())
            raise
        self.clients[name] = client

    async def do_producer(self, name: str, words: list[tuple[str, str]], _: dict[str, str]) -> None:
        await self.build("Producer", name, words)
        self.sends[name], self.told[name] = [], 0

    async def do_consumer(self, name: str, words: list[tuple[str, str]], by_name: dict[str, str]) -> None:
        events: list[tuple[str, list[tuple[str, int]]]] = []

        def hear(what: str) -> Any:
            return lambda _, partitions: events.append((what, partitions)) if partitions else None

        listeners = {f"on_{what}": hear(what) for what in ("assigned", "revoked", "lost")}
        await self.build("Consumer", name, words, assign=self.partitions(by_name.get("assign", "")), **listeners)
        self.events[name], self.kept[name] = events, []
        if by_name.get("group.id"):
            self.members.add(name)

    async def do_admin(self, name: str, words: list[tuple[str, str]], _: dict[str, str]) -> None:
        await self.build("Admin", name, words)

    async def do_close(self, name: str, _: list[tuple[str, str]], by_name: dict[str, str]) -> None:
        client = self.clients[name]
        if hasattr(client, "send"):
            closed = await done(client.close(float(by_name.get("timeout_ms", PATIENCE * 1_000)) / 1_000))
            self.printed.append(
                f"closed delivered={closed.delivered} failed={closed.failed} unknown={closed.unknown}"
            )
            return
        closed = await done(client.close(PATIENCE) if name in self.members else client.close())
        if name in self.members:
            if closed.error is not None:
                raise closed.error
            counts = f"committed={len(closed.committed)} unprocessed={len(closed.unprocessed)}"
            self.printed.append(f"closed {counts} finished={yes_or_no(closed.finished)}")

    async def do_error_has(self, _: str, __: list[tuple[str, str]], by_name: dict[str, str]) -> None:
        self.printed.append(yes_or_no(unescape(by_name["text"]).decode() in self.error))

    async def do_create_topic(self, name: str, words: list[tuple[str, str]], by_name: dict[str, str]) -> None:
        config = {key: unescape(value).decode() for key, value in words if key not in ("topic", "partitions")}
        topic = ottla.NewTopic(self.topic(by_name["topic"]), int(by_name["partitions"]), config=config)
        await self.administer(self.clients[name].create_topics([topic]))

    async def do_delete_topic(self, name: str, _: list[tuple[str, str]], by_name: dict[str, str]) -> None:
        await self.administer(self.clients[name].delete_topics([self.topic(by_name["topic"])]))

    async def administer(self, answers: Any) -> None:
        for answer in (await done(answers)).values():
            if isinstance(answer, ottla.KafkaError):
                raise answer

    async def do_send(self, name: str, words: list[tuple[str, str]], by_name: dict[str, str]) -> None:
        record: dict[str, Any] = {part: unescape(by_name[part]) for part in ("key", "value") if part in by_name}
        record.update((number, int(by_name[number])) for number in ("partition", "timestamp") if number in by_name)
        headers: list[tuple[str, bytes | None]] = []
        for word, text in words:
            if word == "header":
                key, colon, value = text.partition(":")
                headers.append((unescape(key).decode(), unescape(value) if colon else None))
        if headers:
            record["headers"] = headers
        if self.module is ottla:
            record["receipt"] = True
        try:
            sent = self.clients[name].send(self.topic(by_name["topic"]), **record)
        except ottla.KafkaError as error:
            sent = error
        self.sends[name].append(sent)

    async def do_flush(self, name: str, _: list[tuple[str, str]], __: dict[str, str]) -> None:
        try:
            await done(self.clients[name].flush())
        except ottla.ClosedError:
            pass

    async def do_await(self, name: str, words: list[tuple[str, str]], by_name: dict[str, str]) -> None:
        await self.do_flush(name, words, by_name)
        for sent in self.sends[name]:
            self.told[name] += 1
            try:
                if isinstance(sent, ottla.KafkaError):
                    raise sent
                written = sent.result() if self.module is ottla else await sent
                offset = "none" if written.offset is None else written.offset
                self.printed.append(f"{self.told[name]} partition={written.partition} offset={offset}")
            except ottla.KafkaError as error:
                self.error = str(error)
                self.printed.append(f"{self.told[name]} {error_line(error)} persisted={error.persisted}")
        self.sends[name].clear()

    async def do_poll(self, name: str, _: list[tuple[str, str]], by_name: dict[str, str]) -> None:
        consumer, until, end = self.clients[name], int(by_name["until"]), time.monotonic() + PATIENCE
        seen, self.kept[name] = self.kept[name], []
        ended: str | ottla.KafkaError | None = None
        while len(seen) < until and ended is None:
            try:
                batch = await done(consumer.poll(max(0.0, end - time.monotonic())))
            except ottla.ClosedError:
                ended = "closed"
                break
            except ottla.KafkaError as error:
                ended = error
                break
            seen.extend(batch)
            if len(batch) == 0:
                ended = "closed" if consumer.closed else "nothing more" if time.monotonic() >= end else None
        for record in sorted(seen, key=lambda record: (record.topic, record.partition, record.offset)):
            self.printed.append(self.record_line(record, by_name.get("timestamps") == "yes"))
        if isinstance(ended, ottla.KafkaError):
            raise ended
        if ended is not None:
            self.printed.append(ended)

    def record_line(self, record: ottla.ConsumerRecord, with_timestamp: bool) -> str:
        parts = [f"{self.shown(record.topic, record.partition)} offset={record.offset}"]
        for name, data in (("key", record.key), ("value", record.value)):
            if data is not None:
                parts.append(f"{name}={escape(data)}")
        for key, value in record.headers:
            parts.append(f"header={escape(key.encode())}" + ("" if value is None else f":{escape(value)}"))
        if with_timestamp:
            parts.append(f"timestamp={record.timestamp}")
        return " ".join(parts)

    async def do_assign(self, name: str, _: list[tuple[str, str]], by_name: dict[str, str]) -> None:
        await done(self.clients[name].assign(self.partitions(by_name["partitions"])))

    async def do_pause(self, name: str, _: list[tuple[str, str]], by_name: dict[str, str]) -> None:
        await done(self.clients[name].pause(*self.partitions(by_name["partitions"])))

    async def do_resume(self, name: str, _: list[tuple[str, str]], by_name: dict[str, str]) -> None:
        await done(self.clients[name].resume(*self.partitions(by_name["partitions"])))

    async def do_seek(self, name: str, _: list[tuple[str, str]], by_name: dict[str, str]) -> None:
        await done(self.clients[name].seek(self.partitions(by_name["partition"])[0], int(by_name["offset"])))

    async def do_seek_to_beginning(self, name: str, _: list[tuple[str, str]], by_name: dict[str, str]) -> None:
        await done(self.clients[name].seek_to_beginning(*self.partitions(by_name["partition"])))

    async def do_seek_to_end(self, name: str, _: list[tuple[str, str]], by_name: dict[str, str]) -> None:
        await done(self.clients[name].seek_to_end(*self.partitions(by_name["partition"])))

    async def do_seek_to_timestamp(self, name: str, _: list[tuple[str, str]], by_name: dict[str, str]) -> None:
        (partition,) = self.partitions(by_name["partition"])
        await done(self.clients[name].seek_to_timestamp(partition, int(by_name["timestamp"])))

    async def do_position(self, name: str, _: list[tuple[str, str]], by_name: dict[str, str]) -> None:
        (partition,) = self.partitions(by_name["partition"])
        position = await done(self.clients[name].position(partition))
        self.printed.append(f"{self.shown(*partition)} position={position}")

    async def do_beginning_offsets(self, name: str, _: list[tuple[str, str]], by_name: dict[str, str]) -> None:
        await self.bounds(self.clients[name].beginning_offsets(self.partitions(by_name["partitions"])))

    async def do_end_offsets(self, name: str, _: list[tuple[str, str]], by_name: dict[str, str]) -> None:
        await self.bounds(self.clients[name].end_offsets(self.partitions(by_name["partitions"])))

    async def bounds(self, offsets: Any) -> None:
        for partition, offset in sorted((await done(offsets)).items()):
            self.printed.append(f"{self.shown(*partition)} offset={offset}")

    async def do_subscribe(self, name: str, _: list[tuple[str, str]], by_name: dict[str, str]) -> None:
        consumer = self.clients[name]
        if "pattern" in by_name:
            pattern = self.topics.replace(".", r"\.") + unescape(by_name["pattern"]).decode()
            await done(consumer.subscribe(pattern=pattern))
        else:
            await done(consumer.subscribe([self.topic(topic) for topic in by_name["topics"].split(",") if topic]))

    async def do_unsubscribe(self, name: str, _: list[tuple[str, str]], __: dict[str, str]) -> None:
        await done(self.clients[name].unsubscribe())

    async def do_subscription(self, name: str, _: list[tuple[str, str]], __: dict[str, str]) -> None:
        topics = await done(self.clients[name].subscription())
        self.printed.append(",".join(topic.removeprefix(self.topics) for topic in topics) or "none")

    async def do_assignment(self, name: str, _: list[tuple[str, str]], __: dict[str, str]) -> None:
        self.printed.append(self.listed(await done(self.clients[name].assignment())))

    async def turn(self, name: str) -> None:
        """Polls for a moment; what comes is told by the next `poll`."""
        self.kept[name].extend(await done(self.clients[name].poll(TURN)))

    async def do_share(self, names: str, _: list[tuple[str, str]], by_name: dict[str, str]) -> None:
        wanted, end = sorted(self.partitions(by_name["partitions"])), time.monotonic() + PATIENCE
        readers = sorted(names.split(","))
        while True:
            shares = [await done(self.clients[name].assignment()) for name in readers]
            counts = [len(share) for share in shares]
            for name in readers:  # once more in the end, so that each has heard of what it got
                await self.turn(name)
            if sorted(of for share in shares for of in share) == wanted and max(counts) - min(counts) <= 1:
                self.printed.append(" ".join(f"{name}={count}" for name, count in zip(readers, counts, strict=True)))
                return
            if time.monotonic() > end:
                for name, share in zip(readers, shares, strict=True):
                    self.printed.append(f"not shared: {name} has {self.listed(share)}")
                return

    async def do_events(self, name: str, _: list[tuple[str, str]], by_name: dict[str, str]) -> None:
        heard, until, end = self.events[name], int(by_name.get("until", "0")), time.monotonic() + PATIENCE
        try:
            while len(heard) < until and time.monotonic() < end:
                await self.turn(name)
        finally:
            self.printed += [f"{what} {self.listed(partitions)}" for what, partitions in heard]
            if len(heard) < until and time.monotonic() >= end:
                self.printed.append("nothing more")
            heard.clear()

    def offsets(self, words: list[tuple[str, str]]) -> dict[tuple[str, int], ottla.OffsetAndMetadata]:
        written = [(value + ":").split(":", 3) for word, value in words if word == "offset"]
        return {
            (self.topic(topic), int(partition)): ottla.OffsetAndMetadata(
                int(offset), unescape(metadata.removesuffix(":")).decode()
            )
            for topic, partition, offset, metadata in written
        }

    async def do_commit(self, name: str, words: list[tuple[str, str]], _: dict[str, str]) -> None:
        await done(self.clients[name].commit(self.offsets(words) or None))

    async def do_store_offsets(self, name: str, words: list[tuple[str, str]], _: dict[str, str]) -> None:
        await done(self.clients[name].store_offsets(self.offsets(words)))

    async def do_committed(self, name: str, _: list[tuple[str, str]], by_name: dict[str, str]) -> None:
        found = await done(self.clients[name].committed(self.partitions(by_name["partitions"])))
        for partition, offset in sorted(found.items()):
            told = "none" if offset is None else str(offset.offset)
            if offset is not None and offset.metadata:
                told += f" metadata={escape(offset.metadata.encode())}"
            self.printed.append(f"{self.shown(*partition)} committed={told}")

    async def do_membership(self, name: str, _: list[tuple[str, str]], __: dict[str, str]) -> None:
        known = await done(self.clients[name].group_metadata())
        group, instance = known.group_id.removeprefix(self.topics), known.group_instance_id or "none"
        member, generation = yes_or_no(known.member_id != ""), yes_or_no(known.generation_id >= 0)
        self.printed.append(f"group={group} instance={instance} member={member} generation={generation}")

    async def do_enforce_rebalance(self, name: str, _: list[tuple[str, str]], by_name: dict[str, str]) -> None:
        await done(self.clients[name].enforce_rebalance(unescape(by_name.get("reason", "")).decode()))

    async def do_partition_for(self, _: str, __: list[tuple[str, str]], by_name: dict[str, str]) -> None:
        key = unescape(by_name["key"]) if "key" in by_name else None
        self.printed.append(place(by_name["rule"], key, by_name["partitions"]))

    async def do_partition_vectors(self, _: str, __: list[tuple[str, str]], by_name: dict[str, str]) -> None:
        lines = 0
        for line in Path(by_name["file"]).read_text().splitlines():
            if line.startswith("#"):
                continue
            rule, word, partitions, expected = line.split(" ")
            key = {"null": None, "empty": b""}[word] if word in ("null", "empty") else bytes.fromhex(word)
            found = place(rule, key, partitions)
            if found != expected:
                self.printed.append(f"{rule} {word} {partitions} is {found}")
            lines += 1
        self.printed.append(f"{lines} lines")


def place(rule: str, key: bytes | None, partitions: str) -> str:
    found = ottla.partition_for_key(key, int(partitions), rule)
    return "any" if found is None else str(found)


async def main(flavour: str, files: list[str]) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    module = {"sync": ottla, "asyncio": ottla.aio}[flavour]
    stage = Stage(os.environ["OTTLA_STAGE"])
    for file in files:
        stem = Path(file).stem
        stage.say(f"begin {stem}")
        print(f"=== {stem}")
        story = Story(module, stem, stage)
        for line in map(str.rstrip, Path(file).read_text(encoding="utf-8").splitlines()):
            if line and not line.startswith(("#", "-> ")):
                try:
                    await story.follow(line)
                except Exception as error:
                    raise Failure(f"{stem}: {line}: {error!r}") from error
                print(line)
                for printed in story.printed:
                    print(f"-> {printed}")
                story.printed.clear()
                sys.stdout.flush()
        await story.end()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
