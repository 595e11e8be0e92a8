//! An observer: gives each record a header that says who sent it, and notes what goes wrong on the way.
//!
//! `cargo run -p ottla-examples --bin observer -- localhost:9092`

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ottla::{Acknowledgement, OutgoingRecord, Producer, ProducerEvent, ProducerObserver, Record};

#[derive(Default)]
struct Auditor {
    acknowledged: AtomicU64,
}

impl ProducerObserver for Auditor {
    fn wants_records(&self) -> bool {
        true // without this there is no cost for each record, only for each batch
    }

    fn on_send(&self, record: &mut OutgoingRecord<'_>) {
        record.add_header("sent-by", Some("observer example"));
    }

    fn on_acknowledgement(&self, acknowledgement: &Acknowledgement<'_>) {
        if acknowledgement.result.is_ok() {
            self.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn on_event(&self, event: &ProducerEvent<'_>) {
        if let ProducerEvent::BatchRetried { partition, reason, .. } = event {
            eprintln!("{partition} is sent again: {reason}");
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let bootstrap = std::env::args().nth(1).unwrap_or_else(|| "localhost:9092".into());
    let auditor = Arc::new(Auditor::default());
    let builder = Producer::builder()
        .bootstrap_servers(bootstrap)
        .observer(auditor.clone());
    let producer = builder.build().await?;
    for number in 0..100 {
        let value = number.to_string();
        producer.send(Record::to("audited").value(&value)).await?;
    }
    producer.flush().await;

    println!("{} acknowledged", auditor.acknowledged.load(Ordering::Relaxed));
    let latency = producer.metrics().request_latency_ms;
    println!(
        "{} requests, {:.2} ms at the 99th percentile",
        latency.count(),
        latency.quantile(0.99)
    );
    Ok(())
}
