"""Real GPS tracks as Arrow columns: no Python object is made for a record. Needs pyarrow (`pip install ottla[arrow]`).

    python examples/python/tracks_arrow.py [BOOTSTRAP_SERVERS] [FILE]

Without servers it starts a broker of its own.
"""

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.compute

import ottla
from ottla.testing import Cluster

TRACKS = Path(__file__).parents[1] / "data" / "gpsraw.jsonl"


def main(servers: str | None = None, file: str | Path = TRACKS) -> dict[str, int]:
    points = Path(file).read_bytes().splitlines()
    with ExitStack() as stack:
        servers = servers or stack.enter_context(Cluster()).bootstrap_servers
        with ottla.Producer(servers) as producer:
            producer.send_many("gpsraw-columns", [(json.loads(point)["track"], point) for point in points])

        batches: list[Any] = []
        with ottla.Consumer(servers, topics=["gpsraw-columns"], auto_offset_reset="earliest") as consumer:
            for batch in consumer.batches(max_records=1_000):
                batches.append(batch.to_arrow())
                if sum(len(batch) for batch in batches) == len(points):
                    break
    table = pyarrow.Table.from_batches(batches)
    counts = {row["values"].decode(): row["counts"] for row in pyarrow.compute.value_counts(table["key"]).to_pylist()}
    print(f"{table.num_rows} points in {table.nbytes} bytes of columns: {', '.join(counts)}")
    return counts


if __name__ == "__main__":
    main(*sys.argv[1:])
