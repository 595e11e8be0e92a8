//! What a consumer is built from.
//!
//! In: keys, partitions or topics, a listener. Out: a connected [`Consumer`]. It refuses what cannot work together before
//! it connects.

use std::fmt;
use std::sync::Arc;

use ottla_client_state::TopicPartition;
use ottla_client_state::assignor::{Assignor, by_name};
use ottla_client_state::membership::{self, Membership};
use ottla_protocol::Uuid;

use super::Consumer;
use super::group::Group;
use super::rebalance::RebalanceListener;
use crate::config::{
    ClientKind, ConsumerConfig, GroupConfig, GroupProtocol, Properties, Settings, assignor_names, common_setters,
};
use crate::error::{Error, ErrorKind, Result};

/// Collects the configuration of a [`Consumer`].
#[derive(Debug, Clone)]
pub struct ConsumerBuilder {
    settings: Settings,
    partitions: Vec<TopicPartition>,
    topics: Option<Vec<Arc<str>>>,
    pattern: Option<String>,
    group_parts: GroupParts,
}

/// What a group's consumer has beside its configuration.
#[derive(Clone, Default)]
pub(super) struct GroupParts {
    listener: Option<Arc<dyn RebalanceListener>>,
    by_events: bool,
    assignors: Vec<Arc<dyn Assignor>>,
}

impl fmt::Debug for GroupParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupParts")
            .field("listener", &self.listener.is_some())
            .field("by_events", &self.by_events)
            .field("assignors", &self.assignors)
            .finish()
    }
}

impl ConsumerBuilder {
    common_setters!();

    pub(super) fn new() -> Self {
        ConsumerBuilder::of(Settings::new(ClientKind::Consumer))
    }

    fn of(settings: Settings) -> Self {
        ConsumerBuilder {
            settings,
            partitions: Vec::new(),
            topics: None,
            pattern: None,
            group_parts: GroupParts::default(),
        }
    }

    pub(super) fn from_properties(properties: impl Into<Properties>) -> Result<Self> {
        Settings::from_properties(ClientKind::Consumer, properties).map(ConsumerBuilder::of)
    }

    /// The partitions to read from the start; see [`Consumer::assign`].
    #[must_use]
    pub fn assign(mut self, partitions: impl IntoIterator<Item = impl Into<TopicPartition>>) -> Self {
        self.partitions = partitions.into_iter().map(Into::into).collect();
        self
    }

    /// The group that it belongs to (`group.id`).
    #[must_use]
    pub fn group_id(self, id: impl ToString) -> Self {
        self.set("group.id", id)
    }

    /// A name of this member that outlives it: static membership (`group.instance.id`).
    #[must_use]
    pub fn group_instance_id(self, id: impl ToString) -> Self {
        self.set("group.instance.id", id)
    }

    /// How the group shares partitions: `classic` or `consumer` (`group.protocol`).
    #[must_use]
    pub fn group_protocol(self, protocol: impl ToString) -> Self {
        self.set("group.protocol", protocol)
    }

    /// Whether processed offsets are committed by themselves (`enable.auto.commit`, default true with a group).
    #[must_use]
    pub fn enable_auto_commit(self, yes: bool) -> Self {
        self.set("enable.auto.commit", yes)
    }

    /// The topics to subscribe to from the start; see [`Consumer::subscribe`].
    #[must_use]
    pub fn topics(mut self, topics: impl IntoIterator<Item = impl Into<Arc<str>>>) -> Self {
        self.topics = Some(topics.into_iter().map(Into::into).collect());
        self
    }

    /// The pattern to subscribe to from the start; see [`Consumer::subscribe_pattern`].
    #[must_use]
    pub fn topic_pattern(mut self, pattern: impl Into<String>) -> Self {
        self.pattern = Some(pattern.into());
        self
    }

    /// Who is told, inside of polls, when partitions come and go.
    #[must_use]
    pub fn rebalance_listener(mut self, listener: impl RebalanceListener + 'static) -> Self {
        self.group_parts.listener = Some(Arc::new(listener));
        self
    }

    /// Has the application take events of rebalances itself ([`Consumer::try_event`]) and say when it has let go of revoked
    /// partitions ([`Consumer::acknowledge_revocation`]). Instead of a listener.
    #[must_use]
    pub fn rebalance_events(mut self, yes: bool) -> Self {
        self.group_parts.by_events = yes;
        self
    }

    /// An assignor of one's own, preferred to those of `partition.assignment.strategy`; call it again for several, the most
    /// preferred first. All members of the group must have one in common.
    #[must_use]
    pub fn assignor(mut self, assignor: impl Assignor + 'static) -> Self {
        self.group_parts.assignors.push(Arc::new(assignor));
        self
    }

