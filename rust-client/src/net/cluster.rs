//! All brokers: who is where, who leads what, and when to ask again.
//!
//! In: the bootstrap servers, the topics somebody is interested in. Out: a [`ClusterSnapshot`] that is replaced with
//! every metadata answer, and a [`Broker`] for every node.
//!
//! One task asks for metadata: on demand, by age, and after failures with backoff. When no known broker can be
//! reached it starts again from the bootstrap servers (KIP-899), because all brokers may have moved. It never fails
//! for good: while the client lives, it keeps trying.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use ottla_client_state::Time;
use ottla_client_state::backoff::Backoff;
use ottla_client_state::metadata::{ClusterSnapshot, Leader, Node, RefreshTimer, Scope};
use ottla_protocol::Uuid;
use ottla_protocol::messages::MetadataRequest;
use ottla_protocol::messages::metadata_request::MetadataRequestTopic;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::Lane;
use super::broker::{Broker, Endpoint};
use super::coordinators::Coordinators;
use super::tls::Tls;
use crate::config::ClientConfig;
use crate::error::{Error, ErrorKind, Result};

/// The metadata version from which a broker may be asked for no topic at all; before, an empty list means all.
const NO_TOPICS_FROM: i16 = 1;

/// The metadata version from which topics may be asked for by their ids.
const IDS_FROM: i16 = 12;

/// The newest version of Metadata that is used.
const METADATA_CAP: i16 = i16::MAX;

/// All that is known about the cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    config: Arc<ClientConfig>,
    tls: Option<Tls>,
    started: Instant,
    snapshot: ArcSwap<ClusterSnapshot>,
    changed: watch::Sender<u64>,
    bootstrap: Vec<Arc<Broker>>,
    brokers: Mutex<HashMap<i32, Arc<Broker>>>,
    interest: Mutex<HashMap<Arc<str>, Interest>>,
    timer: Mutex<RefreshTimer>,
    wake: Notify,
    coordinators: Coordinators,
    /// Why the last question failed, for those who give up waiting.
    last_error: Mutex<Option<Error>>,
}

/// A topic that somebody wants to know about.
#[derive(Debug, Clone, Copy)]
struct Interest {
    last_used: Time,
}

impl Cluster {
    /// Knows nothing but the bootstrap servers.
    ///
    /// # Errors
    /// [`ErrorKind::Config`]: a certificate or key cannot be used.
    pub fn new(config: Arc<ClientConfig>, started: Instant) -> Result<Self> {
        let tls = config.security.tls.as_ref().map(|tls| Tls::new(tls)).transpose()?;
        let bootstrap = config
            .bootstrap_servers
            .iter()
            .map(|address| Endpoint {
                host: address.host.as_str().into(),
                port: address.port,
                told_by: None,
            })
            .map(|endpoint| Arc::new(Broker::new(None, endpoint, config.clone(), tls.clone())))
            .collect();
        let backoff = Backoff::new(config.retry_backoff_ms, config.retry_backoff_max_ms, rand::random());
        Ok(Cluster {
            tls,
            started,
            snapshot: ArcSwap::from_pointee(ClusterSnapshot::default()),
            changed: watch::channel(0).0,
            bootstrap,
            brokers: Mutex::default(),
            interest: Mutex::default(),
            timer: Mutex::new(RefreshTimer::new(config.metadata_max_age_ms, backoff)),
            wake: Notify::new(),
            coordinators: Coordinators::default(),
            last_error: Mutex::default(),
            config,
        })
    }

    /// The picture of the cluster as of the last answer.
    pub fn snapshot(&self) -> Arc<ClusterSnapshot> {
        self.snapshot.load_full()
    }

    /// Tells of every new picture.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Why the last question for metadata failed; `None` after an answer.
    pub fn last_error(&self) -> Option<Error> {
        lock(&self.last_error).clone()
    }

    /// Asks for metadata soon, because what is known has turned out to be wrong or too little.
    pub fn request_refresh(&self) {
        lock(&self.timer).handle_wanted();
        self.wake.notify_one();
    }

    /// Wants to know about `topic` from now on. If it is new, its metadata is asked for at once, and the answer is true.
    pub fn add_interest(&self, topic: &str) -> bool {
        let now = self.now();
        let mut interest = lock(&self.interest);
        if let Some(known) = interest.get_mut(topic) {
            known.last_used = now;
            return false;
        }
        interest.insert(topic.into(), Interest { last_used: now });
        drop(interest);
        self.request_news();
        true
    }

    /// Nobody waits for `topic` any more, and it is not there.
    pub fn drop_interest(&self, topic: &str) {
        lock(&self.interest).remove(topic);
        // What was said about it must not answer the next one who asks.
        self.snapshot.rcu(|snapshot| snapshot.retained(|name| name != topic));
    }

