use super::*;
use crate::log::disk::RealDisk;
use crate::log::{LogConfig, LogManager, ManagerConfig};
use ottla_broker_state::controller::registration::{self, Registration};
use ottla_protocol::Uuid;
use ottla_protocol::internal::{PartitionRecord, RemoveTopicRecord, TopicRecord};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};

/// A quorum and the lock on its directory.
struct Opened {
    quorum: Arc<Quorum>,
    _logs: LogManager,
}

fn try_open(dir: &Path) -> Result<Opened, QuorumError> {
    let logs = LogManager::open(Arc::new(RealDisk), ManagerConfig::new(vec![dir.to_owned()], 1)).unwrap();
    let log = logs.open_metadata_log(LogConfig::default(), 0).unwrap();
    let quorum = Quorum::open(log, logs.cluster_id(), 1)?;
    Ok(Opened { quorum, _logs: logs })
}

fn open(dir: &Path) -> Opened {
    try_open(dir).unwrap()
}

fn topic(name: &str, id: u8, partitions: i32) -> Vec<MetadataRecord<'_>> {
    let topic_id = Uuid([id; 16]);
    let partition = |partition_id| {
        MetadataRecord::Partition(PartitionRecord {
            partition_id,
            topic_id,
            replicas: vec![1],
            isr: vec![1],
            directories: vec![Uuid::ZERO],
            leader: 1,
            leader_epoch: 0,
            partition_epoch: 0,
            ..PartitionRecord::default()
        })
    };
    let mut records = vec![MetadataRecord::Topic(TopicRecord { name, topic_id })];
    records.extend((0..partitions).map(partition));
    records
}

async fn commit(quorum: &Arc<Quorum>, records: &[MetadataRecord<'_>]) -> Result<i64, QuorumError> {
    quorum.turn().await.commit(records).await
}

fn names(quorum: &Quorum) -> Vec<String> {
    quorum.image().topics().map(|topic| topic.name.to_string()).collect()
}

fn log_file(dir: &Path) -> std::path::PathBuf {
    dir.join("__cluster_metadata-0").join("00000000000000000000.log")
}

#[tokio::test]
async fn what_is_committed_is_there_after_a_restart_in_a_new_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let cluster_id = {
        let opened = open(dir.path());
        assert_eq!(opened.quorum.epoch(), 1);
        // Offset 0 is the leader change.
        assert_eq!(commit(&opened.quorum, &topic("a", 1, 2)).await.unwrap(), 3);
        assert_eq!(opened.quorum.image().offset(), 3);
        assert_eq!(commit(&opened.quorum, &topic("b", 2, 1)).await.unwrap(), 5);
        opened.quorum.image().cluster_id().to_owned()
    };
    let opened = open(dir.path());
    assert_eq!(opened.quorum.epoch(), 2);
    assert_eq!(opened.quorum.image().offset(), 6);
    assert_eq!(opened.quorum.image().cluster_id(), cluster_id);
    assert_eq!(names(&opened.quorum), ["a", "b"]);
    assert_eq!(opened.quorum.image().topic("a").unwrap().partitions.len(), 2);
}

#[tokio::test]
async fn a_log_cut_at_any_byte_of_its_last_batch_keeps_all_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let before;
    {
        let opened = open(dir.path());
        commit(&opened.quorum, &topic("a", 1, 1)).await.unwrap();
        before = fs::metadata(log_file(dir.path())).unwrap().len();
        commit(&opened.quorum, &topic("b", 2, 1)).await.unwrap();
    }
    let whole = fs::read(log_file(dir.path())).unwrap();
    let copy = tempfile::tempdir().unwrap();
    for cut in usize::try_from(before).unwrap()..=whole.len() {
        let metadata_dir = copy.path().join("__cluster_metadata-0");
        let _ = fs::remove_dir_all(&metadata_dir);
        fs::create_dir_all(&metadata_dir).unwrap();
        fs::write(log_file(copy.path()), &whole[..cut]).unwrap();
        let opened = open(copy.path());
        let expected: &[&str] = if cut == whole.len() { &["a", "b"] } else { &["a"] };
        assert_eq!(names(&opened.quorum), expected, "cut at {cut}");
        // It goes on where it stands.
        commit(&opened.quorum, &topic("c", 3, 1)).await.unwrap();
        drop(opened);
        assert_eq!(
            names(&open(copy.path()).quorum).last().map(String::as_str),
            Some("c"),
            "cut at {cut}"
        );
    }
}

