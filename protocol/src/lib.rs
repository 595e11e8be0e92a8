//! The Kafka protocol: messages of every version and record batches.
//!
//! Bytes in, meaning out, and back. Nothing here decides, waits or touches a socket.

pub mod api_key;
pub mod catalog;
pub mod error_code;
pub mod frame;
pub mod internal;
mod message;
pub mod messages;
pub mod records;
pub mod wire;

pub use api_key::ApiKey;
pub use error_code::ErrorCode;
pub use message::{Message, Request};
pub use wire::{DecodeError, EncodeError, Pieces, Reader, Records, Uuid, WireError, Writer};
