//! SASL: what client and broker say to each other inside SaslAuthenticate.
//!
//! Takes: bytes of `auth_bytes`. Gives: messages of [`plain`] and [`scram`], and back; the arithmetic of SCRAM is in
//! [`scram`] too. It decides nothing: whether a nonce, an iteration count or a user will do is for client and broker.
//!
//! Every message is bounded ([`MAX_MESSAGE_BYTES`]). What is secret is wiped when it is dropped, is compared in constant
//! time, and appears in no `Debug` output and no error.

pub mod plain;
pub mod scram;

use std::fmt;

/// The longest message that is read, in bytes. Real ones have a few hundred; tokens given as passwords have some
/// thousand.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// A way to prove who one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mechanism {
    /// Name and password as they are (RFC 4616). Only over TLS is the password a secret.
    Plain,
    /// A proof of the password with SHA-256 (RFC 7677).
    ScramSha256,
    /// A proof of the password with SHA-512.
    ScramSha512,
}

impl Mechanism {
    /// Every mechanism that is implemented.
    pub const ALL: [Mechanism; 3] = [Mechanism::Plain, Mechanism::ScramSha256, Mechanism::ScramSha512];

    /// The name on the wire and in `sasl.mechanism`.
    pub const fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
            Mechanism::ScramSha512 => "SCRAM-SHA-512",
        }
    }

    /// The mechanism with this name, as it is written on the wire (case counts).
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.name() == name)
    }

    /// The hash of a SCRAM mechanism.
    pub fn scram_hash(self) -> Option<scram::Hash> {
        match self {
            Mechanism::Plain => None,
            Mechanism::ScramSha256 => Some(scram::Hash::Sha256),
            Mechanism::ScramSha512 => Some(scram::Hash::Sha512),
        }
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A message that is not what it should be. Says which one and why, and repeats none of its bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the {message} message {reason}")]
pub struct SaslError {
    /// Which message it is: `SCRAM client-first`, `PLAIN`, ...
    pub message: &'static str,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// The bytes of a message as text, if it is not too long.
fn text<'a>(message: &'static str, bytes: &'a [u8]) -> Result<&'a str, SaslError> {
    if bytes.len() > MAX_MESSAGE_BYTES {
        let reason = "is longer than 65536 bytes";
        return Err(SaslError { message, reason });
    }
    let reason = "is not valid UTF-8";
    std::str::from_utf8(bytes).map_err(|_| SaslError { message, reason })
}
