//! What producer, consumer and admin client share: the cluster, the clocks, the way to send a request.
//!
//! In: a checked configuration. Out: answers. It owns the metadata task and ends it when the last handle is gone.
//! It sends each request once: who sends decides whether and when to try again.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ottla_client_state::Time;
use ottla_client_state::metadata::{ClusterSnapshot, Leader, Node};
use ottla_protocol::{ErrorCode, Message, Uuid};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::{ClientConfig, ClientKind};
use crate::error::{Error, ErrorKind, Persisted, Result, nearest};
use crate::net::Lane;
use crate::net::broker::Broker;
use crate::net::cluster::Cluster;
use crate::net::connection::Connection;
use crate::net::request::{ClientRequest, ResponseFrame};

/// How many metadata answers in a row must not know a topic before it counts as missing: some brokers hear of a new
/// topic later than others, and asking so often takes one to two seconds.
const DENIALS: u32 = 5;

/// The handle on the cluster that the parts of one client share.
#[derive(Debug)]
pub(crate) struct Client {
    config: Arc<ClientConfig>,
    cluster: Arc<Cluster>,
    started: Instant,
    /// Set when the client closes; the metadata task ends with it.
    closed: watch::Sender<bool>,
}

impl Client {
    /// Learns the cluster from the bootstrap servers and keeps its picture fresh from then on.
    ///
    /// # Errors
    /// No bootstrap server answered; each was tried once. Retriable: a broker may be starting. Not retriable: one did not
    /// accept who we are, or showed a certificate that is not trusted.
    pub async fn connect(config: ClientConfig) -> Result<Arc<Client>> {
        let config = Arc::new(config);
        let started = Instant::now();
        let cluster = Arc::new(Cluster::new(config.clone(), started)?);
        cluster.bootstrap().await?;
        let (closed, until) = watch::channel(false);
        tokio::spawn(cluster.clone().run(until));
        Ok(Arc::new(Client {
            config,
            cluster,
            started,
            closed,
        }))
    }

    /// The configuration that all clients have.
    pub fn config(&self) -> &Arc<ClientConfig> {
        &self.config
    }

    /// Milliseconds since this client started; what state machines are given.
    pub fn now(&self) -> Time {
        Time(self.started.elapsed().as_millis() as u64)
    }

    /// The moment that `time` stands for, to sleep until it.
    pub fn instant(&self, time: Time) -> Instant {
        // A century is as good as never, and an `Instant` can still hold it.
        const CENTURY_MS: u64 = 100 * 365 * 24 * 3600 * 1000;
        self.started + Duration::from_millis(time.0.min(CENTURY_MS))
    }

    /// The wall clock, in milliseconds since 1970. Cheap, and up to some 4 ms behind.
    pub fn wall_ms(&self) -> i64 {
        coarse_wall_ms()
    }

    /// The wall clock, in milliseconds since 1970, exactly.
    pub fn exact_wall_ms(&self) -> i64 {
        exact_wall_ms()
    }

    /// The picture of the cluster as of the last metadata answer.
    pub fn metadata(&self) -> Arc<ClusterSnapshot> {
        self.cluster.snapshot()
    }

    /// Tells of every new picture of the cluster.
    pub fn metadata_changed(&self) -> watch::Receiver<u64> {
        self.cluster.changed()
    }

    /// Asks for metadata soon, because what is known has turned out to be wrong.
    pub fn request_refresh(&self) {
        self.cluster.request_refresh();
    }

    /// Says that `topic` is in use, so that its metadata is kept. Asks for it if it is new.
    pub fn touch_topic(&self, topic: &str) {
        self.cluster.add_interest(topic);
    }

