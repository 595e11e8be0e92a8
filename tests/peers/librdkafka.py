"""librdkafka for the tests, by way of confluent-kafka.

One JSON request a line on standard input, one JSON answer a line on standard output; bytes are hexadecimal, null is null.

  {"do": "create", "bootstrap", "topic", "partitions"}                  -> {}
  {"do": "produce", "bootstrap", "topic", "codec", "records": [...]}    -> {"receipts": [...]} in the order of the records
  {"do": "consume", "bootstrap", "topic", "partition", "count"}         -> {"records": [...]} from the partition's beginning
  {"do": "end_offset", "bootstrap", "topic", "partition"}               -> {"offset"}
  {"do": "begin", "bootstrap", "topic", "partitions"}                   -> {}   an idempotent producer starts to write
  {"do": "end"}                                                         -> {"acked": [[partition, offset, number], ...],
                                                                            "failed": [number, ...]}

  {"do": "join", "bootstrap", "group", "topic"}                         -> {"member"}   a member that polls until it leaves
  {"do": "members"}                                                     -> {"assigned": [[partition, ...], ...], "seen"}
                                                                            in the order of joining; records seen by all
  {"do": "leave", "member"}                                             -> {}   it commits and closes

  {"do": "group", "bootstrap", "group", "topic", "count"}               -> {"places": [[partition, offset], ...]} read as a
                                                                            member, which commits and leaves

  {"do": "knock", "bootstrap"}                                          -> {"in": true or false, "errors": [text, ...]}

"config" of a request, if it has one, holds further properties of librdkafka.
A request that fails is answered by {"error": text}. The process ends with its standard input.
"""

import json
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

PATIENCE = 30
QUIET = {"log_level": 3}


def unhex(text):
    return None if text is None else bytes.fromhex(text)


def to_hex(data):
    return None if data is None else data.hex()


def create(request):
    admin = AdminClient({"bootstrap.servers": request["bootstrap"], **QUIET, **request.get("config", {})})
    new = NewTopic(request["topic"], request["partitions"], 1)
    admin.create_topics([new], operation_timeout=PATIENCE)[request["topic"]].result()
    return {}


def produce(request):
    producer = Producer({
        "bootstrap.servers": request["bootstrap"],
        "compression.type": request["codec"],
        "partitioner": "murmur2_random",  # the one that agrees with Java's on records with a key
        "acks": "all",
        "linger.ms": 20,
        # Without idempotence what is tried again may otherwise come behind its successors.
        "max.in.flight": 1,
        **QUIET,
        **request.get("config", {}),
    })
    receipts = [None] * len(request["records"])
    errors = []

    def settle(index):
        def report(error, message):
            if error is not None:
                errors.append(str(error))
            else:
                receipts[index] = {
                    "partition": message.partition(),
                    "offset": message.offset(),
                    "timestamp": message.timestamp()[1],
                }
        return report

    for index, record in enumerate(request["records"]):
        more = {} if record["timestamp"] is None else {"timestamp": record["timestamp"]}
        producer.produce(
            request["topic"],
            key=unhex(record["key"]),
            value=unhex(record["value"]),
            headers=[(key, unhex(value)) for key, value in record["headers"]],
            on_delivery=settle(index),
            **more,
        )
    left = producer.flush(PATIENCE)
    if left or errors:
        return {"error": f"{left} records not acknowledged, errors {errors[:3]}"}
    return {"receipts": receipts}


def consume(request):
    consumer = Consumer({
        "bootstrap.servers": request["bootstrap"],
        "group.id": "by-partition",  # asked for by the library; no group is joined
        "enable.auto.commit": False,
        "auto.offset.reset": "error",
        "check.crcs": True,
        "fetch.wait.max.ms": 100,
        **QUIET,
        **request.get("config", {}),
    })
    consumer.assign([TopicPartition(request["topic"], request["partition"], 0)])
    records = []
    end = time.monotonic() + PATIENCE
    while len(records) < request["count"]:
        if time.monotonic() > end:
            return {"error": f"{len(records)} of {request['count']} records within {PATIENCE} s"}
        for message in consumer.consume(request["count"] - len(records), timeout=0.2):
            if message.error():
                return {"error": str(message.error())}
            records.append({
                "offset": message.offset(),
                "timestamp": message.timestamp()[1],
                "key": to_hex(message.key()),
                "value": to_hex(message.value()),
                "headers": [[key, to_hex(value)] for key, value in message.headers() or []],
            })
    consumer.close()
    return {"records": records}


def end_offset(request):
    consumer = Consumer({"bootstrap.servers": request["bootstrap"], "group.id": "by-partition", **QUIET})
    partition = TopicPartition(request["topic"], request["partition"])
    end = time.monotonic() + PATIENCE
    while True:
        try:
            _, high = consumer.get_watermark_offsets(partition, timeout=5)
            break
        except KafkaException as error:  # the broker is on its way up, or elects a leader
            if time.monotonic() > end:
                raise error
            time.sleep(0.05)
    consumer.close()
    return {"offset": high}