#[tokio::test]
async fn what_does_not_apply_never_reaches_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path());
    let end = opened.quorum.turn().await.next_offset();
    let wrong = [
        topic("a", 1, 1),
        vec![MetadataRecord::RemoveTopic(RemoveTopicRecord {
            topic_id: Uuid([9; 16]),
        })],
    ]
    .concat();
    assert!(matches!(
        commit(&opened.quorum, &wrong).await,
        Err(QuorumError::Apply { .. })
    ));
    assert_eq!(opened.quorum.turn().await.next_offset(), end);
    assert!(names(&opened.quorum).is_empty());
    assert_eq!(commit(&opened.quorum, &[]).await.unwrap(), end - 1);
}

struct Watcher {
    quorum: Arc<Quorum>,
    seen: Mutex<Vec<(i64, usize)>>,
    published_before: AtomicI64,
}

impl MetadataSubscriber for Watcher {
    fn metadata_changed(&self, update: &MetadataUpdate) {
        self.published_before
            .store(self.quorum.image().offset(), Ordering::SeqCst);
        self.seen
            .lock()
            .unwrap()
            .push((update.image.offset(), update.changes.len()));
    }
}

#[tokio::test]
async fn subscribers_hear_of_each_commit_in_order_and_before_it_is_published() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path());
    let quorum = opened.quorum.clone();
    let watcher = Arc::new(Watcher {
        quorum,
        seen: Mutex::default(),
        published_before: AtomicI64::new(-1),
    });
    opened.quorum.subscribe(watcher.clone());
    commit(&opened.quorum, &topic("a", 1, 2)).await.unwrap();
    assert_eq!(watcher.published_before.load(Ordering::SeqCst), 0);
    commit(&opened.quorum, &topic("b", 2, 0)).await.unwrap();
    assert_eq!(*watcher.seen.lock().unwrap(), [(3, 3), (4, 1)]);
    assert_eq!(watcher.published_before.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_dropped_commit_is_finished_before_the_next_turn() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path());
    let turn = opened.quorum.turn().await;
    let records = topic("a", 1, 1);
    let mut dropped = Box::pin(turn.commit(&records));
    let waker = std::task::Waker::noop();
    // Polled once, it is on its way; then its caller goes away.
    let _ = std::future::Future::poll(dropped.as_mut(), &mut std::task::Context::from_waker(waker));
    drop(dropped);
    assert_eq!(opened.quorum.turn().await.image().topic_count(), 1);
}

#[tokio::test]
async fn the_log_begins_with_a_leader_change_that_readers_skip() {
    let dir = tempfile::tempdir().unwrap();
    {
        let opened = open(dir.path());
        let registration = Registration {
            id: 1,
            incarnation_id: Uuid([1; 16]),
            listeners: vec![("PLAINTEXT", "localhost", 9092)],
            rack: None,
            log_dirs: vec![],
        };
        let mut records = registration::bootstrap(&opened.quorum.image());
        records.push(registration::register(&registration, 2));
        commit(&opened.quorum, &records).await.unwrap();
    }
    let bytes = fs::read(log_file(dir.path())).unwrap();
    let batches: Vec<_> = RecordBatches::new(&bytes).map(Result::unwrap).collect();
    assert_eq!(batches.len(), 2);
    assert!(batches[0].is_control() && !batches[1].is_control());
    let mut scratch = Decompressor::new();
    let record = batches[0].records(&mut scratch, 1024).unwrap().next().unwrap().unwrap();
    assert_eq!(record.key(), Some(&[0, 0, 0, 2][..]));
    let mut reader = ottla_protocol::Reader::new(record.value().unwrap());
    let message = LeaderChangeMessage::decode(&mut reader, 0).unwrap();
    assert_eq!((message.leader_id, message.voters.len()), (1, 1));
    assert!(
        batches
            .iter()
            .all(|batch| batch.partition_leader_epoch() == 1 && batch.producer_id() == -1)
    );
}

#[test]
fn a_record_of_another_version_stops_the_start() {
    let dir = tempfile::tempdir().unwrap();
    {
        let opened = open(dir.path());
        let mut builder = RecordBatchBuilder::new(Vec::new());
        builder.append(0, None, Some(&[1, 99, 0]), &[]).unwrap();
        let mut batch = builder.seal(Compression::None, None).unwrap();
        batch.stamp(-1, -1, -1, false);
        opened.quorum.log.append_durably(&batch.to_vec(), 1, 0).unwrap();
    }
    assert!(matches!(
        try_open(dir.path()),
        Err(QuorumError::Decode { offset: 1, .. })
    ));
}