    /// Where to start without a position: `earliest`, `latest`, `none`, `by_duration:PT1H` (`auto.offset.reset`).
    #[must_use]
    pub fn auto_offset_reset(self, policy: impl ToString) -> Self {
        self.set("auto.offset.reset", policy)
    }

    /// The most records that one poll hands over (`max.poll.records`, default 500).
    #[must_use]
    pub fn max_poll_records(self, records: usize) -> Self {
        self.set("max.poll.records", records)
    }

    /// Hands over only records of committed transactions, or all (`isolation.level`).
    #[must_use]
    pub fn read_committed(self, yes: bool) -> Self {
        self.set(
            "isolation.level",
            if yes { "read_committed" } else { "read_uncommitted" },
        )
    }

    /// Looks for mistakes in keys and values, without connecting.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for the first one.
    pub fn validate(&self) -> Result<()> {
        let config = self.settings.clone().consumer()?;
        self.check(&config)?;
        self.group_parts.group(&config, 0).map(drop)
    }

    fn check(&self, config: &ConsumerConfig) -> Result<()> {
        let wanted = [
            !self.partitions.is_empty(),
            self.topics.is_some(),
            self.pattern.is_some(),
        ];
        let text = if wanted.iter().filter(|wanted| **wanted).count() > 1 {
            "a consumer has either partitions (assign), topics (topics) or a pattern (topic_pattern)"
        } else if config.group.is_none() && (self.topics.is_some() || self.pattern.is_some()) {
            "group.id is missing: only a member of a group can subscribe to topics; without one, use assign"
        } else if self.group_parts.listener.is_some() && self.group_parts.by_events {
            "rebalances are told to a listener or by events, not both: leave out rebalance_listener or rebalance_events"
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::Config, text))
    }

    /// Checks the configuration, connects, and starts to fetch what was assigned, or to join the group.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], or no bootstrap server answered (each is tried once).
    pub async fn build(self) -> Result<Consumer> {
        let config = self.settings.clone().consumer()?;
        self.check(&config)?;
        let group = self.group_parts.group(&config, rand::random())?;
        let consumer = Consumer::connect(config, group).await?;
        if !self.partitions.is_empty() {
            consumer.assign(&self.partitions)?;
        }
        if let Some(topics) = self.topics {
            consumer.subscribe(topics)?;
        }
        if let Some(pattern) = self.pattern {
            consumer.subscribe_pattern(&pattern)?;
        }
        Ok(consumer)
    }
}

impl GroupParts {
    fn group(&self, config: &ConsumerConfig, seed: u64) -> Result<Option<Group>> {
        let Some(group) = &config.group else { return Ok(None) };
        let membership = self.membership(group, config, seed)?;
        Ok(Some(Group::new(
            group.clone(),
            membership,
            self.listener.clone(),
            self.by_events,
        )))
    }

    fn membership(&self, group: &GroupConfig, config: &ConsumerConfig, seed: u64) -> Result<Membership> {
        let own = membership::GroupConfig {
            group_instance_id: group.instance_id.as_deref().map(Into::into),
            rack: Some(config.client_rack.as_str())
                .filter(|rack| !rack.is_empty())
                .map(Into::into),
            session_timeout_ms: group.session_timeout_ms,
            heartbeat_interval_ms: group.heartbeat_interval_ms,
            max_poll_interval_ms: group.max_poll_interval_ms,
            retry_backoff_ms: config.client.retry_backoff_ms,
            retry_backoff_max_ms: config.client.retry_backoff_max_ms,
            seed,
            ..membership::GroupConfig::new(group.id.as_str())
        };
        let made = match group.protocol {
            GroupProtocol::Classic => Membership::classic(own, self.assignors(group)?),
            GroupProtocol::Consumer => {
                let member_id = Uuid(rand::random()).to_string();
                let remote = group.remote_assignor.as_deref().map(Into::into);
                Ok(Membership::consumer(own, member_id, remote))
            }
        };
        made.map_err(|error| {
            let text = format!("partition.assignment.strategy: {error}");
            Error::new(ErrorKind::Config, text).with_source(error)
        })
    }

    fn assignors(&self, group: &GroupConfig) -> Result<Vec<Arc<dyn Assignor>>> {
        let mut assignors = self.assignors.clone();
        for name in &group.assignors {
            let Some(found) = by_name(name) else {
                let text = format!(
                    "partition.assignment.strategy names {name:?}; known are {}",
                    assignor_names().join(", ")
                );
                return Err(Error::new(ErrorKind::Config, text));
            };
            if !assignors.iter().any(|known| known.name() == found.name()) {
                assignors.push(found);
            }
        }
        Ok(assignors)
    }
}
