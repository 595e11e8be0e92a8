//! A client for Apache Kafka and compatible brokers: producer, consumer, admin.
