"""A client for Apache Kafka and everything that speaks its protocol.

    import ottla

    with ottla.Producer("localhost:9092") as producer:
        producer.send("gpsraw", b"48.1,11.6", key=b"truck-7")

    with ottla.Consumer("localhost:9092", topics=["gpsraw"], auto_offset_reset="earliest") as consumer:
        for record in consumer:
            print(record.key, record.value)

`ottla.aio` has the same names for asyncio, `ottla.testing` a broker for tests, `ottla.errors` an exception for each kind of
trouble. Log lines go to the loggers below `ottla`.
"""

from __future__ import annotations

from ._admin import Admin
from ._consumer import Consumer
from ._native import (
    Batch,
    ConsumerRecord,
    ManyReceipt,
    Receipt,
    RecordMetadata,
    __version__,
    partition_for_key,
)
from ._producer import Producer
from ._types import (
    BrokerInfo,
    Closed,
    ClusterDescription,
    ConsumerClosed,
    ConsumerEvent,
    ConsumerGroupDescription,
    ConsumerGroupMetadata,
    CreatedTopic,
    Flushed,
    GroupListing,
    MemberDescription,
    NewTopic,
    OffsetAndMetadata,
    OffsetAndTimestamp,
    PartitionDescription,
    PartitionProgress,
    Record,
    TopicDescription,
    TopicListing,
    TopicPartition,
)
from .errors import (
    ArgumentError,
    AuthenticationError,
    AuthorizationError,
    BrokerError,
    ClosedError,
    ConfigError,
    ConnectError,
    CorruptError,
    DisconnectedError,
    FencedError,
    ForkedError,
    InterruptedError,
    KafkaError,
    OffsetError,
    PanicError,
    ProtocolError,
    QueueFullError,
    RuntimeError,
    TimeoutError,
    TooLargeError,
    UnknownError,
    UnknownTopicError,
    UnsupportedError,
)

__all__ = [
    "Admin",
    "ArgumentError",
    "AuthenticationError",
    "AuthorizationError",
    "Batch",
    "BrokerError",
    "BrokerInfo",
    "Closed",
    "ClosedError",
    "ClusterDescription",
    "ConfigError",
    "ConnectError",
    "Consumer",
    "ConsumerClosed",
    "ConsumerEvent",
    "ConsumerGroupDescription",
    "ConsumerGroupMetadata",
    "ConsumerRecord",
    "CorruptError",
    "CreatedTopic",
    "DisconnectedError",
    "FencedError",
    "Flushed",
    "ForkedError",
    "GroupListing",
    "InterruptedError",
    "KafkaError",
    "ManyReceipt",
    "MemberDescription",
    "NewTopic",
    "OffsetAndMetadata",
    "OffsetAndTimestamp",
    "OffsetError",
    "PanicError",
    "PartitionDescription",
    "PartitionProgress",
    "Producer",
    "ProtocolError",
    "QueueFullError",
    "Receipt",
    "Record",
    "RecordMetadata",
    "RuntimeError",
    "TimeoutError",
    "TooLargeError",
    "TopicDescription",
    "TopicListing",
    "TopicPartition",
    "UnknownError",
    "UnknownTopicError",
    "UnsupportedError",
    "__version__",
    "partition_for_key",
]
