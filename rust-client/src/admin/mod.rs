//! Managing topics, configurations, consumer groups and the cluster.
//!
//! Calls about several things answer for each of them: one topic's trouble is not the others'. What a passing state
//! of the cluster causes (a controller that moved, a lost connection) is tried again until `default.api.timeout.ms`;
//! what the broker refuses is not.

mod cluster;
mod configs;
mod groups;
#[cfg(test)]
mod tests;
mod topics;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use ottla_client_state::TopicPartition;
use ottla_client_state::backoff::Backoff;
use ottla_protocol::{ErrorCode, Message};
use tokio::time::Instant;

use crate::client::Client;
use crate::config::{AdminConfig, ClientKind, IsolationLevel, Properties, Settings, common_setters};
use crate::consumer::{EARLIEST, LATEST, ListedOffset, list_offsets_until};
use crate::error::{Error, ErrorKind, Result};
use crate::net::Lane;
use crate::net::request::{ClientRequest, ResponseFrame};

pub use cluster::{BrokerInfo, ClusterDescription};
pub use configs::{ConfigChange, ConfigEntry, ConfigResource, ConfigSource};
pub use groups::{ConsumerGroupDescription, GroupListing, GroupPartitionLag, MemberDescription, MemberToRemove};
pub use topics::{CreatedTopic, NewTopic, PartitionDescription, TopicDescription, TopicListing};

/// The answer for each thing that a call was about.
pub type Answers<K, T> = BTreeMap<K, Result<T>>;

/// Collects the configuration of an [`Admin`].
#[derive(Debug, Clone)]
pub struct AdminBuilder {
    settings: Settings,
}

impl AdminBuilder {
    common_setters!();

    /// How long a call may take, all its attempts together (`default.api.timeout.ms`, default 60 s).
    #[must_use]
    pub fn default_api_timeout(self, timeout: Duration) -> Self {
        self.set("default.api.timeout.ms", timeout.as_millis())
    }

    /// Looks for mistakes in keys and values, without connecting.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`] for the first one.
    pub fn validate(&self) -> Result<()> {
        self.settings.clone().admin().map(drop)
    }

    /// Checks the configuration and connects.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`], or no bootstrap server answered (each is tried once).
    pub async fn build(self) -> Result<Admin> {
        let config = self.settings.admin()?;
        let client = Client::connect(config.client.clone()).await?;
        Ok(Admin { client, config })
    }
}

/// Which offset of a partition is asked for; see [`Admin::list_offsets`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The first one that is still there.
    Earliest,
    /// The one after the last record.
    Latest,
    /// That of the record with the highest timestamp (KIP-734).
    MaxTimestamp,
    /// That of the first record whose timestamp is at least this, in milliseconds since 1970.
    Timestamp(i64),
}

/// Asks for the record with the highest timestamp.
const MAX_TIMESTAMP: i64 = -3;

/// Manages topics, configurations, consumer groups and the cluster. Calls may run at the same time.
#[derive(Debug)]
pub struct Admin {
    client: Arc<Client>,
    config: AdminConfig,
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.client.close();
    }
}

impl Admin {
    /// Collects a configuration.
    pub fn builder() -> AdminBuilder {
        AdminBuilder {
            settings: Settings::new(ClientKind::Admin),
        }
    }

    /// A builder with the keys of a properties file or of pairs.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`]: an unreadable file, an unknown key, a value that does not fit.
    pub fn from_properties(properties: impl Into<Properties>) -> Result<AdminBuilder> {
        Ok(AdminBuilder {
            settings: Settings::from_properties(ClientKind::Admin, properties)?,
        })
    }

    /// Looks up offsets of partitions.
    ///
    /// # Errors
    /// A topic or partition does not exist, or no answer came in time.
    pub async fn list_offsets(
        &self,
        partitions: &[(TopicPartition, OffsetSpec)],
    ) -> Result<BTreeMap<TopicPartition, ListedOffset>> {
        let timestamp = |spec: &OffsetSpec| match spec {
            OffsetSpec::Earliest => EARLIEST,
            OffsetSpec::Latest => LATEST,
            OffsetSpec::MaxTimestamp => MAX_TIMESTAMP,
            OffsetSpec::Timestamp(ms) => (*ms).max(0),
        };
        let queries = partitions
            .iter()
            .map(|(partition, spec)| (partition.clone(), timestamp(spec)))
            .collect();
        list_offsets_until(&self.client, IsolationLevel::ReadUncommitted, queries, self.deadline()).await
    }

    /// Closes the connections, as dropping it does. Calls that are open end with an error.
    pub async fn close(self) {
        drop(self);
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.config.default_api_timeout
    }

    /// What a broker may take to do what was asked, as requests say it: the time that is left.
    fn timeout_ms(&self) -> i32 {
        let time = self.config.client.request_timeout.min(self.config.default_api_timeout);
        i32::try_from(time.as_millis()).unwrap_or(i32::MAX)
    }

    fn retry<'a>(&'a self, what: &'a str) -> Retry<'a> {
        let config = &self.config.client;
        Retry {
            admin: self,
            what,
            deadline: self.deadline(),
            backoff: Backoff::new(config.retry_backoff_ms, config.retry_backoff_max_ms, rand::random()),
            failures: 0,
            last: None,
        }
    }

