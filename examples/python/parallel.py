"""Real GPS tracks, worked on by several threads, the points of a track in order.

    python examples/python/parallel.py BOOTSTRAP_SERVERS

Each key has its worker. The next poll says that the batch before is processed, so it comes when all workers are done with
it: what is committed was worked on, whoever did it.
"""

import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import ottla

WORKERS = 4


def work(record: ottla.ConsumerRecord) -> str:
    time.sleep(0)  # a request to somewhere else
    return (record.key or b"").decode()


def main(servers: str) -> Counter[str]:
    counts: Counter[str] = Counter()
    with ExitStack() as stack:
        consumer = stack.enter_context(
            ottla.Consumer(servers, group="workers", topics=["gpsraw"], auto_offset_reset="earliest")
        )
        # A pool of one thread works in order.
        workers = [stack.enter_context(ThreadPoolExecutor(1)) for _ in range(WORKERS)]
        for batch in consumer.batches(timeout=2.0):
            if counts and not batch:
                break  # silence; a service would simply go on
            tasks = [workers[ottla.partition_for_key(record.key, WORKERS) or 0].submit(work, record) for record in batch]
            # The error of a task ends the loop here: nothing of this batch counts as processed then.
            counts.update(task.result() for task in tasks)
        told = consumer.close()
    print(f"{counts.total()} points of {len(counts)} tracks; left in time: {told.finished}")
    return counts


if __name__ == "__main__":
    main(*sys.argv[1:])
