"""Real GPS tracks, with positions that the program keeps itself, beside its result.

    python examples/python/manual.py BOOTSTRAP_SERVERS FILE

Result and positions are in one file that is replaced as a whole, so no point is counted twice or left out, whenever the
program ends. A database does the same with one transaction. Run it again: it goes on there.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import ottla

TOPIC = "gpsraw"


def main(servers: str, file: str | Path) -> tuple[int, int]:
    file = Path(file)
    # How many points were counted, and for each partition the next offset.
    state: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"points": 0, "positions": {}}
    before: int = state["points"]
    with ottla.Consumer(servers, auto_offset_reset="earliest") as consumer:
        consumer.assign(consumer.partitions_for(TOPIC))
        for partition, offset in state["positions"].items():
            consumer.seek((TOPIC, int(partition)), offset)
        # Silence for two seconds ends this program; a service would simply go on.
        while batch := consumer.poll(2.0):
            state["points"] += len(batch)
            for record in batch:
                state["positions"][str(record.partition)] = record.offset + 1
            new = file.with_suffix(".new")
            new.write_text(json.dumps(state))
            os.replace(new, file)
    print(f"{state['points'] - before} points more, {state['points']} in all")
    return state["points"] - before, state["points"]


if __name__ == "__main__":
    main(*sys.argv[1:])
