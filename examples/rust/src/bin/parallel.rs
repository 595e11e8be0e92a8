//! Several workers on each partition, records of a key in order: `parallel BOOTSTRAP GROUP TOPIC`.
//!
//! Each key has its worker. An offset is committed only when every record before it is done, whoever did it. Ctrl-C
//! ends it when all that is in the workers' hands is done.

use std::time::Duration;

use ottla::{Consumer, ConsumerEvent, OwnedRecord, ProcessedOffsets, TopicPartition};
use tokio::sync::mpsc;

const WORKERS: usize = 4;
/// No more records than this are in the workers' hands.
const IN_HAND: usize = 1000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [bootstrap, group, topic] = &arguments[..] else {
        return Err("usage: parallel BOOTSTRAP GROUP TOPIC".into());
    };
    let builder = Consumer::builder().bootstrap_servers(bootstrap).group_id(group);
    let builder = builder.topics([topic.as_str()]).auto_offset_reset("earliest");
    let builder = builder.set("enable.auto.offset.store", false).rebalance_events(true);
    let mut consumer = builder.build().await?;
    let (done, mut finished) = mpsc::channel::<(TopicPartition, i64)>(IN_HAND);
    let workers: Vec<mpsc::Sender<OwnedRecord>> = (0..WORKERS)
        .map(|_| {
            let (give, mut take) = mpsc::channel::<OwnedRecord>(IN_HAND);
            let done = done.clone();
            tokio::spawn(async move {
                while let Some(record) = take.recv().await {
                    println!("{}-{} offset {}", record.topic, record.partition, record.offset); // the work
                    let place = TopicPartition::new(record.topic, record.partition);
                    let _ = done.send((place, record.offset)).await;
                }
            });
            give
        })
        .collect();
    let (mut processed, mut leaving, mut ends) = (ProcessedOffsets::new(), Vec::new(), false);
    let mut ctrl_c = std::pin::pin!(tokio::signal::ctrl_c());
    while !ends || processed.pending() > 0 {
        tokio::select! {
            _ = &mut ctrl_c, if !ends => ends = true,
            Some((place, offset)) = finished.recv() => { processed.done(&place, offset); }
            records = consumer.poll_timeout(Duration::from_millis(100)), if !ends && processed.pending() < IN_HAND => {
                let Some(records) = records? else { return Ok(()) };
                processed.begin(&records);
                for record in &records {
                    workers[ProcessedOffsets::worker_of(record.key(), WORKERS)].send(record.to_owned()).await?;
                }
            }
        }
        // Of partitions that were lost meanwhile nothing is stored, and nothing needs to be.
        let _ = consumer.store_offsets(processed.take_committable());
        match consumer.try_event() {
            Some(ConsumerEvent::Revoked(partitions)) => leaving = partitions,
            Some(ConsumerEvent::Lost(partitions, _)) => processed.forget(&partitions),
            _ => {}
        }
        if !leaving.is_empty() && leaving.iter().all(|partition| processed.pending_of(partition) == 0) {
            processed.forget(&leaving);
            leaving.clear();
            consumer.acknowledge_revocation()?;
        }
    }
    let closed = consumer.close(Duration::from_secs(10)).await;
    eprintln!("committed on closing: {:?}", closed.committed);
    Ok(())
}
