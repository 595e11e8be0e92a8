//! Metrics in Prometheus's text format, for whoever serves them over HTTP; this crate does not.
//!
//! In: a [`ProducerMetrics`]. Out: text of version 0.0.4. Times are in seconds, as Prometheus wants them. A histogram has
//! a bucket for each doubling.

use std::fmt::{self, Write};

use super::histogram::Histogram;
use super::metrics::ProducerMetrics;

impl ProducerMetrics {
    /// The metrics in Prometheus's text format, each with the label `client_id`; those of topics and brokers with
    /// `topic` and `broker_id` as well.
    ///
    /// ```
    /// # let metrics = ottla::ProducerMetrics::default();
    /// let text = metrics.to_prometheus();
    /// assert!(text.contains("# TYPE ottla_producer_records_delivered_total counter\n"));
    /// assert!(text.contains("ottla_producer_records_delivered_total{client_id=\"\"} 0\n"));
    /// ```
    pub fn to_prometheus(&self) -> String {
        let mut text = Text {
            out: String::with_capacity(8 * 1024),
            client: format!("client_id=\"{}\"", escaped(&self.client_id)),
        };
        // Writing into a string cannot fail.
        let _ = self.totals(&mut text);
        let _ = self.gauges(&mut text);
        let _ = self.histograms(&mut text);
        let _ = self.by_topic(&mut text);
        let _ = self.by_broker(&mut text);
        text.out
    }

    fn totals(&self, text: &mut Text) -> fmt::Result {
        let seconds = |time: std::time::Duration| time.as_secs_f64();
        text.one("records_delivered_total", "counter", self.records_delivered)?;
        text.one("records_failed_total", "counter", self.records_failed)?;
        text.one("records_unknown_total", "counter", self.records_unknown)?;
        text.one("records_sent_total", "counter", self.records_sent)?;
        text.one("records_retried_total", "counter", self.records_retried)?;
        text.one("batches_sent_total", "counter", self.batches_sent)?;
        text.one("batches_retried_total", "counter", self.batches_retried)?;
        text.one("batches_split_total", "counter", self.batches_split)?;
        text.one("bytes_sent_total", "counter", self.bytes_sent)?;
        text.one("requests_sent_total", "counter", self.requests_sent)?;
        text.one("requests_failed_total", "counter", self.requests_failed)?;
        text.one("throttle_time_seconds_total", "counter", seconds(self.throttle_time))?;
        text.one("buffer_waits_total", "counter", self.buffer_waits)?;
        text.one("buffer_exhausted_total", "counter", self.buffer_exhausted)?;
        text.one(
            "buffer_wait_time_seconds_total",
            "counter",
            seconds(self.buffer_wait_time),
        )
    }

    fn gauges(&self, text: &mut Text) -> fmt::Result {
        text.one("requests_in_flight", "gauge", self.requests_in_flight)?;
        text.one("buffer_total_bytes", "gauge", self.buffer_total_bytes)?;
        text.one("buffer_available_bytes", "gauge", self.buffer_available_bytes)?;
        text.one("buffer_waiting_callers", "gauge", self.buffer_waiting_callers)
    }

    fn histograms(&self, text: &mut Text) -> fmt::Result {
        text.histogram("records_per_batch", &self.records_per_batch, 1.0)?;
        text.histogram("batch_bytes", &self.batch_bytes, 1.0)?;
        text.histogram("compression_ratio", &self.compression_ratio, 1.0)?;
        text.histogram("queue_time_seconds", &self.queue_time_ms, 1e-3)?;
        text.histogram("request_latency_seconds", &self.request_latency_ms, 1e-3)?;
        text.histogram("attempts", &self.attempts, 1.0)
    }

    fn by_topic(&self, text: &mut Text) -> fmt::Result {
        type Of = fn(&super::metrics::TopicMetrics) -> u64;
        let columns: [(&str, Of); 6] = [
            ("topic_records_delivered_total", |topic| topic.records_delivered),
            ("topic_records_failed_total", |topic| topic.records_failed),
            ("topic_records_unknown_total", |topic| topic.records_unknown),
            ("topic_records_retried_total", |topic| topic.records_retried),
            ("topic_batches_sent_total", |topic| topic.batches_sent),
            ("topic_bytes_sent_total", |topic| topic.bytes_sent),
        ];
        for (name, value) in columns {
            text.head(name, "counter")?;
            for topic in &self.topics {
                text.row(name, "topic", &topic.topic, value(topic))?;
            }
        }
        Ok(())
    }

