//! Reading as a member of a group: subscribing, the group's say, signs of life, events.
//!
//! In: topics or a pattern. Out: nothing but word to the coordinator task; what is assigned comes with the rebalance. A
//! consumer either subscribes or assigns its partitions itself, never both at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ottla_client_state::TopicPartition;
use ottla_client_state::backoff::Backoff;
use ottla_client_state::commit::OffsetAndMetadata;
use tokio::time::Instant;

use super::Consumer;
use super::committed::fetch_committed;
use super::group::{Interest, acknowledge, handle_alive, has_left, subscription_of, take_steps};
use super::pattern::TopicPattern;
use super::rebalance::ConsumerEvent;
use crate::config::{GroupProtocol, IsolationLevel};
use crate::error::{Error, ErrorKind, Result};

/// Who this consumer is in its group; for whoever commits offsets on its behalf.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumerGroupMetadata {
    /// `group.id`.
    pub group_id: Arc<str>,
    /// The generation (classic) or member epoch (consumer); -1 while it is no member.
    pub generation_id: i32,
    /// The member id; empty while it is no member.
    pub member_id: Arc<str>,
    /// `group.instance.id`.
    pub group_instance_id: Option<Arc<str>>,
}

impl Consumer {
    /// Reads these topics as a member of the group, instead of those before. Does not wait: partitions come with the
    /// rebalance that this begins, and are handed over by [`Consumer::poll`].
    ///
    /// A topic that does not exist is told by the log, and read as soon as it is created. One that this client may not read,
    /// or whose name is none, is told by a poll, once. No topic at all is a subscription too: the consumer joins and gets
    /// nothing.
    ///
    /// # Errors
    /// There is no `group.id` ([`ErrorKind::Config`]), an empty name, partitions were assigned by
    /// [`Consumer::assign`], or the consumer is closed.
    pub fn subscribe(&self, topics: impl IntoIterator<Item = impl Into<Arc<str>>>) -> Result<()> {
        let topics: BTreeSet<Arc<str>> = topics.into_iter().map(Into::into).collect();
        if topics.iter().any(|topic| topic.is_empty()) {
            return Err(Error::new(ErrorKind::Argument, "the name of a topic is empty"));
        }
        self.interested_in(Interest::Topics(topics))
    }

    /// Reads all topics whose name matches `pattern` as a whole, those of later days too.
    ///
    /// With `group.protocol=classic` this client evaluates it, by the rules of the crate `regex`, whenever metadata is
    /// renewed (`metadata.max.age.ms`), and leaves out Kafka's own topics (`exclude.internal.topics`). With
    /// `group.protocol=consumer` the coordinator does, by the rules of RE2 (KIP-848).
    ///
    /// # Errors
    /// As [`Consumer::subscribe`]; `pattern` is no regular expression (with `group.protocol=consumer` the coordinator judges
    /// it, and the next poll tells).
    pub fn subscribe_pattern(&self, pattern: &str) -> Result<()> {
        let group = self.group()?;
        if pattern.is_empty() {
            return Err(Error::new(ErrorKind::Argument, "the pattern is empty"));
        }
        self.interested_in(match group.config.protocol {
            GroupProtocol::Classic => {
                Interest::Pattern(TopicPattern::new(pattern, group.config.exclude_internal_topics)?)
            }
            GroupProtocol::Consumer => Interest::RemotePattern(pattern.into()),
        })
    }

    fn interested_in(&self, interest: Interest) -> Result<()> {
        self.check_open()?;
        let group = self.group()?;
        let mut state = group.lock();
        if matches!(state.interest, Interest::Manual) {
            let text = "partitions are assigned by assign; take them back by unsubscribe before subscribing";
            return Err(Error::new(ErrorKind::Argument, text));
        }
        let now = self.shared.client.now();
        // The topics of a pattern must be looked for before there is anything to say.
        if !matches!(interest, Interest::Pattern(_))
            && let Some(subscription) = subscription_of(&interest)
        {
            state.membership.handle_subscribed(subscription, now);
        }
        state.interest = interest;
        drop(state);
        group.stir();
        Ok(())
    }