    /// Asks once more as long as the trouble may pass.
    async fn retrying<T, F: Future<Output = Result<T>>>(&self, what: &str, mut ask: impl FnMut() -> F) -> Result<T> {
        let mut retry = self.retry(what);
        loop {
            match retry.attempt(ask()).await? {
                Err(error) if passes(&error) => retry.wait(error).await?,
                outcome => return outcome,
            }
        }
    }

    /// Asks for many things at once, again for those whose trouble may pass. `ask` gets the things still open and
    /// gives their answers.
    async fn for_each<K: Ord + Clone, T, F>(
        &self,
        what: &str,
        keys: impl IntoIterator<Item = K>,
        mut ask: impl FnMut(Vec<K>) -> F,
    ) -> Result<Answers<K, T>>
    where
        F: Future<Output = Result<Vec<(K, Result<T>)>>>,
    {
        let mut retry = self.retry(what);
        let mut open: Vec<K> = keys.into_iter().collect();
        let mut done = Answers::new();
        while !open.is_empty() {
            let trouble = match retry.attempt(ask(open.clone())).await {
                Ok(Ok(answers)) => settle(&mut open, &mut done, answers),
                Ok(Err(error)) => Some(error),
                Err(error) if done.is_empty() => return Err(error),
                Err(error) => return Ok(close(open, done, &error)),
            };
            let Some(error) = trouble else { continue };
            let over = if passes(&error) {
                retry.wait(error).await.err()
            } else {
                Some(error)
            };
            match over {
                None => {}
                Some(error) if done.is_empty() => return Err(error),
                Some(error) => return Ok(close(open, done, &error)),
            }
        }
        Ok(done)
    }

    async fn ask_controller<'m, M: Message<'m> + ClientRequest>(&self, cap: i16, body: &M) -> Result<ResponseFrame<M>> {
        self.client.request_controller(cap, body).await
    }

    async fn ask_broker<'m, M: Message<'m> + ClientRequest>(&self, id: i32, body: &M) -> Result<ResponseFrame<M>> {
        self.client.request(id, Lane::Other, i16::MAX, body).await
    }
}

/// Takes in answers; gives the trouble of those that must be asked for again, if any.
fn settle<K: Ord + Clone, T>(
    open: &mut Vec<K>,
    done: &mut Answers<K, T>,
    answers: Vec<(K, Result<T>)>,
) -> Option<Error> {
    let mut trouble = None;
    for (key, answer) in answers {
        match answer {
            Err(error) if passes(&error) => trouble = Some(error),
            answer => {
                open.retain(|known| *known != key);
                done.entry(key).or_insert(answer);
            }
        }
    }
    let left_out = || Error::new(ErrorKind::Protocol, "the broker left something out of its answer");
    (!open.is_empty()).then(|| trouble.unwrap_or_else(left_out))
}

/// What has no answer gets the error.
fn close<K: Ord, T>(open: Vec<K>, mut done: Answers<K, T>, error: &Error) -> Answers<K, T> {
    for key in open {
        done.entry(key).or_insert_with(|| Err(error.clone()));
    }
    done
}

/// Whether trouble may pass by itself: the controller moved, a connection was lost, a quota was used up.
fn passes(error: &Error) -> bool {
    match error.code() {
        // The broker gave up waiting, but goes on doing what was asked: asking again finds it done.
        Some(ErrorCode::RequestTimedOut) => false,
        Some(ErrorCode::UnknownTopicOrPartition) => false,
        _ => error.retriable(),
    }
}

/// The story of one call's attempts.
struct Retry<'a> {
    admin: &'a Admin,
    what: &'a str,
    deadline: Instant,
    backoff: Backoff,
    failures: u32,
    last: Option<Error>,
}

impl Retry<'_> {
    /// One attempt, cut off at the deadline.
    async fn attempt<T>(&self, attempt: impl Future<Output = Result<T>>) -> Result<Result<T>> {
        let outcome = tokio::time::timeout_at(self.deadline, attempt).await;
        outcome.map_err(|_| Error::timeout(format_args!("could not {} in time", self.what), self.last.as_ref()))
    }

    /// Waits before the next attempt, or says that there is none.
    async fn wait(&mut self, error: Error) -> Result<()> {
        self.failures += 1;
        if self.failures > self.admin.config.retries {
            return Err(error);
        }
        self.admin.client.request_refresh();
        let again = Instant::now() + Duration::from_millis(self.backoff.next_ms(self.failures));
        if again >= self.deadline {
            return Err(Error::timeout(
                format_args!("could not {} in time", self.what),
                Some(&error),
            ));
        }
        self.last = Some(error);
        tokio::time::sleep_until(again).await;
        Ok(())
    }
}

/// The error of one thing: the broker's code, and its own words if it has any.
fn item_error(code: i16, words: Option<&str>, subject: impl std::fmt::Display) -> Error {
    let error = Error::from_code(code, subject);
    match words.filter(|words| !words.is_empty()) {
        Some(words) => error.with_suffix(words),
        None => error,
    }
}