    /// Keeps metadata of exactly these topics.
    pub fn set_topics<'t>(&self, topics: impl IntoIterator<Item = &'t str>) {
        self.cluster.set_interest(topics);
    }

    /// Takes in a newer leader that an answer named (KIP-951).
    pub fn update_leader(
        &self,
        topic: &str,
        partition: i32,
        leader: Leader,
        node: Option<Node>,
        told_by: &Arc<str>,
    ) -> bool {
        self.cluster.update_leader(topic, partition, leader, node, told_by)
    }

    /// Why the last question for metadata failed; `None` after an answer.
    pub fn metadata_error(&self) -> Option<Error> {
        self.cluster.last_error()
    }

    /// All topics of the cluster, asked now.
    ///
    /// # Errors
    /// The broker that was asked did not answer.
    pub async fn all_topics(&self) -> Result<Arc<ClusterSnapshot>> {
        self.cluster.all_topics().await
    }

    /// Asks for topics by their ids; they are in the picture of the cluster afterwards, if they exist.
    ///
    /// # Errors
    /// The broker that was asked did not answer, or cannot be asked by id (before Kafka 3.1).
    pub async fn learn_topics(&self, ids: &[Uuid]) -> Result<()> {
        self.cluster.learn_topics(ids).await
    }

    /// A picture of the cluster with `topic` in it. Waits for it until `deadline`. Cancel-safe.
    ///
    /// # Errors
    /// At once when the topic cannot be had (invalid name, not authorized, not authenticated), at `deadline` when no broker answered. When
    /// it does not exist: at `deadline` for a producer, for others after several brokers' answers have said so. The
    /// text then names the existing topic with the nearest name.
    pub async fn topic_metadata(&self, topic: &str, deadline: Instant) -> Result<Arc<ClusterSnapshot>> {
        let fresh = self.cluster.add_interest(topic);
        let outcome = self.wait_for_topic(topic, fresh, deadline).await;
        // A topic that is not there is not asked for again and again on behalf of nobody.
        if outcome.is_err() && fresh {
            self.cluster.drop_interest(topic);
        }
        outcome
    }

    async fn wait_for_topic(&self, topic: &str, fresh: bool, deadline: Instant) -> Result<Arc<ClusterSnapshot>> {
        let mut changed = self.cluster.changed();
        let mut asked = false;
        let mut denials = 0;
        loop {
            changed.mark_unchanged();
            let snapshot = self.cluster.snapshot();
            denials += u32::from(asked && snapshot.topic_error(topic) == Some(ErrorCode::UnknownTopicOrPartition));
            // A producer waits for max.block.ms, as somebody may create the topic; who asks about a topic wants to know.
            if denials >= DENIALS && self.config.kind != ClientKind::Producer {
                return Err(self.explain_missing(topic).await);
            }
            if snapshot.topic(topic).is_some_and(|topic| !topic.partitions.is_empty()) {
                return Ok(snapshot);
            }
            if let Some(code) = snapshot.topic_refusal(topic)
                && (asked || !fresh)
            {
                return Err(Error::from_code(code.code(), format_args!("topic {topic:?}")));
            }
            // Asking again would be refused again, and waiting would hide why.
            if let Some(error) = self.cluster.last_error().filter(|_| asked)
                && error.kind() == ErrorKind::Authentication
            {
                return Err(error);
            }
            if !asked && !fresh {
                self.cluster.request_refresh();
            }
            asked = true;
            if tokio::time::timeout_at(deadline, changed.changed()).await.is_err() {
                return Err(self.explain_missing(topic).await);
            }
        }
    }

    /// Why a topic is not known although it was asked for.
    pub async fn explain_missing(&self, topic: &str) -> Error {
        if let Some(error) = self.cluster.last_error() {
            return Error::timeout(
                format_args!("the metadata of topic {topic:?} could not be fetched in time"),
                Some(&error),
            );
        }
        match self.cluster.snapshot().topic_error(topic) {
            Some(ErrorCode::UnknownTopicOrPartition) | None => {}
            Some(code) => return Error::from_code(code.code(), format_args!("topic {topic:?}")),
        }
        let known = tokio::time::timeout(Duration::from_secs(1), self.all_topics()).await;
        let names = known.ok().and_then(Result::ok).unwrap_or_default();
        let near = nearest(topic, names.topics().map(|topic| &*topic.name)).filter(|near| *near != topic);
        let hint = near.map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
        Error::new(ErrorKind::UnknownTopic, format!("topic {topic:?} does not exist{hint}"))
            .with_code(ErrorCode::UnknownTopicOrPartition)
            .with_retriable(true)
    }

    /// A living connection to a broker. Requests sent on it are written in the order of the calls.
    ///
    /// # Errors
    /// The broker is not known, or one attempt to connect has failed.
    pub async fn connection(&self, node_id: i32, lane: Lane) -> Result<Arc<Connection>> {
        self.cluster.broker(node_id)?.connection(lane).await
    }

    /// Sends a request to a broker and waits for its answer, in the newest version that both know, at most `cap`.
    /// Cancel-safe: dropping it gives the answer up, never a half-written request.
    ///
    /// # Errors
    /// No connection, no answer in `request.timeout.ms`, no common version.
    pub async fn request<'m, M: Message<'m> + ClientRequest>(
        &self,
        node_id: i32,
        lane: Lane,
        cap: i16,
        body: &M,
    ) -> Result<ResponseFrame<M>> {
        let broker = self.cluster.broker(node_id)?;
        self.ask(&broker, lane, cap, body).await
    }

    /// As [`Client::request`], to any broker.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn request_any<'m, M: Message<'m> + ClientRequest>(
        &self,
        cap: i16,
        body: &M,
    ) -> Result<ResponseFrame<M>> {
        self.ask(&self.cluster.any_broker(), Lane::Other, cap, body).await
    }

    /// As [`Client::request`], to the broker that answers for the controller.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn request_controller<'m, M: Message<'m> + ClientRequest>(
        &self,
        cap: i16,
        body: &M,
    ) -> Result<ResponseFrame<M>> {
        let controller = self.cluster.snapshot().controller;
        let broker = match controller.map(|id| self.cluster.broker(id)) {
            Some(Ok(broker)) => broker,
            _ => self.cluster.any_broker(),
        };
        self.ask(&broker, Lane::Other, cap, body).await
    }

    /// Finds out who coordinates `group`, unless it is known. Cancel-safe.
    ///
    /// # Errors
    /// No broker answered, or none can say.
    pub async fn find_coordinator(&self, group: &str) -> Result<()> {
        self.cluster.coordinator(group).await.map(drop)
    }

    /// Sends a request to the coordinator of `group`, in the newest of `versions` that both know. `build` makes the
    /// request for that version. Cancel-safe.
    ///
    /// A coordinator that cannot be reached is forgotten; one that answers that it is not the coordinator is not, as
    /// the answer is not read here: see [`Client::forget_coordinator`].
    ///
    /// # Errors
    /// No coordinator, no connection, no answer in `timeout`, no common version.
    pub async fn request_coordinator<'m, M: Message<'m> + ClientRequest>(
        &self,
        group: &str,
        lane: Lane,
        versions: RangeInclusive<i16>,
        timeout: Duration,
        build: impl Fn(i16) -> M,
    ) -> Result<ResponseFrame<M>> {
        let broker = self.cluster.coordinator(group).await?;
        let ask = async || {
            let connection = broker.connection(lane).await?;
            let version = connection.version_of::<M>(*versions.end())?;
            if version < *versions.start() {
                let text = format!("the broker is too old: version {} or newer is needed", versions.start());
                let error = Error::new(ErrorKind::Unsupported, text).with_broker(connection.broker());
                return Err(error.with_api(M::API_KEY, version));
            }
            connection.send(version, &build(version), timeout)?.await
        };
        let outcome = match ask().await {
            // The connection was idle and closed in the same moment; the request has not left.
            Err(error) if error.kind() == ErrorKind::Disconnected && error.persisted() == Persisted::No => ask().await,
            outcome => outcome,
        };
        if let Err(error) = &outcome
            && matches!(
                error.kind(),
                ErrorKind::Connect | ErrorKind::Disconnected | ErrorKind::Timeout
            )
        {
            self.cluster.forget_coordinator(group);
        }
        outcome
    }

    /// Who was said to coordinate `group` does not; it is looked up again when it is needed.
    pub fn forget_coordinator(&self, group: &str) {
        self.cluster.forget_coordinator(group);
    }

    /// Whether a broker has asked to be left alone on `lane` for now (a quota is used up).
    pub fn is_throttled(&self, node_id: i32, lane: Lane) -> bool {
        self.cluster
            .broker(node_id)
            .is_ok_and(|broker| broker.is_throttled(lane))
    }

    /// The broker id of the coordinator of `group`, if it is known.
    pub fn known_coordinator(&self, group: &str) -> Option<i32> {
        self.cluster.known_coordinator(group)
    }

    async fn ask<'m, M: Message<'m> + ClientRequest>(
        &self,
        broker: &Broker,
        lane: Lane,
        cap: i16,
        body: &M,
    ) -> Result<ResponseFrame<M>> {
        let connection = broker.connection(lane).await?;
        let first = self.ask_on(&connection, cap, body).await;
        match first {
            // The connection may have been idle and closed in the same moment; the request has not left.
            Err(error) if error.kind() == ErrorKind::Disconnected && error.persisted() == Persisted::No => {
                let connection = broker.connection(lane).await?;
                self.ask_on(&connection, cap, body).await
            }
            other => other,
        }
    }

    async fn ask_on<'m, M: Message<'m> + ClientRequest>(
        &self,
        connection: &Connection,
        cap: i16,
        body: &M,
    ) -> Result<ResponseFrame<M>> {
        let version = connection.version_of::<M>(cap)?;
        connection.send(version, body, self.config.request_timeout)?.await
    }

    /// Ends the metadata task and lets the connections go.
    pub fn close(&self) {
        self.closed.send_replace(true);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.close();
    }
}

fn exact_wall_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Reading the exact clock costs about 20 ns, a fifth of what a small record may cost altogether; the kernel's coarse
/// clock costs a quarter of that.
#[cfg(target_os = "linux")]
fn coarse_wall_ms() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    now.tv_sec.saturating_mul(1000).saturating_add(now.tv_nsec / 1_000_000)
}

#[cfg(not(target_os = "linux"))]
fn coarse_wall_ms() -> i64 {
    exact_wall_ms()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coarse_clock_is_close_to_the_exact_one() {
        let (coarse, exact) = (coarse_wall_ms(), exact_wall_ms());
        assert!((coarse - exact).abs() < 1000, "coarse {coarse}, exact {exact}");
    }
}