    /// Reads nothing any more: lets go of all partitions and leaves the group, or takes back what was assigned. The
    /// consumer can subscribe or assign again afterwards. What is processed is committed before (with
    /// `enable.auto.commit`). A listener is told that the partitions are revoked; who takes events has let go by calling
    /// this, and gets none of it.
    ///
    /// Waits until the group is left, up to `default.api.timeout.ms`. Cancel-safe: it goes on all the same.
    ///
    /// # Errors
    /// The coordinator did not answer in time; the consumer is closed.
    pub async fn unsubscribe(&self) -> Result<()> {
        self.check_open()?;
        let Some(group) = &self.shared.group else {
            return self.assign(&[]);
        };
        {
            let mut state = group.lock();
            match state.interest {
                Interest::Manual => {
                    drop(state);
                    return self.assign(&[]);
                }
                Interest::None => {}
                _ => {
                    state.interest = Interest::None;
                    if group.by_events {
                        // Who unsubscribes has let go: what was to be told of partitions is over.
                        let over = |event: &ConsumerEvent| {
                            matches!(event, ConsumerEvent::Assigned(_) | ConsumerEvent::Revoked(_))
                        };
                        state.events.retain(|event| !over(event));
                        state.forsake();
                    }
                    state.membership.handle_unsubscribed(self.shared.client.now());
                }
            }
        }
        let deadline = Instant::now() + self.shared.config.default_api_timeout;
        let mut stirred = group.stirred.subscribe();
        group.stir();
        loop {
            stirred.mark_unchanged();
            take_steps(&self.shared, group);
            if has_left(&group.lock()) {
                return Ok(());
            }
            if tokio::time::timeout_at(deadline, stirred.changed()).await.is_err() {
                let text = format!(
                    "group {:?} could not be left in time; it goes on in the background",
                    group.id
                );
                return Err(Error::timeout(text, None));
            }
        }
    }

    /// The topics subscribed to by name, or those that match the pattern as of the last look, in order. Empty for a pattern
    /// that the coordinator evaluates; see [`Consumer::assignment`].
    pub fn subscription(&self) -> Vec<Arc<str>> {
        let Some(group) = &self.shared.group else {
            return Vec::new();
        };
        match &group.lock().interest {
            Interest::Topics(topics) => topics.iter().cloned().collect(),
            Interest::Pattern(pattern) => pattern.matched().iter().cloned().collect(),
            Interest::None | Interest::Manual | Interest::RemotePattern(_) => Vec::new(),
        }
    }

    /// Who this consumer is in its group at the moment.
    ///
    /// # Errors
    /// There is no `group.id`.
    pub fn group_metadata(&self) -> Result<ConsumerGroupMetadata> {
        let group = self.group()?;
        let generation = group.lock().membership.generation();
        Ok(ConsumerGroupMetadata {
            group_id: group.id.clone(),
            generation_id: generation.as_ref().map_or(-1, |generation| generation.epoch),
            member_id: generation.map_or_else(|| "".into(), |generation| generation.member_id),
            group_instance_id: group.config.instance_id.as_deref().map(Into::into),
        })
    }

    /// Has the group rebalance, for a reason that only the application knows; it is told to the coordinator (KIP-800).
    /// Does not wait. With `group.protocol=consumer` the coordinator decides, and this does nothing.
    ///
    /// # Errors
    /// The consumer is not subscribed, or is closed.
    pub fn enforce_rebalance(&self, reason: &str) -> Result<()> {
        self.check_open()?;
        let group = self.group()?;
        let mut state = group.lock();
        if !state.interest.is_subscription() {
            return Err(Error::new(
                ErrorKind::Argument,
                "the consumer is not subscribed to any topic",
            ));
        }
        let now = self.shared.client.now();
        state.membership.handle_enforced(reason.into(), now);
        drop(state);
        group.stir();
        Ok(())
    }

    /// Says that processing goes on and the next poll may take until then: `max.poll.interval.ms` does not end before
    /// `within` is over. The next poll ends the extension.
    ///
    /// # Errors
    /// There is no `group.id`.
    pub fn extend_poll(&self, within: Duration) -> Result<()> {
        let group = self.group()?;
        let now = self.shared.client.now();
        let ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        group.lock().membership.handle_extended(now.plus_ms(ms), now);
        group.stir();
        Ok(())
    }

