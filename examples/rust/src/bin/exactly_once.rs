//! Exactly once per partition: the producer repeats, the broker recognises what it has, and the order is kept. This is
//! what a producer does by default; the name makes sure that no key in a file undoes it.
//!
//! The promise is about the retries inside one producer. A record that is given up as `Possibly` is not sent again here:
//! whoever does that needs to look into the log first.
//!
//! `cargo run -p ottla-examples --bin exactly_once -- localhost:9092`

use std::error::Error;
use std::time::Duration;

use ottla::{DeliverySemantics, Persisted, Producer, Record};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let bootstrap = std::env::args().nth(1).unwrap_or_else(|| "localhost:9092".into());
    let producer = Producer::builder()
        .bootstrap_servers(bootstrap)
        .delivery_semantics(DeliverySemantics::ExactlyOnce)
        .build()
        .await?;

    let mut deliveries = Vec::new();
    for number in 0..1000 {
        let (account, value) = (format!("account-{}", number % 7), format!("{{\"booking\":{number}}}"));
        // Bookings of one account have one key, so they are in one partition and in order.
        let record = Record::to("bookings").key(&account).value(&value);
        deliveries.push(producer.send(record).await?);
    }

    let (mut written, mut doubtful) = (0, 0);
    for delivery in deliveries {
        match delivery.await {
            Ok(_) => written += 1,
            Err(error) if error.persisted() == Persisted::No => return Err(error.into()),
            Err(error) => {
                doubtful += 1;
                for attempt in error.attempts() {
                    eprintln!("broker {}: {}", attempt.broker_id, attempt.reason);
                }
            }
        }
    }

    producer.close(Duration::from_secs(10)).await?;
    println!("{written} bookings written once and in order, {doubtful} in doubt");
    Ok(())
}
