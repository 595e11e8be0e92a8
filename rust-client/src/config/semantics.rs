//! Delivery semantics by name: a promise instead of four keys that have to fit together.
//!
//! In: the name, and what was set by key. Out: the keys that keep the promise. A key that was set to something that
//! breaks it is an error, whichever of the two was said first; a name never overrules a key in silence.

use super::{Settings, mistake};
use crate::error::Result;

/// What a producer promises about a record that was sent once.
///
/// | | lost | written twice | out of order | keys |
/// |---|---|---|---|---|
/// | [`AtMostOnce`](DeliverySemantics::AtMostOnce) | possible | never | never | `retries=0`, `enable.idempotence=false`, `acks=0` unless set |
/// | [`AtLeastOnce`](DeliverySemantics::AtLeastOnce) | never without an error | possible on a retry | possible on a retry | `acks=all`, `retries` above 0, `enable.idempotence=false` |
/// | [`ExactlyOnce`](DeliverySemantics::ExactlyOnce) | never without an error | never | never | `acks=all`, `retries` above 0, `enable.idempotence=true`, at most 5 requests in flight |
///
/// The promises are about one partition and the retries inside one producer. A program that sends a record again after
/// [`Persisted::Possibly`](crate::Persisted::Possibly), or after its own restart, may write it twice with any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum DeliverySemantics {
    /// Each record is sent once and never again. By default nobody acknowledges it (`acks=0`), so its loss is not even
    /// noticed; with `acks=1` or `acks=all` a loss is an error.
    AtMostOnce,
    /// A record is sent again until all in-sync replicas have it. A retry whose first attempt was written after all
    /// writes it twice.
    AtLeastOnce,
    /// As at least once, and the broker recognises what it has already (KIP-98): once and in order, per partition. This
    /// is what a producer does that was told nothing.
    #[default]
    ExactlyOnce,
}

/// What a promise asks of one key.
struct Demand {
    key: &'static str,
    /// What the key becomes if it was not set; `None` leaves the default.
    value: Option<&'static str>,
    /// What the key may be if it was set.
    fits: fn(&str) -> bool,
    needed: &'static str,
}

const NO_IDEMPOTENCE: Demand = Demand {
    key: "enable.idempotence",
    value: Some("false"),
    fits: |value| value.eq_ignore_ascii_case("false"),
    needed: "false",
};

const ACKS_ALL: Demand = Demand {
    key: "acks",
    value: Some("all"),
    fits: |value| value.eq_ignore_ascii_case("all") || value == "-1",
    needed: "all",
};

const SOME_RETRIES: Demand = Demand {
    key: "retries",
    value: None,
    fits: |value| value != "0",
    needed: "above 0",
};

const AT_MOST_ONCE: &[Demand] = &[
    Demand {
        key: "retries",
        value: Some("0"),
        fits: |value| value == "0",
        needed: "0",
    },
    NO_IDEMPOTENCE,
    Demand {
        key: "acks",
        value: Some("0"),
        fits: |_| true,
        needed: "",
    },
];

const AT_LEAST_ONCE: &[Demand] = &[ACKS_ALL, SOME_RETRIES, NO_IDEMPOTENCE];

const EXACTLY_ONCE: &[Demand] = &[
    ACKS_ALL,
    SOME_RETRIES,
    Demand {
        key: "enable.idempotence",
        value: Some("true"),
        fits: |value| value.eq_ignore_ascii_case("true"),
        needed: "true",
    },
];

impl DeliverySemantics {
    /// The name, as people say it.
    pub fn name(self) -> &'static str {
        match self {
            DeliverySemantics::AtMostOnce => "at most once",
            DeliverySemantics::AtLeastOnce => "at least once",
            DeliverySemantics::ExactlyOnce => "exactly once",
        }
    }

    fn demands(self) -> &'static [Demand] {
        match self {
            DeliverySemantics::AtMostOnce => AT_MOST_ONCE,
            DeliverySemantics::AtLeastOnce => AT_LEAST_ONCE,
            DeliverySemantics::ExactlyOnce => EXACTLY_ONCE,
        }
    }

    /// Sets the keys that keep the promise.
    ///
    /// # Errors
    /// A key was set to a value that breaks it.
    pub(super) fn apply(self, settings: &mut Settings) -> Result<()> {
        for demand in self.demands() {
            match (settings.values.get(demand.key), demand.value) {
                (Some(value), _) if !(demand.fits)(value) => {
                    return Err(mistake(format!(
                        "{}={value} contradicts the delivery semantics \"{}\", which need {} {}",
                        demand.key,
                        self.name(),
                        demand.key,
                        demand.needed
                    )));
                }
                (None, Some(value)) => {
                    settings.values.insert(demand.key, value.to_owned());
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Settings {
    /// Chooses what a producer promises; the last choice counts.
    pub fn delivery_semantics(&mut self, semantics: DeliverySemantics) {
        self.semantics = Some(semantics);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Acks, ClientKind, ProducerConfig};
    use super::*;

    fn producer(semantics: DeliverySemantics, pairs: &[(&str, &str)]) -> Result<ProducerConfig> {
        let mut settings = Settings::new(ClientKind::Producer);
        settings.delivery_semantics(semantics);
        settings.set("bootstrap.servers", "localhost:9092");
        for (key, value) in pairs {
            settings.set(key, value);
        }
        settings.producer()
    }

    #[test]
    fn each_name_sets_the_keys_that_keep_its_promise() {
        let keys = |semantics| {
            let config = producer(semantics, &[]).unwrap();
            (config.acks, config.retries, config.enable_idempotence)
        };
        let often = i32::MAX as u32;
        assert_eq!(keys(DeliverySemantics::AtMostOnce), (Acks::None, 0, false));
        assert_eq!(keys(DeliverySemantics::AtLeastOnce), (Acks::All, often, false));
        assert_eq!(keys(DeliverySemantics::ExactlyOnce), (Acks::All, often, true));
    }

    #[test]
    fn a_key_that_breaks_the_promise_is_refused_and_named() {
        use DeliverySemantics::{AtLeastOnce, AtMostOnce, ExactlyOnce};
        for (semantics, key, value) in [
            (AtMostOnce, "retries", "3"),
            (AtMostOnce, "enable.idempotence", "true"),
            (AtLeastOnce, "acks", "0"),
            (AtLeastOnce, "acks", "1"),
            (AtLeastOnce, "retries", "0"),
            (AtLeastOnce, "enable.idempotence", "true"),
            (ExactlyOnce, "acks", "1"),
            (ExactlyOnce, "retries", "0"),
            (ExactlyOnce, "enable.idempotence", "false"),
            (ExactlyOnce, "max.in.flight.requests.per.connection", "6"),
        ] {
            let error = producer(semantics, &[(key, value)]).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Config, "{semantics:?} {key}={value}");
            assert!(error.to_string().contains(key), "{error}");
        }
    }

    #[test]
    fn a_key_that_the_promise_leaves_open_stays_as_it_was_set() {
        let config = producer(DeliverySemantics::AtMostOnce, &[("acks", "1")]).unwrap();
        assert_eq!((config.acks, config.retries), (Acks::Leader, 0));
        let config = producer(DeliverySemantics::AtLeastOnce, &[("retries", "3"), ("acks", "-1")]).unwrap();
        assert_eq!((config.acks, config.retries), (Acks::All, 3));
        let many = ("max.in.flight.requests.per.connection", "20");
        assert_eq!(
            producer(DeliverySemantics::AtLeastOnce, &[many]).unwrap().max_in_flight,
            20
        );
    }
}
