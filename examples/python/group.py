"""Real GPS tracks, shared by the members of a group.

    python examples/python/group.py [BOOTSTRAP_SERVERS] [FILE]

Two members count points, one after the other: the second goes on exactly where the first left. Without servers it starts a
broker of its own.
"""

import json
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import ottla
from ottla import TopicPartition
from ottla.testing import Cluster

TRACKS = Path(__file__).parents[1] / "data" / "gpsraw.jsonl"


def say(what: str, partitions: list[TopicPartition]) -> None:
    print(what, ", ".join(f"{topic}-{number}" for topic, number in partitions) or "nothing")


def member(servers: str) -> ottla.Consumer:
    return ottla.Consumer(
        servers,
        group="maps",
        topics=["gpsraw"],
        auto_offset_reset="earliest",
        on_assigned=lambda _, partitions: say("assigned", partitions),
        on_revoked=lambda _, partitions: say("given up", partitions),
    )


def main(servers: str | None = None, file: str | Path = TRACKS) -> Counter[str]:
    points = Path(file).read_bytes().splitlines()
    counts: Counter[str] = Counter()
    with ExitStack() as stack:
        servers = servers or stack.enter_context(Cluster()).bootstrap_servers
        with ottla.Admin(servers) as admin:
            admin.create_topics([ottla.NewTopic("gpsraw", partitions=3)])
        with ottla.Producer(servers, linger_ms=5) as producer:
            for point in points:
                producer.send("gpsraw", point, key=json.loads(point)["track"])

        with member(servers) as consumer:
            for record in consumer:
                counts[(record.key or b"").decode()] += 1
                if counts.total() == len(points) // 2:
                    # Leaving here, the record in hand would count as not processed, and be read again.
                    consumer.commit()
                    break
        with member(servers) as consumer:
            for record in consumer:
                counts[(record.key or b"").decode()] += 1
                if counts.total() == len(points):
                    break
            told = consumer.close()
    print(f"left in time: {told.finished}; {sum(told.committed.values())} offsets committed")
    return counts


if __name__ == "__main__":
    main(*sys.argv[1:])
