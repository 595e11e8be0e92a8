//! The APIs: numbers, names, versions, and which header stands before which version.
//!
//! The enum and its table are generated; the rules about headers are here.

use std::fmt;

pub use crate::messages::ApiKey;
use crate::messages::row;

/// What the schemas say about one API.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ApiRow {
    pub(crate) name: &'static str,
    pub(crate) min: i16,
    pub(crate) max: i16,
    pub(crate) last: i16,
    pub(crate) flexible_request: i16,
    pub(crate) flexible_response: i16,
    pub(crate) broker: bool,
    pub(crate) controller: bool,
}

impl ApiKey {
    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// The name as in Kafka's schemas, such as `CreateTopics`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        row(self).name
    }

    /// The first version that Kafka still has.
    #[must_use]
    pub const fn min_version(self) -> i16 {
        row(self).min
    }

    /// The last version that is stable: what a program should offer or ask for.
    #[must_use]
    pub const fn max_version(self) -> i16 {
        row(self).max
    }

    /// The last version that can be read and written; greater than [`ApiKey::max_version`] when Kafka still works on
    /// it.
    #[must_use]
    pub const fn last_version(self) -> i16 {
        row(self).last
    }

    /// True when `version` can be read and written.
    #[must_use]
    pub const fn has_version(self, version: i16) -> bool {
        row(self).min <= version && version <= row(self).last
    }

    /// True when Kafka's brokers serve this API.
    #[must_use]
    pub const fn is_served_by_brokers(self) -> bool {
        row(self).broker
    }

    /// True when Kafka's controllers serve this API.
    #[must_use]
    pub const fn is_served_by_controllers(self) -> bool {
        row(self).controller
    }

    /// The version of the request header before `version` of the request: 1, or 2 with tagged fields.
    #[must_use]
    pub const fn request_header_version(self, version: i16) -> i16 {
        if version >= row(self).flexible_request { 2 } else { 1 }
    }

    /// The version of the response header before `version` of the response: 0, or 1 with tagged fields.
    ///
    /// ApiVersions is always answered with version 0, so that a client that asked for a version which the broker does
    /// not know can still read the answer (KIP-511).
    #[must_use]
    pub const fn response_header_version(self, version: i16) -> i16 {
        if version >= row(self).flexible_response && !matches!(self, ApiKey::ApiVersions) {
            1
        } else {
            0
        }
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
