//! SCRAM (RFC 5802, RFC 7677): proving a password without sending it, in both directions.
//!
//! | message | who | looks like |
//! |---|---|---|
//! | [`ClientFirst`] | client | `n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL` |
//! | [`ServerFirst`] | broker | `r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096` |
//! | [`ClientFinal`] | client | `c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=` |
//! | [`ServerFinal`] | broker | `v=rmF9pqV8S7suAoZWja4dJRkFsKQ=`, or `e=` and what is wrong |
//!
//! Proof and signature are made over the [`auth_message`]: the texts of the messages as they were sent, so every
//! message keeps its own text. Channel binding is not used (Kafka has none): the header before the first message is
//! `n,`. Extensions such as Kafka's `tokenauth` are read over; a mandatory one (`m=`) is refused, as the RFC demands.
//!
//! Passwords are taken as their UTF-8 bytes. The RFC asks for SASLprep before; Kafka leaves it out on both sides, and
//! whoever did otherwise could not log in with a password that SASLprep changes.

mod keys;
mod messages;
#[cfg(test)]
mod tests;

pub use keys::{Credential, Hash, Key, random_text};
pub use messages::{ClientFinal, ClientFirst, ServerFinal, ServerFirst, auth_message};

/// The fewest iterations that RFC 7677 and Kafka allow.
pub const MIN_ITERATIONS: u32 = 4096;
