"""Real GPS tracks to a topic and back, on an event loop: each track is followed by a task of its own.

python examples/python/tracks_asyncio.py [BOOTSTRAP_SERVERS] [FILE]

Without servers it starts a broker of its own.
"""

import asyncio
import json
import sys
from collections import Counter, defaultdict
from contextlib import ExitStack
from pathlib import Path

import ottla
import ottla.aio
from ottla.testing import Cluster

TRACKS = Path(__file__).parents[1] / "data" / "gpsraw.jsonl"


async def drive(producer: ottla.aio.Producer, track: str, points: list[bytes]) -> int:
    """Sends a track, and gives the offset of its last point."""
    written = await asyncio.gather(*[producer.send("gpsraw-live", point, key=track) for point in points])
    return written[-1].offset or 0


async def main(servers: str | None = None, file: str | Path = TRACKS) -> Counter[str]:
    tracks: dict[str, list[bytes]] = defaultdict(list)
    for point in Path(file).read_bytes().splitlines():
        tracks[json.loads(point)["track"]].append(point)

    with ExitStack() as stack:
        servers = servers or stack.enter_context(Cluster()).bootstrap_servers
        async with ottla.aio.Admin(servers) as admin:
            await admin.create_topics([ottla.NewTopic("gpsraw-live", partitions=3)])

        async with ottla.aio.Producer(servers, linger_ms=5) as producer, asyncio.TaskGroup() as group:
            for track, points in tracks.items():
                group.create_task(drive(producer, track, points))

        counts: Counter[str] = Counter()
        total = sum(map(len, tracks.values()))
        async with ottla.aio.Consumer(servers, topics=["gpsraw-live"], auto_offset_reset="earliest") as consumer:
            async for record in consumer:
                counts[(record.key or b"").decode()] += 1
                if counts.total() == total:
                    break
    for track, count in counts.most_common():
        print(f"{track}: {count} points")
    return counts


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