def knock(request):
    """Asks for the metadata. Whoever is not let in says why in a callback, and would try for ever."""
    errors = []
    admin = AdminClient({
        "bootstrap.servers": request["bootstrap"],
        "error_cb": lambda error: errors.append(str(error)),
        "log_level": 0,
        **request.get("config", {}),
    })
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            admin.list_topics(timeout=1)
            return {"in": True, "errors": errors}
        except KafkaException:
            admin.poll(0.1)  # callbacks are called here and nowhere else
            if errors:
                return {"in": False, "errors": errors}
    return {"in": False, "errors": errors}


class Writer:
    """Writes numbered records through whatever happens to the broker, until told to end."""

    def __init__(self, request):
        self.topic, self.partitions = request["topic"], request["partitions"]
        self.acked, self.failed, self.number, self.stop = [], [], 0, False
        self.producer = Producer({
            "bootstrap.servers": request["bootstrap"],
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": 1,
            "retry.backoff.ms": 50,
            "reconnect.backoff.ms": 10,
            "reconnect.backoff.max.ms": 100,
            "delivery.timeout.ms": 120_000,
            "log_level": 0,
            **request.get("config", {}),
        })
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.stop:
            for _ in range(20):
                self.send(self.number)
                self.number += 1
            self.producer.poll(0.005)
        self.producer.flush(120)

    def send(self, number):
        def report(error, message):
            if error is None:
                self.acked.append([message.partition(), message.offset(), number])
            else:
                self.failed.append(number)

        try:
            self.producer.produce(
                self.topic, value=str(number).encode(), partition=number % self.partitions, on_delivery=report)
        except BufferError:
            self.producer.poll(0.1)
            self.failed.append(number)

    def end(self):
        self.stop = True
        self.thread.join()
        return {"acked": self.acked, "failed": self.failed}


class Member:
    """A member of a group, polled by a thread of its own."""

    def __init__(self, request):
        self.consumer = Consumer({
            "bootstrap.servers": request["bootstrap"],
            "group.id": request["group"],
            "auto.offset.reset": "earliest",
            **QUIET,
            **request.get("config", {}),
        })
        self.assigned = []
        self.seen = 0
        self.error = None
        self.stopping = threading.Event()
        self.consumer.subscribe([request["topic"]])
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.stopping.is_set():
            message = self.consumer.poll(0.05)
            if message is not None and message.error() is None:
                self.seen += 1
            elif message is not None and message.error().fatal():
                self.error = str(message.error())
                break
            self.assigned = sorted(partition.partition for partition in self.consumer.assignment())
        self.consumer.close()
        self.assigned = []

    def leave(self):
        self.stopping.set()
        self.thread.join(PATIENCE)
        return {}


def group(request):
    consumer = Consumer({
        "bootstrap.servers": request["bootstrap"],
        "group.id": request["group"],
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "fetch.wait.max.ms": 100,
        **QUIET,
        **request.get("config", {}),
    })
    consumer.subscribe([request["topic"]])
    places = []
    end = time.monotonic() + PATIENCE
    while len(places) < request["count"]:
        if time.monotonic() > end:
            return {"error": f"{len(places)} of {request['count']} records within {PATIENCE} s"}
        for message in consumer.consume(request["count"] - len(places), timeout=0.2):
            if message.error():
                return {"error": str(message.error())}
            places.append([message.partition(), message.offset()])
    consumer.commit(asynchronous=False)
    consumer.close()
    return {"places": places}


MEMBERS = []


def join(request):
    MEMBERS.append(Member(request))
    return {"member": len(MEMBERS) - 1}


def members():
    for member in MEMBERS:
        if member.error:
            raise RuntimeError(member.error)
    return {
        "assigned": [member.assigned for member in MEMBERS],
        "seen": sum(member.seen for member in MEMBERS),
    }


def serve():
    writer = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            match request["do"]:
                case "create":
                    answer = create(request)
                case "produce":
                    answer = produce(request)
                case "consume":
                    answer = consume(request)
                case "join":
                    answer = join(request)
                case "members":
                    answer = members()
                case "leave":
                    answer = MEMBERS[request["member"]].leave()
                case "group":
                    answer = group(request)
                case "knock":
                    answer = knock(request)
                case "end_offset":
                    answer = end_offset(request)
                case "begin":
                    writer, answer = Writer(request), {}
                case "end":
                    answer = writer.end()
                case other:
                    answer = {"error": f"unknown request {other}"}
        except Exception as error:  # the test reads it
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


serve()
