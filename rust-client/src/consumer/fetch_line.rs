//! What is said to one broker, fetch after fetch.
//!
//! In: the targets of each fetch, and what its answer was. Out: requests on the broker's fetch lane, within a fetch session
//! (KIP-227) as long as the broker keeps one: see [`ottla_client_state::fetch_session`]. One request is under way at a
//! time. Sessions belong to a broker and not to a connection; a partition that is read from elsewhere is taken back here.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ottla_client_state::TopicPartition;
use ottla_client_state::fetch_session::{FINAL_EPOCH, FetchSession, Naming, Params, SessionRequest, Wanted};
use ottla_client_state::metadata::ClusterSnapshot;
use ottla_client_state::subscription::FetchTarget;
use ottla_protocol::messages::FetchRequest;
use ottla_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use ottla_protocol::{ErrorCode, Uuid};

use super::absorb::{Absorbed, News};
use super::fetcher::Shared;
use crate::error::{Error, Result};
use crate::net::Lane;
use crate::net::connection::Connection;
use crate::net::request::ResponseFrame;

/// From this version on topics have ids in Fetch, and no names.
pub(super) const TOPIC_IDS_FROM: i16 = 13;

/// From this version on a fetch tells the leader epoch of the record before its offset, and the answer where they part.
const LAST_EPOCH_FROM: i16 = 12;

/// From this version on there are fetch sessions.
const SESSIONS_FROM: i16 = 7;

/// The newest version of Fetch that is used. Version 18 is the last of Kafka 4.4.
const CAP: i16 = 18;

/// A fetch that was answered.
pub(super) struct Fetched {
    pub frame: ResponseFrame<FetchRequest<'static>>,
    /// Which topics had which ids.
    pub names: HashMap<Uuid, Arc<str>>,
    /// The request said only what had changed: what is left out of the answer has not.
    pub is_partial: bool,
    /// The broker that was asked.
    pub node_id: i32,
}

/// One fetcher's conversation with its broker.
#[derive(Debug)]
pub(super) struct FetchLine {
    node_id: i32,
    session: FetchSession,
    /// The one that the last request went out on.
    connection: Option<Arc<Connection>>,
}

impl FetchLine {
    pub fn to(node_id: i32) -> Self {
        FetchLine {
            node_id,
            session: FetchSession::new(),
            connection: None,
        }
    }

    pub fn node_id(&self) -> i32 {
        self.node_id
    }

    /// Fetches `targets`, at most `granted` bytes. What came of it must be told to [`FetchLine::settle_session`], also
    /// when this was dropped.
    ///
    /// # Errors
    /// There is no connection, or no answer came.
    pub async fn fetch(&mut self, shared: &Shared, targets: &[FetchTarget], granted: usize) -> Result<Fetched> {
        let config = &shared.config;
        let connection = shared.client.connection(self.node_id, Lane::Fetch).await?;
        let connection = &**self.connection.insert(connection);
        let snapshot = shared.client.metadata();
        let mut names = HashMap::new();
        for target in targets {
            let topic = &target.partition.topic;
            names.insert(id_of(&snapshot, topic), topic.clone());
        }
        // A topic whose id nobody has told can only be asked for by its name.
        let cap = if names.contains_key(&Uuid::ZERO) {
            TOPIC_IDS_FROM - 1
        } else {
            CAP
        };
        let version = connection.version_of::<FetchRequest<'_>>(cap)?;
        let wanted = wanted(targets, &snapshot, config.max_partition_fetch_bytes, version);
        let session = self.session.next_request(&wanted, naming(version));
        let request = FetchRequest {
            max_wait_ms: config.fetch_max_wait_ms,
            min_bytes: config.fetch_min_bytes,
            max_bytes: i32::try_from(granted).unwrap_or(i32::MAX),
            isolation_level: config.isolation_level.code(),
            session_id: session.id,
            session_epoch: session.epoch,
            topics: topics_of(&wanted, &session.named),
            forgotten_topics_data: forgotten_of(&session),
            rack_id: &config.client_rack,
            ..Default::default()
        };
        // The broker may park the request for fetch.max.wait.ms; only then does its time begin.
        let parked = Duration::from_millis(u64::try_from(config.fetch_max_wait_ms).unwrap_or(0));
        let frame = connection
            .send(version, &request, config.client.request_timeout + parked)?
            .await?;
        Ok(Fetched {
            frame: frame.detached(),
            names,
            is_partial: session.is_partial(),
            node_id: self.node_id,
        })
    }