    fn request_news(&self) {
        lock(&self.timer).handle_news();
        self.wake.notify_one();
    }

    /// Wants to know about exactly these topics.
    pub fn set_interest<'t>(&self, topics: impl IntoIterator<Item = &'t str>) {
        let now = self.now();
        let wanted: HashMap<Arc<str>, Interest> = topics
            .into_iter()
            .map(|topic| (topic.into(), Interest { last_used: now }))
            .collect();
        let before = std::mem::replace(&mut *lock(&self.interest), wanted);
        if lock(&self.interest).keys().any(|topic| !before.contains_key(topic)) {
            self.request_news();
        }
    }

    /// The broker with this id.
    ///
    /// # Errors
    /// No metadata answer has named it.
    pub fn broker(&self, id: i32) -> Result<Arc<Broker>> {
        let found = lock(&self.brokers).get(&id).cloned();
        found.ok_or_else(|| {
            Error::new(
                ErrorKind::Connect,
                format!("broker {id} is not known to the cluster's metadata"),
            )
        })
    }

    /// The broker that an answer has named; its address counts if metadata has not told another.
    pub(super) fn learn(&self, node: &Node, told_by: &Arc<str>) -> Arc<Broker> {
        let new = || {
            let endpoint = endpoint_of(node, told_by);
            Arc::new(Broker::new(
                Some(node.id),
                endpoint,
                self.config.clone(),
                self.tls.clone(),
            ))
        };
        lock(&self.brokers).entry(node.id).or_insert_with(new).clone()
    }

    pub(super) fn coordinators(&self) -> &Coordinators {
        &self.coordinators
    }

    pub(super) fn request_timeout(&self) -> Duration {
        self.config.request_timeout
    }

    /// A broker for a question that any can answer: a connected one before one that is known, that one before a
    /// bootstrap server.
    pub fn any_broker(&self) -> Arc<Broker> {
        let known: Vec<Arc<Broker>> = lock(&self.brokers).values().cloned().collect();
        let all: Vec<Arc<Broker>> = known.into_iter().chain(self.bootstrap.iter().cloned()).collect();
        let start = rand::random_range(0..all.len().max(1));
        let turned = || (0..all.len()).map(|i| &all[(start + i) % all.len()]);
        let best = turned().min_by_key(|broker| {
            (
                !broker.is_connected(),
                broker.is_backing_off(),
                broker.id().is_none(),
                broker.failures(),
            )
        });
        best.unwrap_or(&self.bootstrap[0]).clone()
    }

    /// Learns the cluster for the first time: every bootstrap server is asked once, in turn.
    ///
    /// # Errors
    /// None answered; the text has all their reasons. One that refuses to be spoken to ends it at once.
    pub async fn bootstrap(&self) -> Result<()> {
        let mut failures = Vec::new();
        for broker in &self.bootstrap {
            match self.ask(broker, Question::Interest).await {
                Ok(()) => {
                    lock(&self.timer).next_refresh(self.now());
                    self.settle_success(true);
                    return Ok(());
                }
                // The others would be asked with the same password and the same certificates.
                Err(error) if error.kind() == ErrorKind::Authentication => return Err(error),
                Err(error) => failures.push(error),
            }
        }
        Err(no_server(failures))
    }

    /// Keeps the picture fresh until `closed`. The one task of the cluster.
    pub async fn run(self: Arc<Self>, mut closed: watch::Receiver<bool>) {
        tokio::select! {
            () = self.keep_fresh() => {}
            _ = closed.wait_for(|closed| *closed) => {}
        }
        for broker in lock(&self.brokers).values().chain(&self.bootstrap) {
            broker.close();
        }
    }

    async fn keep_fresh(&self) {
        let mut last_success = Instant::now();
        loop {
            let wake_at = lock(&self.timer).wake_at();
            let due = self.started + Duration::from_millis(wake_at.map_or(0, |at| at.0.min(MAX_SLEEP_MS)));
            tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                () = self.wake.notified() => {}
            }
            if !lock(&self.timer).next_refresh(self.now()) {
                continue;
            }
            self.forget_idle();
            match self.refresh(last_success).await {
                Ok(()) => {
                    last_success = Instant::now();
                    self.settle_success(self.is_satisfied());
                }
                Err(error) => {
                    tracing::warn!(%error, "metadata could not be fetched; trying again");
                    let hopeless = error.kind() == ErrorKind::Authentication;
                    *lock(&self.last_error) = Some(error);
                    lock(&self.timer).handle_failed(self.now());
                    if hopeless {
                        // Who waits for news shall hear it now.
                        self.changed.send_modify(|_| {});
                    }
                }
            }
        }
    }

    fn settle_success(&self, satisfied: bool) {
        *lock(&self.last_error) = None;
        lock(&self.timer).handle_refreshed(satisfied, self.now());
    }

    /// Asks known brokers, and the bootstrap servers when none of the known can be reached.
    async fn refresh(&self, last_success: Instant) -> Result<()> {
        let trigger = Duration::from_millis(self.config.rebootstrap_trigger_ms);
        let forced = self.config.rebootstrap && last_success.elapsed() >= trigger && self.last_error().is_some();
        let mut known: Vec<Arc<Broker>> = lock(&self.brokers).values().cloned().collect();
        if forced || known.is_empty() {
            return self.rebootstrap().await;
        }
        // A connection that lives answers soonest; of the others, those that failed least.
        known.sort_by_key(|broker| (!broker.is_connected(), broker.failures()));
        let mut last = None;
        for broker in known {
            // One that has just failed is not asked again before its time; the others may know more.
            if broker.is_backing_off() && !broker.is_connected() && last.is_some() {
                continue;
            }
            match self.ask(&broker, Question::Interest).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    tracing::debug!(broker = %broker.label(), %error, "no metadata from this broker");
                    last = Some(error);
                }
            }
        }
        if self.config.rebootstrap {
            tracing::info!("no known broker can be reached; starting again from bootstrap.servers");
            return self.rebootstrap().await;
        }
        Err(last.unwrap_or_else(|| Error::new(ErrorKind::Connect, "no broker is known")))
    }

    async fn rebootstrap(&self) -> Result<()> {
        let mut failures = Vec::new();
        for broker in &self.bootstrap {
            match self.ask(broker, Question::Interest).await {
                Ok(()) => return Ok(()),
                Err(error) => failures.push(error),
            }
        }
        Err(no_server(failures))
    }

    /// All topics of the cluster, asked now.
    ///
    /// # Errors
    /// The broker that was asked did not answer.
    pub async fn all_topics(&self) -> Result<Arc<ClusterSnapshot>> {
        let broker = self.any_broker();
        let (snapshot, _) = self.fetch(&broker, Question::All).await?;
        Ok(Arc::new(snapshot))
    }

    /// Asks for topics by their ids, and merges them into the picture.
    ///
    /// # Errors
    /// The broker that was asked did not answer, or is too old for the question.
    pub async fn learn_topics(&self, ids: &[Uuid]) -> Result<()> {
        let connection = self.any_broker().connection(Lane::Other).await?;
        let version = connection.version_of::<MetadataRequest>(METADATA_CAP)?;
        if version < IDS_FROM {
            let text = "the broker is too old to be asked for topics by their ids";
            return Err(Error::new(ErrorKind::Unsupported, text).with_broker(connection.broker()));
        }
        let topic = |id: &Uuid| MetadataRequestTopic {
            topic_id: *id,
            name: None,
        };
        let request = MetadataRequest {
            topics: Some(ids.iter().map(topic).collect()),
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        let frame = connection.send(version, &request, self.config.request_timeout)?.await?;
        let response = frame.decode()?;
        if response.error_code != 0 {
            return Err(Error::from_code(response.error_code, "metadata").with_broker(frame.broker()));
        }
        let snapshot = self.snapshot.load().merged(&response, Scope::Some);
        if snapshot.nodes().len() > 0 {
            self.take_in(snapshot, frame.broker());
        }
        Ok(())
    }

    async fn ask(&self, broker: &Broker, question: Question) -> Result<()> {
        let (snapshot, told_by) = self.fetch(broker, question).await?;
        self.take_in(snapshot, &told_by);
        Ok(())
    }

    /// Sends one question and merges its answer into the picture that was there when it came.
    async fn fetch(&self, broker: &Broker, question: Question) -> Result<(ClusterSnapshot, Arc<str>)> {
        let connection = broker.connection(Lane::Other).await?;
        let version = connection.version_of::<MetadataRequest>(METADATA_CAP)?;
        let names: Vec<Arc<str>> = lock(&self.interest).keys().cloned().collect();
        let (topics, scope) = match question {
            Question::All => (None, Scope::All),
            Question::Interest if names.is_empty() && version < NO_TOPICS_FROM => (None, Scope::All),
            Question::Interest => (Some(names), Scope::Some),
        };
        let list = topics
            .as_ref()
            .map(|names| names.iter().map(|name| topic_named(name)).collect());
        let request = MetadataRequest {
            topics: if version == 0 {
                Some(list.unwrap_or_default())
            } else {
                list
            },
            allow_auto_topic_creation: self.config.allow_auto_create_topics || version < 4,
            ..Default::default()
        };
        let frame = connection.send(version, &request, self.config.request_timeout)?.await?;
        let response = frame.decode()?;
        if response.error_code != 0 {
            return Err(Error::from_code(response.error_code, "metadata").with_broker(frame.broker()));
        }
        // A broker that is starting may not know any broker yet, not even itself. Believing it would leave nobody to
        // ask.
        let snapshot = self.snapshot.load().merged(&response, scope);
        if snapshot.nodes().len() == 0 {
            let text = "the broker knows no brokers yet";
            return Err(Error::new(ErrorKind::Protocol, text)
                .with_retriable(true)
                .with_broker(frame.broker()));
        }
        Ok((snapshot, frame.broker().clone()))
    }

    fn take_in(&self, snapshot: ClusterSnapshot, told_by: &Arc<str>) {
        self.update_brokers(&snapshot, told_by);
        let generation = snapshot.generation;
        self.snapshot.store(Arc::new(snapshot));
        self.changed.send_replace(generation);
    }

    fn update_brokers(&self, snapshot: &ClusterSnapshot, told_by: &Arc<str>) {
        let mut brokers = lock(&self.brokers);
        brokers.retain(|id, broker| {
            let stays = snapshot.node(*id).is_some();
            if !stays {
                broker.close();
            }
            stays
        });
        for node in snapshot.nodes() {
            let endpoint = endpoint_of(node, told_by);
            match brokers.get(&node.id) {
                Some(broker) => broker.move_to(endpoint),
                None => {
                    let broker = Broker::new(Some(node.id), endpoint, self.config.clone(), self.tls.clone());
                    brokers.insert(node.id, Arc::new(broker));
                }
            }
        }
    }

    /// Takes in a newer leader that a produce or fetch answer named (KIP-951). True if it was news.
    pub fn update_leader(
        &self,
        topic: &str,
        partition: i32,
        leader: Leader,
        node: Option<Node>,
        told_by: &Arc<str>,
    ) -> bool {
        let next = self.snapshot.load().with_leader(topic, partition, leader, node);
        match next {
            Some(next) => {
                self.take_in(next, told_by);
                true
            }
            None => false,
        }
    }

    /// Whether every topic of interest has a leader for every partition, or an error that asking again cannot mend.
    fn is_satisfied(&self) -> bool {
        let snapshot = self.snapshot.load();
        let interest = lock(&self.interest);
        interest.keys().all(|name| {
            if snapshot.topic_refusal(name).is_some() {
                return true;
            }
            match (snapshot.topic(name), snapshot.topic_error(name)) {
                (_, Some(_)) | (None, None) => false,
                (Some(topic), None) => topic
                    .partitions
                    .iter()
                    .all(|partition| snapshot.leader_of(name, partition.partition).is_some()),
            }
        })
    }

    /// A producer forgets topics that nobody has sent to for `metadata.max.idle.ms`.
    fn forget_idle(&self) {
        let Some(max_idle) = self.config.metadata_max_idle_ms else {
            return;
        };
        let now = self.now();
        let mut interest = lock(&self.interest);
        let before = interest.len();
        interest.retain(|_, interest| now.ms_since(interest.last_used) <= max_idle);
        if interest.len() < before {
            self.snapshot
                .rcu(|snapshot| snapshot.retained(|name| interest.contains_key(name)));
        }
    }

    fn now(&self) -> Time {
        Time(self.started.elapsed().as_millis() as u64)
    }
}

