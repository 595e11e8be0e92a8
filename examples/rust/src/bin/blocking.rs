//! A program without an async runtime: threads that send, and a thread that reads.
//!
//! `cargo run -p ottla-examples --bin blocking -- localhost:9092`

use std::error::Error;
use std::time::Duration;

use ottla::blocking::{Admin, Consumer, Producer};
use ottla::{ErrorCode, NewTopic};

const THREADS: usize = 4;
const RECORDS: usize = 250;

fn main() -> Result<(), Box<dyn Error>> {
    let bootstrap = std::env::args().nth(1).unwrap_or_else(|| "localhost:9092".into());
    let admin = Admin::builder().bootstrap_servers(&bootstrap).build()?;
    for (_, answer) in admin.create_topics(&[NewTopic::new("blocking").partitions(1)])? {
        match answer {
            Err(error) if error.code() != Some(ErrorCode::TopicAlreadyExists) => return Err(error.into()),
            _ => {}
        }
    }

    let mut consumer = Consumer::builder()
        .bootstrap_servers(&bootstrap)
        .assign([("blocking", 0)])
        .auto_offset_reset("latest")
        .build()?;
    consumer.position(&("blocking", 0).into())?; // from here on, whatever is in the topic already
    let reader = std::thread::spawn(move || {
        let mut read = 0;
        while read < THREADS * RECORDS {
            read += consumer.poll()?.map_or(0, |records| records.len());
        }
        Ok::<usize, ottla::Error>(read)
    });

    let producer = Producer::builder().bootstrap_servers(&bootstrap).build()?;
    let send = |thread: usize| -> Result<(), ottla::Error> {
        let topic = producer.topic("blocking")?;
        let value = format!("from thread {thread}");
        (0..RECORDS).try_for_each(|_| topic.send(topic.record().value(&value)).map(drop))
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || send(thread))).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    let closed = producer.close(Duration::from_secs(10))?;
    let read = reader.join().map_err(|_| "the reader panicked")??;
    println!("{} delivered, {read} read", closed.delivered);
    Ok(())
}
