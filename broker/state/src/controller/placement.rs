//! Where the replicas of new partitions go.
//!
//! In: the brokers with their racks, how many partitions and replicas, and a random generator. Out: one list of brokers
//! for each partition, preferred leader first.
//!
//! Aims, the most important first: replicas of one partition stand on different brokers (always) and on as many racks as
//! there are; fenced brokers get a replica only when the others do not suffice, and never the first; leaders and replicas
//! are spread evenly.
//!
//! Method: the racks stand in a circle and each rack deals its brokers in turn. A partition takes its replicas from
//! consecutive racks; the next partition begins one rack further on.

use super::{ApiError, ClusterImage};
use ottla_protocol::ErrorCode;
use rand::{Rng, RngExt};
use std::collections::BTreeMap;

/// A broker that can be given replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its node id.
    pub id: i32,
    /// Its rack; brokers without one count as one rack.
    pub rack: Option<String>,
    /// False for one that is fenced or about to stop.
    pub active: bool,
}

/// The registered brokers of `image`.
pub fn candidates(image: &ClusterImage) -> Vec<Candidate> {
    let candidate = |broker: &std::sync::Arc<super::BrokerImage>| Candidate {
        id: broker.id,
        rack: broker.rack.clone(),
        active: broker.is_active(),
    };
    image.brokers().map(candidate).collect()
}

/// Places `partitions` partitions with `replicas` replicas each.
///
/// # Errors
/// INVALID_REPLICATION_FACTOR if there are fewer brokers than replicas, or none that is active.
pub fn place(
    candidates: &[Candidate],
    partitions: usize,
    replicas: usize,
    random: &mut dyn Rng,
) -> Result<Vec<Vec<i32>>, ApiError> {
    let refuse = |message| Err(ApiError::new(ErrorCode::InvalidReplicationFactor, message));
    if replicas > candidates.len() {
        return refuse(format!(
            "replication factor {replicas} is larger than the number of brokers, which is {}",
            candidates.len()
        ));
    }
    if !candidates.iter().any(|candidate| candidate.active) {
        return refuse("all brokers are fenced or about to stop".to_owned());
    }
    let mut racks = Racks::new(candidates, random);
    Ok((0..partitions).map(|_| racks.deal(replicas)).collect())
}

struct Racks {
    racks: Vec<Rack>,
    /// The rack that the next partition begins with.
    next: usize,
}

impl Racks {
    fn new(candidates: &[Candidate], random: &mut dyn Rng) -> Racks {
        let mut by_name: BTreeMap<Option<&str>, Rack> = BTreeMap::new();
        for candidate in candidates {
            let rack = by_name.entry(candidate.rack.as_deref()).or_default();
            if candidate.active {
                rack.active.brokers.push(candidate.id)
            } else {
                rack.idle.brokers.push(candidate.id)
            }
        }
        // A random start keeps the first partitions of many small topics from meeting on the same broker.
        let mut racks: Vec<Rack> = by_name.into_values().collect();
        for rack in &mut racks {
            rack.active.start(random);
            rack.idle.start(random);
        }
        let next = random.random_range(0..racks.len().max(1));
        Racks { racks, next }
    }

    /// The replicas of one partition. There are at least as many brokers as `replicas`.
    fn deal(&mut self, replicas: usize) -> Vec<i32> {
        let count = self.racks.len();
        let begin = self.next;
        self.next = (begin + 1) % count.max(1);
        let order: Vec<usize> = (0..count).map(|step| (begin + step) % count).collect();
        for rack in &mut self.racks {
            rack.active.begin();
            rack.idle.begin();
        }
        let mut chosen = Vec::with_capacity(replicas);
        // Round after round over the racks: first the active brokers, then the others.
        for idle in [false, true] {
            loop {
                let before = chosen.len();
                for &index in &order {
                    let Some(rack) = self.racks.get_mut(index) else {
                        continue;
                    };
                    let dealer = if idle { &mut rack.idle } else { &mut rack.active };
                    if chosen.len() < replicas {
                        chosen.extend(dealer.next());
                    }
                }
                if chosen.len() == before {
                    break;
                }
            }
        }
        for rack in &mut self.racks {
            rack.active.advance();
            rack.idle.advance();
        }
        chosen
    }
}

#[derive(Default)]
struct Rack {
    active: Dealer,
    idle: Dealer,
}