    /// A sign of life, as a poll is, without asking for records: `max.poll.interval.ms` starts anew.
    ///
    /// # Errors
    /// There is no `group.id`.
    pub fn keep_alive(&self) -> Result<()> {
        handle_alive(&self.shared, self.group()?);
        Ok(())
    }

    /// The next event, for a consumer built with [`rebalance_events`](super::ConsumerBuilder::rebalance_events). `None` when
    /// there is none yet. While an event of a rebalance waits, polls give no records.
    pub fn try_event(&self) -> Option<ConsumerEvent> {
        let group = self.shared.group.as_ref()?;
        let event = group.lock().events.pop_front();
        if event.is_some() {
            self.shared.arrived();
        }
        event
    }

    /// Says that nothing more is done with the partitions of the last [`ConsumerEvent::Revoked`]: what is stored of them is
    /// committed (with `enable.auto.commit`), and they go to other members. What was handed over of them counts as
    /// processed, unless `enable.auto.offset.store=false`. Does nothing if nothing waits for it.
    ///
    /// Must come within `max.poll.interval.ms`, or the partitions are lost.
    ///
    /// # Errors
    /// There is no `group.id`.
    pub fn acknowledge_revocation(&self) -> Result<()> {
        acknowledge(&self.shared, self.group()?);
        Ok(())
    }

    /// The committed offsets of partitions, fetched from the coordinator; `None` for those without one. With
    /// `read_committed` it waits for open transactions that commit offsets.
    ///
    /// Waits up to `default.api.timeout.ms`. Cancel-safe.
    ///
    /// # Errors
    /// There is no `group.id`, the coordinator could not be reached in time, or refuses.
    pub async fn committed(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, Option<OffsetAndMetadata>>> {
        self.check_open()?;
        let group = self.group()?;
        let config = &self.shared.config;
        let deadline = Instant::now() + config.default_api_timeout;
        let retry = &config.client;
        let mut backoff = Backoff::new(retry.retry_backoff_ms, retry.retry_backoff_max_ms, rand::random());
        let stable = config.isolation_level == IsolationLevel::ReadCommitted;
        let mut found = BTreeMap::new();
        let mut open = partitions.to_vec();
        let mut failures = 0;
        while !open.is_empty() {
            // Somebody outside of the group may read, too, while this consumer is no member.
            let committer = match group.committer(&group.lock()) {
                Ok((committer, _)) => committer,
                Err(_) => super::Committer::outside(group.id.clone()),
            };
            let asking = fetch_committed(&self.shared.client, &committer, &open, stable);
            let trouble = match tokio::time::timeout_at(deadline, asking).await {
                Err(_) => {
                    return Err(Error::timeout(
                        "the committed offsets could not be fetched in time",
                        None,
                    ));
                }
                Ok(Ok(answers)) => take_answers(answers, &mut open, &mut found)?,
                Ok(Err(error)) if error.retriable() => Some(error),
                Ok(Err(error)) => return Err(error),
            };
            let Some(error) = trouble else { continue };
            failures += 1;
            let again = Instant::now() + Duration::from_millis(backoff.next_ms(failures));
            if again >= deadline {
                let text = "the committed offsets could not be fetched in time";
                return Err(Error::timeout(text, Some(&error)));
            }
            tokio::time::sleep_until(again).await;
        }
        Ok(found)
    }
}

/// Takes in answers; gives the trouble of those that must be asked for again.
///
/// # Errors
/// The first error that will stay.
fn take_answers(
    answers: super::committed::CommittedAnswers,
    open: &mut Vec<TopicPartition>,
    found: &mut BTreeMap<TopicPartition, Option<OffsetAndMetadata>>,
) -> Result<Option<Error>> {
    let mut trouble = None;
    for (partition, answer) in answers {
        match answer {
            Ok(committed) => {
                open.retain(|known| *known != partition);
                found.insert(partition, committed);
            }
            Err(error) if error.retriable() => trouble = Some(error),
            Err(error) => return Err(error),
        }
    }
    Ok(trouble)
}
