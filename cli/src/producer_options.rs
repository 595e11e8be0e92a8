//! The options of Kafka's console producer that are settings of its producer under other names.
//!
//! In: `--request-required-acks 1` and the like. Out: pairs of keys and values for the producer's builder. An option that
//! is not given sets nothing: the producer's own default or a property counts. (Kafka's tool has defaults of its own,
//! among them 3 retries; here a record is given up by `delivery.timeout.ms` alone.) Where both are given the option wins,
//! as in Kafka's tool.

use clap::Args;

/// Settings of the producer, as Kafka's console producer spells them.
#[derive(Args, Debug, Default, Clone)]
#[command(next_help_heading = "Settings of the producer")]
pub struct ProducerOptions {
    /// Compress batches: none, gzip, snappy, lz4, zstd; gzip if no name is given (compression.type).
    #[arg(long, value_name = "CODEC", num_args = 0..=1, default_missing_value = "gzip")]
    compression_codec: Option<String>,
    /// Who must have a record before it counts as sent: all (-1), 1, 0 (acks).
    #[arg(long, value_name = "ACKS", allow_hyphen_values = true)]
    request_required_acks: Option<String>,
    /// How often a batch is sent again (retries).
    #[arg(long, value_name = "N")]
    message_send_max_retries: Option<u32>,
    /// The wait before a batch is sent again, in milliseconds (retry.backoff.ms).
    #[arg(long, value_name = "MILLISECONDS")]
    retry_backoff_ms: Option<u64>,
    /// How long a batch waits for more records, in milliseconds (linger.ms).
    #[arg(long, value_name = "MILLISECONDS")]
    timeout: Option<u64>,
    /// The wait for the answer to one request, in milliseconds (request.timeout.ms).
    #[arg(long, value_name = "MILLISECONDS")]
    request_timeout_ms: Option<u64>,
    /// How long a record may wait for metadata or for room, in milliseconds (max.block.ms).
    #[arg(long, value_name = "MILLISECONDS")]
    max_block_ms: Option<u64>,
    /// The bytes that unacknowledged records may take (buffer.memory).
    #[arg(long, value_name = "BYTES")]
    max_memory_bytes: Option<u64>,
    /// The size in bytes up to which a batch grows (batch.size).
    #[arg(long, value_name = "BYTES", alias = "max-partition-memory-bytes")]
    batch_size: Option<u64>,
    /// After so many milliseconds metadata is fetched anew (metadata.max.age.ms).
    #[arg(long, value_name = "MILLISECONDS")]
    metadata_expiry_ms: Option<u64>,
    /// The size in bytes of the socket's send buffer (send.buffer.bytes).
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    socket_buffer_size: Option<i64>,
}

impl ProducerOptions {
    /// What was given, by the producer's keys.
    pub fn pairs(&self) -> Vec<(String, String)> {
        let number = |value: Option<u64>| value.map(|value| value.to_string());
        let given = [
            ("compression.type", self.compression_codec.clone()),
            ("acks", self.request_required_acks.clone()),
            ("retries", self.message_send_max_retries.map(|value| value.to_string())),
            ("retry.backoff.ms", number(self.retry_backoff_ms)),
            ("linger.ms", number(self.timeout)),
            ("request.timeout.ms", number(self.request_timeout_ms)),
            ("max.block.ms", number(self.max_block_ms)),
            ("buffer.memory", number(self.max_memory_bytes)),
            ("batch.size", number(self.batch_size)),
            ("metadata.max.age.ms", number(self.metadata_expiry_ms)),
            (
                "send.buffer.bytes",
                self.socket_buffer_size.map(|value| value.to_string()),
            ),
        ];
        given
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: ProducerOptions,
    }

    fn pairs(arguments: &[&str]) -> Vec<(String, String)> {
        let line = Line::try_parse_from([&["produce"], arguments].concat()).unwrap();
        line.options.pairs()
    }

    #[test]
    fn every_option_is_a_key_of_the_producer() {
        let given = pairs(&[
            "--compression-codec",
            "--request-required-acks=-1",
            "--message-send-max-retries=3",
            "--retry-backoff-ms=10",
            "--timeout=1000",
            "--request-timeout-ms=1500",
            "--max-block-ms=5",
            "--max-memory-bytes=1000000",
            "--max-partition-memory-bytes=4096",
            "--metadata-expiry-ms=60000",
            "--socket-buffer-size=102400",
        ]);
        assert_eq!(given.len(), 11);
        assert_eq!(given[0], ("compression.type".into(), "gzip".into()));
        let servers = ("bootstrap.servers".to_owned(), "localhost:9092".to_owned());
        let all = given.into_iter().chain([servers]).collect::<Vec<_>>();
        let settings = ottla::config::Settings::from_properties(ottla::config::ClientKind::Producer, all).unwrap();
        let config = settings.producer().unwrap();
        assert_eq!((config.batch_size, config.linger_ms, config.retries), (4096, 1000, 3));
    }

    #[test]
    fn what_is_not_given_sets_nothing() {
        assert!(pairs(&[]).is_empty());
    }
}