    fn by_broker(&self, text: &mut Text) -> fmt::Result {
        type Of = fn(&super::metrics::BrokerMetrics) -> f64;
        let columns: [(&str, &str, Of); 7] = [
            ("broker_requests_sent_total", "counter", |one| one.requests_sent as f64),
            ("broker_requests_failed_total", "counter", |one| {
                one.requests_failed as f64
            }),
            ("broker_requests_in_flight", "gauge", |one| {
                one.requests_in_flight as f64
            }),
            ("broker_batches_sent_total", "counter", |one| one.batches_sent as f64),
            ("broker_bytes_sent_total", "counter", |one| one.bytes_sent as f64),
            ("broker_request_time_seconds_total", "counter", |one| {
                one.request_time.as_secs_f64()
            }),
            ("broker_throttle_time_seconds_total", "counter", |one| {
                one.throttle_time.as_secs_f64()
            }),
        ];
        for (name, kind, value) in columns {
            text.head(name, kind)?;
            for broker in &self.brokers {
                text.row(name, "broker_id", &broker.node_id.to_string(), value(broker))?;
            }
        }
        Ok(())
    }
}

struct Text {
    out: String,
    client: String,
}

impl Text {
    fn head(&mut self, name: &str, kind: &str) -> fmt::Result {
        writeln!(self.out, "# TYPE ottla_producer_{name} {kind}")
    }

    fn one(&mut self, name: &str, kind: &str, value: impl fmt::Display) -> fmt::Result {
        self.head(name, kind)?;
        writeln!(self.out, "ottla_producer_{name}{{{}}} {value}", self.client)
    }

    fn row(&mut self, name: &str, label: &str, of: &str, value: impl fmt::Display) -> fmt::Result {
        let of = escaped(of);
        writeln!(
            self.out,
            "ottla_producer_{name}{{{},{label}=\"{of}\"}} {value}",
            self.client
        )
    }

    fn histogram(&mut self, name: &str, histogram: &Histogram, scale: f64) -> fmt::Result {
        self.head(name, "histogram")?;
        let client = &self.client;
        for (bound, count) in histogram.cumulative() {
            let bound = bound * scale;
            writeln!(
                self.out,
                "ottla_producer_{name}_bucket{{{client},le=\"{bound}\"}} {count}"
            )?;
        }
        let (count, sum) = (histogram.count(), histogram.sum() * scale);
        writeln!(self.out, "ottla_producer_{name}_bucket{{{client},le=\"+Inf\"}} {count}")?;
        writeln!(self.out, "ottla_producer_{name}_sum{{{client}}} {sum}")?;
        writeln!(self.out, "ottla_producer_{name}_count{{{client}}} {count}")
    }
}

/// A label's value as the format wants it.
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::histogram::Recorder;
    use super::super::metrics::TopicMetrics;
    use super::*;

    #[test]
    fn every_line_is_a_comment_or_a_name_with_labels_and_a_number() {
        let latency = Recorder::default();
        [100, 2000, 30_000].iter().for_each(|value| latency.record(*value));
        let metrics = ProducerMetrics {
            client_id: "a \"quoted\\name\"\n".into(),
            request_latency_ms: latency.read(1e-3),
            topics: vec![TopicMetrics {
                topic: "orders".into(),
                records_delivered: 7,
                ..Default::default()
            }],
            ..Default::default()
        };
        let text = metrics.to_prometheus();
        for line in text.lines().filter(|line| !line.starts_with("# TYPE ottla_producer_")) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(name.starts_with("ottla_producer_") && name.ends_with('}'), "{line}");
        }
        let client = r#"client_id="a \"quoted\\name\"\n""#;
        for line in [
            format!("ottla_producer_topic_records_delivered_total{{{client},topic=\"orders\"}} 7\n"),
            format!("ottla_producer_request_latency_seconds_bucket{{{client},le=\"+Inf\"}} 3\n"),
            format!("ottla_producer_request_latency_seconds_count{{{client}}} 3\n"),
        ] {
            assert!(text.contains(&line), "{line}\nin\n{text}");
        }
    }
}