/// The longest sleep that is asked of the timer; `metadata.max.age.ms` may be longer than time itself.
const MAX_SLEEP_MS: u64 = 365 * 24 * 3600 * 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    /// The topics that somebody is interested in.
    Interest,
    /// All topics there are.
    All,
}

fn topic_named(name: &str) -> MetadataRequestTopic<'_> {
    MetadataRequestTopic {
        name: Some(name),
        ..Default::default()
    }
}

fn endpoint_of(node: &Node, told_by: &Arc<str>) -> Endpoint {
    Endpoint {
        host: node.host.clone(),
        port: node.port,
        told_by: Some(told_by.clone()),
    }
}

/// None of the bootstrap servers answered, or not to us.
fn no_server(mut failures: Vec<Error>) -> Error {
    let refusal = failures.iter().find(|error| error.kind() == ErrorKind::Authentication);
    if let Some(refusal) = refusal {
        return refusal.clone();
    }
    if failures.len() == 1
        && let Some(only) = failures.pop()
    {
        return only;
    }
    let reasons: Vec<String> = failures.iter().map(Error::to_string).collect();
    Error::new(
        ErrorKind::Connect,
        format!("no bootstrap server answered: {}", reasons.join("; ")),
    )
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these locks guard is replaced whole; whoever panicked left nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
