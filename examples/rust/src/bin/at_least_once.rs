//! At least once: events that must not get lost, for readers that do not mind seeing one twice.
//!
//! The producer repeats a record until all in-sync replicas have it. What it gives up after `delivery.timeout.ms` is sent
//! again by the program: that may write it twice, and says so.
//!
//! `cargo run -p ottla-examples --bin at_least_once -- localhost:9092`

use std::error::Error;
use std::time::Duration;

use ottla::{DeliverySemantics, Persisted, Producer, Record};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let bootstrap = std::env::args().nth(1).unwrap_or_else(|| "localhost:9092".into());
    let producer = Producer::builder()
        .bootstrap_servers(bootstrap)
        .delivery_semantics(DeliverySemantics::AtLeastOnce)
        .build()
        .await?;

    let orders: Vec<String> = (0..1000).map(|number| format!("{{\"order\":{number}}}")).collect();
    let mut open: Vec<&String> = orders.iter().collect();
    let mut perhaps_twice = 0;
    while !open.is_empty() {
        let mut sent = Vec::new();
        for order in std::mem::take(&mut open) {
            sent.push((order, producer.send(Record::to("orders").value(order)).await?));
        }
        for (order, delivery) in sent {
            match delivery.await {
                Ok(_) => {}
                // Another attempt may succeed; whether it is a second copy depends on what became of the first.
                Err(error) if error.retriable() => {
                    perhaps_twice += usize::from(error.persisted() != Persisted::No);
                    open.push(order);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    producer.close(Duration::from_secs(10)).await?;
    println!("{} orders written, {perhaps_twice} of them perhaps twice", orders.len());
    Ok(())
}
