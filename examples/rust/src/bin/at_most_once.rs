//! At most once: measurements that are worthless when they come late. Each is sent once and never again.
//!
//! With `acks=1` the leader confirms, so that losses are at least counted; without that line nobody answers (`acks=0`),
//! which is cheaper, and losses go unnoticed.
//!
//! `cargo run -p ottla-examples --bin at_most_once -- localhost:9092`

use std::error::Error;
use std::time::Duration;

use ottla::{DeliverySemantics, Producer, Record};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let bootstrap = std::env::args().nth(1).unwrap_or_else(|| "localhost:9092".into());
    let producer = Producer::builder()
        .bootstrap_servers(bootstrap)
        .delivery_semantics(DeliverySemantics::AtMostOnce)
        .set("acks", 1)
        .build()
        .await?;

    for second in 0..1000 {
        let value = format!("{{\"second\":{second},\"temperature\":21.5}}");
        // The ticket is dropped: the record goes all the same, and nobody waits for its fate.
        producer.send(Record::to("temperature").value(&value)).await?;
    }

    let closed = producer.close(Duration::from_secs(10)).await?;
    println!(
        "{} delivered, {} lost, {} perhaps lost; none written twice",
        closed.delivered, closed.failed, closed.unknown
    );
    Ok(())
}
