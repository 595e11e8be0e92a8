"""librdkafka as a member of a group that writes down what happens to it, by way of confluent-kafka.

    group_member.py NAME TOPIC KEY=VALUE...     until standard input ends; the keys are librdkafka's

What it writes is described in tests/src/groups/history.rs.
"""

import sys
import threading
import time

from confluent_kafka import Consumer, KafkaException

NAME, TOPIC = sys.argv[1] + ".0.0", sys.argv[2]


def now():
    return time.time_ns() // 1000


def say(words):
    sys.stdout.write(f"{now()} {NAME} {words}\n")
    sys.stdout.flush()


def listed(partitions):
    return ",".join(str(partition.partition) for partition in partitions) or "-"


def assigned(_consumer, partitions):
    say(f"assigned {listed(partitions)}")


def revoked(consumer, partitions):
    commit(consumer)
    say(f"revoked {listed(partitions)}")


def lost(_consumer, partitions):
    say(f"lost {listed(partitions)}")


def commit(consumer):
    begun = now()
    try:
        for partition in consumer.commit(asynchronous=False) or []:
            if partition.error is None and partition.offset >= 0:
                say(f"committed {begun} {partition.partition} {partition.offset}")
    except KafkaException as error:
        if error.args[0].name() != "_NO_OFFSET":
            say(f"refused {error}")


def main():
    config = dict(pair.split("=", 1) for pair in sys.argv[3:])
    consumer = Consumer({"log_level": 3, "fetch.wait.max.ms": 100, **config})
    consumer.subscribe([TOPIC], on_assign=assigned, on_revoke=revoked, on_lost=lost)
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    while not ended.is_set():
        for message in consumer.consume(200, timeout=0.1):
            if message.error():
                say(f"error {message.error()}")
            else:
                say(f"read {message.partition()} {message.offset()} {message.offset() + 1}")
    commit(consumer)
    # Closing calls `revoked`.
    consumer.close()
    say("leaving")
    say("left true")


main()