/// Brokers dealt in turn, each at most once for a partition.
#[derive(Default)]
struct Dealer {
    brokers: Vec<i32>,
    /// Who is first for this partition.
    first: usize,
    /// How many were dealt for this partition.
    dealt: usize,
    /// How many partitions were dealt since the circle was full: shifts who stands together.
    shift: usize,
}

impl Dealer {
    fn start(&mut self, random: &mut dyn Rng) {
        if !self.brokers.is_empty() {
            self.first = random.random_range(0..self.brokers.len());
        }
    }

    fn begin(&mut self) {
        self.dealt = 0;
    }

    fn next(&mut self) -> Option<i32> {
        let count = self.brokers.len();
        if self.dealt >= count {
            return None;
        }
        // The first is the leader and moves on by one each time. The others follow it at a distance that grows with
        // each full circle, so that not always the same brokers share partitions.
        let distance = if self.dealt == 0 {
            0
        } else {
            1 + (self.dealt - 1 + self.shift / count) % (count - 1).max(1)
        };
        self.dealt += 1;
        self.brokers.get((self.first + distance) % count).copied()
    }

    fn advance(&mut self) {
        if self.dealt > 0 {
            self.first = (self.first + 1) % self.brokers.len().max(1);
            self.shift += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;
    use std::collections::BTreeSet;

    fn broker(id: i32, rack: &str) -> Candidate {
        Candidate {
            id,
            rack: (!rack.is_empty()).then(|| rack.to_owned()),
            active: true,
        }
    }

    fn seeds() -> impl Iterator<Item = StdRng> {
        (0..50).map(StdRng::seed_from_u64)
    }

    #[test]
    fn one_broker_takes_every_partition() {
        let placed = place(&[broker(7, "")], 3, 1, &mut StdRng::seed_from_u64(1)).unwrap();
        assert_eq!(placed, [[7], [7], [7]]);
    }

    #[test]
    fn replicas_of_a_partition_are_different_brokers_and_leaders_are_spread_evenly() {
        for brokers in 1..7 {
            let candidates: Vec<_> = (0..brokers).map(|id| broker(id, "")).collect();
            for replicas in 1..=candidates.len() {
                for mut random in seeds() {
                    let placed = place(&candidates, candidates.len() * 4, replicas, &mut random).unwrap();
                    let mut leaders = BTreeMap::new();
                    let mut all = BTreeMap::new();
                    for partition in &placed {
                        assert_eq!(
                            partition.iter().collect::<BTreeSet<_>>().len(),
                            replicas,
                            "{partition:?}"
                        );
                        *leaders.entry(partition[0]).or_insert(0) += 1;
                        partition.iter().for_each(|id| *all.entry(*id).or_insert(0) += 1);
                    }
                    assert!(leaders.values().all(|count| *count == 4), "{leaders:?}");
                    assert!(all.values().all(|count| *count == 4 * replicas), "{all:?}");
                }
            }
        }
    }

    #[test]
    fn replicas_stand_on_as_many_racks_as_there_are() {
        let candidates = [
            broker(1, "a"),
            broker(2, "a"),
            broker(3, "b"),
            broker(4, "b"),
            broker(5, "c"),
            broker(6, "c"),
        ];
        let rack = |id: i32| {
            candidates
                .iter()
                .find(|candidate| candidate.id == id)
                .unwrap()
                .rack
                .clone()
        };
        for mut random in seeds() {
            for partition in place(&candidates, 12, 3, &mut random).unwrap() {
                let racks: BTreeSet<_> = partition.iter().map(|id| rack(*id)).collect();
                assert_eq!(racks.len(), 3, "{partition:?}");
            }
        }
    }

    #[test]
    fn a_fenced_broker_never_leads_and_comes_last() {
        let mut candidates = vec![broker(1, "a"), broker(2, "b"), broker(3, "c")];
        candidates[1].active = false;
        for mut random in seeds() {
            for partition in place(&candidates, 6, 3, &mut random).unwrap() {
                assert_eq!(partition[2], 2, "{partition:?}");
            }
            for partition in place(&candidates, 6, 2, &mut random).unwrap() {
                assert!(!partition.contains(&2), "{partition:?}");
            }
        }
    }

    #[test]
    fn more_replicas_than_brokers_or_no_active_broker_is_refused() {
        let mut random = StdRng::seed_from_u64(1);
        let error = place(&[broker(1, "")], 1, 2, &mut random).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidReplicationFactor);
        let fenced = Candidate {
            active: false,
            ..broker(1, "")
        };
        assert!(place(&[fenced], 1, 1, &mut random).is_err());
        assert!(place(&[], 1, 1, &mut random).is_err());
    }
}
