//! From what a member by the `consumer` protocol has to what it is to have: first it lets go, then it takes over.
//!
//! Two rules keep it and the coordinator of one mind. Each target that was followed is reported, even if the member owns
//! what it owned before (it may have let go of what it never took over): the coordinator waits for that report. And once
//! the member has reported what it owns, it takes over nothing more of the target before the answer: to the coordinator the
//! rest of an older target is free.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ottla_protocol::Uuid;

use super::{ConsumerMembership, METADATA_RETRY_MS, Numbered, State, Then, in_order, named};
use crate::membership::{Action, Generation, RebalanceReason};
use crate::{Time, TopicPartition};

impl ConsumerMembership {
    pub(super) fn revoke(&mut self, partitions: Vec<Numbered>, reason: RebalanceReason, then: Then, now: Time) {
        let name = |partition: &Numbered| {
            let topic = self.owned.get(partition)?;
            Some(TopicPartition::new(topic.clone(), partition.1))
        };
        let told = in_order(partitions.iter().filter_map(name));
        self.actions.push_back(Action::Revoke {
            partitions: told,
            reason,
        });
        self.enter(State::Revoking { partitions, then }, now);
    }

    /// The ids of topics to be read whose names are not known.
    pub(super) fn unnamed(&self) -> BTreeSet<Uuid> {
        let target = self.target.iter().flatten();
        let unknown = target.filter(|at| !self.owned.contains_key(at) && self.topics.name_of(at.0).is_none());
        unknown.map(|(id, _)| *id).collect()
    }

    /// One step from what the member has to what it is to have: first lets go, then takes over.
    pub(super) fn reconcile(&mut self, now: Time) {
        let (State::Stable, Some(target)) = (&self.state, &self.target) else {
            return;
        };
        let surplus: Vec<Numbered> = self.owned.keys().filter(|at| !target.contains(at)).copied().collect();
        if !surplus.is_empty() {
            self.revoke(surplus, RebalanceReason::NewAssignment, Then::Reconcile, now);
            return;
        }
        if self.awaits_word {
            return;
        }
        let name = |at: &Numbered| self.owned.get(at).or_else(|| self.topics.name_of(at.0)).cloned();
        let all: BTreeMap<Numbered, Arc<str>> = target.iter().filter_map(|at| Some((*at, name(at)?))).collect();
        let added = all.iter().filter(|(at, _)| !self.owned.contains_key(at));
        let added = in_order(added.map(|(at, topic)| TopicPartition::new(topic.clone(), at.1)));
        let unnamed: Vec<Uuid> = self.unnamed().into_iter().collect();
        if !unnamed.is_empty() && self.ask_again_at.is_none() {
            self.ask_again_at = Some(now.plus_ms(METADATA_RETRY_MS));
            self.actions.push_back(Action::RefreshMetadata {
                topics: Vec::new(),
                ids: unnamed,
            });
        }
        // What has no name yet is not worth telling yet.
        if added.is_empty() && (!self.unannounced || !self.unnamed().is_empty()) {
            self.followed += u64::from(std::mem::take(&mut self.unreported));
            return;
        }
        self.unannounced = false;
        let generation = Generation {
            member_id: self.member_id.clone(),
            epoch: self.epoch,
        };
        self.assigned += 1;
        self.actions.push_back(Action::Assign {
            number: self.assigned,
            added,
            all: in_order(named(&all)),
            generation,
        });
        self.enter(State::TakingOver { all }, now);
    }
}
