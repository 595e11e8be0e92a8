"""aiokafka for the tests: the requests that tests/src/peer/program.rs describes, one JSON object a line."""

import asyncio
import json
import sys

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

PATIENCE = 30


def unhex(text):
    return None if text is None else bytes.fromhex(text)


def to_hex(data):
    return None if data is None else data.hex()


async def produce(request):
    producer = AIOKafkaProducer(
        bootstrap_servers=request["bootstrap"],
        compression_type=None if request["codec"] == "none" else request["codec"],
        acks="all",
        linger_ms=20,
        enable_idempotence=request["idempotent"],
    )
    await producer.start()
    try:
        deliveries = [
            await producer.send(
                request["topic"],
                key=unhex(record["key"]),
                value=unhex(record["value"]),
                headers=[(key, unhex(value)) for key, value in record["headers"]],
                timestamp_ms=record["timestamp"],
            )
            for record in request["records"]
        ]
        told = await asyncio.gather(*deliveries)
    finally:
        await producer.stop()
    # Not their timestamps: 0.14.0 reports that of a batch's first record for all of them.
    return {"receipts": [{"partition": receipt.partition, "offset": receipt.offset} for receipt in told]}


async def consume(request):
    consumer = AIOKafkaConsumer(
        bootstrap_servers=request["bootstrap"],
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        fetch_max_wait_ms=100,
        check_crcs=True,
    )
    await consumer.start()
    try:
        partition = TopicPartition(request["topic"], request["partition"])
        consumer.assign([partition])
        consumer.seek(partition, 0)
        records = []
        while len(records) < request["count"]:
            message = await consumer.getone()
            records.append({
                "offset": message.offset,
                "timestamp": message.timestamp,
                "key": to_hex(message.key),
                "value": to_hex(message.value),
                "headers": [[key, to_hex(value)] for key, value in message.headers],
            })
    finally:
        await consumer.stop()
    return {"records": records}


async def group(request):
    consumer = AIOKafkaConsumer(
        request["topic"],
        bootstrap_servers=request["bootstrap"],
        group_id=request["group"],
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=100,
    )
    await consumer.start()
    try:
        places = []
        while len(places) < request["count"]:
            message = await consumer.getone()
            places.append([message.partition, message.offset])
        await consumer.commit()
    finally:
        await consumer.stop()
    return {"places": places}


async def answer(request):
    try:
        work = {"produce": produce, "consume": consume, "group": group}[request["do"]]
        return await asyncio.wait_for(work(request), PATIENCE)
    except Exception as error:  # the test reads it
        return {"error": f"{type(error).__name__}: {error}"}


for line in sys.stdin:
    print(json.dumps(asyncio.run(answer(json.loads(line)))), flush=True)
