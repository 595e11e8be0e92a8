"""Real GPS tracks to a topic and back, in threads' manner.

    python examples/python/tracks.py [BOOTSTRAP_SERVERS] [FILE]

Without servers it starts a broker of its own.
"""

import json
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import ottla
from ottla.testing import Cluster

TRACKS = Path(__file__).parents[1] / "data" / "gpsraw.jsonl"


def main(servers: str | None = None, file: str | Path = TRACKS) -> Counter[str]:
    points = Path(file).read_bytes().splitlines()
    with ExitStack() as stack:
        servers = servers or stack.enter_context(Cluster()).bootstrap_servers
        with ottla.Admin(servers) as admin:
            admin.create_topics([ottla.NewTopic("gpsraw", partitions=3)])

        # One track is one key, so its points stay in order. Closing waits until all are written, or raises.
        with ottla.Producer(servers, linger_ms=5, compression_type="lz4") as producer:
            for point in points:
                producer.send("gpsraw", point, key=json.loads(point)["track"])

        counts: Counter[str] = Counter()
        with ottla.Consumer(servers, topics=["gpsraw"], auto_offset_reset="earliest") as consumer:
            for record in consumer:
                counts[(record.key or b"").decode()] += 1
                if counts.total() == len(points):
                    break
    for track, count in counts.most_common():
        print(f"{track}: {count} points")
    return counts


if __name__ == "__main__":
    main(*sys.argv[1:])