    /// Takes in what the answer was. Says what it leads to.
    ///
    /// # Errors
    /// The fetch failed, and not only for want of its session.
    pub fn settle_session(&mut self, absorbed: Result<Absorbed>) -> Result<News> {
        match absorbed {
            Ok(Absorbed::Taken { news, session_id, fits }) => {
                self.session.handle_answer(session_id, fits);
                Ok(news)
            }
            Ok(Absorbed::Refused(refusal)) => {
                let code = ErrorCode::from_code(refusal.code).unwrap_or(ErrorCode::UnknownServerError);
                if self.session.handle_error(code) {
                    tracing::debug!(broker = %refusal.broker, error = code.name(), "the fetch session is over");
                    return Ok(News::TROUBLE);
                }
                Err(Error::from_code(refusal.code, "fetch").with_broker(&refusal.broker))
            }
            Err(error) => {
                self.session.handle_failure();
                Err(error)
            }
        }
    }

    /// Nothing more is fetched: the broker may forget the session. Nobody waits for that; if it comes to nothing, the
    /// broker forgets by itself when it needs the room.
    pub fn hang_up(self, shared: &Shared) {
        let (Some(session_id), Some(connection)) = (self.session.open(), self.connection) else {
            return;
        };
        let request = FetchRequest {
            session_id,
            session_epoch: FINAL_EPOCH,
            ..Default::default()
        };
        let timeout = shared.config.client.request_timeout;
        let sent = connection
            .version_of::<FetchRequest<'_>>(CAP)
            .and_then(|version| connection.send(version, &request, timeout));
        if let Err(error) = sent {
            tracing::debug!(%error, "the fetch session is left to the broker");
        }
    }
}

fn naming(version: i16) -> Naming {
    match version {
        TOPIC_IDS_FROM.. => Naming::Ids,
        SESSIONS_FROM.. => Naming::Names,
        _ => Naming::NoSessions,
    }
}

fn id_of(snapshot: &ClusterSnapshot, topic: &str) -> Uuid {
    snapshot.topic(topic).map_or(Uuid::ZERO, |topic| topic.id)
}

fn wanted<'a>(targets: &'a [FetchTarget], snapshot: &ClusterSnapshot, max_bytes: i32, version: i16) -> Vec<Wanted<'a>> {
    let wanted = |target: &'a FetchTarget| {
        let TopicPartition { topic, partition } = &target.partition;
        let leader = snapshot.leader_of(topic, *partition);
        Wanted {
            partition: &target.partition,
            topic_id: id_of(snapshot, topic),
            params: Params {
                offset: target.offset,
                last_epoch: target.last_epoch.filter(|_| version >= LAST_EPOCH_FROM).unwrap_or(-1),
                leader_epoch: leader.map_or(-1, |leader| leader.epoch),
                max_bytes,
            },
        }
    };
    targets.iter().map(wanted).collect()
}

/// The named ones, by topic, in their order.
fn topics_of<'a>(wanted: &[Wanted<'a>], named: &[usize]) -> Vec<FetchTopic<'a>> {
    let mut topics: Vec<FetchTopic<'a>> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for wanted in named.iter().filter_map(|place| wanted.get(*place)) {
        let topic: &'a str = &wanted.partition.topic;
        let place = *places.entry(topic).or_insert_with(|| {
            topics.push(FetchTopic {
                topic,
                topic_id: wanted.topic_id,
                ..Default::default()
            });
            topics.len() - 1
        });
        let Params {
            offset,
            last_epoch,
            leader_epoch,
            max_bytes,
        } = wanted.params;
        topics[place].partitions.push(FetchPartition {
            partition: wanted.partition.partition,
            current_leader_epoch: leader_epoch,
            fetch_offset: offset,
            last_fetched_epoch: last_epoch,
            partition_max_bytes: max_bytes,
            ..Default::default()
        });
    }
    topics
}

fn forgotten_of(session: &SessionRequest) -> Vec<ForgottenTopic<'_>> {
    let mut topics: Vec<ForgottenTopic<'_>> = Vec::new();
    for (TopicPartition { topic, partition }, id) in &session.forgotten {
        match topics.last_mut() {
            Some(last) if last.topic == &**topic && last.topic_id == *id => last.partitions.push(*partition),
            _ => topics.push(ForgottenTopic {
                topic,
                topic_id: *id,
                partitions: vec![*partition],
            }),
        }
    }
    topics
}
