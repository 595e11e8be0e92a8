//! The Kafka protocol: messages of every version and record batches.
//!
//! Bytes in, meaning out, and back. Nothing here decides, waits or touches a socket. The rooms:
//!
//! | room | what it knows |
//! |---|---|
//! | [`wire`] | integers, strings, arrays, tagged fields; every length is checked before it is believed |
//! | [`messages`] | each request and response of Kafka 4.4 in every version, generated from Kafka's schemas |
//! | [`internal`] | likewise what brokers store: metadata records, group and transaction state |
//! | [`api_key`], [`error_code`] | Kafka's tables |
//! | [`frame`] | the length prefix and the headers around a message |
//! | [`records`] | record batches: the hot path |
//! | [`sasl`] | PLAIN and SCRAM messages, and the arithmetic of SCRAM |
//! | [`catalog`] | messages as data, for programs that treat all alike |
//!
//! # A request there, a response back
//!
//! A client asks for the metadata of one topic. Strings are borrowed in both directions.
//!
//! ```
//! use ottla_protocol::messages::{MetadataRequest, MetadataResponse};
//! use ottla_protocol::messages::{metadata_request::MetadataRequestTopic, metadata_response::MetadataResponseBroker};
//! use ottla_protocol::{ApiKey, frame};
//!
//! // The client writes. Every struct has the fields of all versions; version 1 knows only the topics.
//! let topics = vec![MetadataRequestTopic { name: Some("gps"), ..Default::default() }];
//! let request = MetadataRequest { topics: Some(topics), ..Default::default() };
//! let bytes = frame::encode_request(1, 42, Some("me"), &request)?.into_vec();
//! assert_eq!(bytes, b"\0\0\0\x15\0\x03\0\x01\0\0\0\x2a\0\x02me\0\0\0\x01\0\x03gps");
//!
//! // The broker reads: first the header, which says what the body is.
//! let received = &bytes[frame::LENGTH_PREFIX_BYTES..];
//! let (header, body) = frame::decode_request_header(received)?;
//! assert_eq!(ApiKey::from_code(header.api_key), Some(ApiKey::Metadata));
//! assert_eq!(header.client_id, Some("me"));
//! let asked: MetadataRequest<'_> = frame::decode_body(received, body, header.api_version)?;
//! assert_eq!(asked, request);
//!
//! // The broker answers in the version that it was asked in.
//! let brokers = vec![MetadataResponseBroker { node_id: 1, host: "h", port: 9092, rack: None }];
//! let response = MetadataResponse { brokers, controller_id: 1, ..Default::default() };
//! let bytes = frame::encode_response(ApiKey::Metadata, 1, header.correlation_id, &response)?.into_vec();
//! assert_eq!(bytes, b"\0\0\0\x1d\0\0\0\x2a\0\0\0\x01\0\0\0\x01\0\x01h\0\0\x23\x84\xff\xff\0\0\0\x01\0\0\0\0");
//!
//! // The client finds its question by the number and reads the answer.
//! let received = &bytes[frame::LENGTH_PREFIX_BYTES..];
//! let (correlation_id, body) = frame::decode_response_header(ApiKey::Metadata, 1, received)?;
//! let answer: MetadataResponse<'_> = frame::decode_body(received, body, 1)?;
//! assert_eq!((correlation_id, answer.brokers[0].port), (42, 9092));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A version outside the known ones, a null where there is none, a count that is larger than the bytes behind it: each
//! is an error that names the message and the field.

pub mod api_key;
pub mod catalog;
pub mod error_code;
pub mod frame;
pub mod internal;
mod message;
pub mod messages;
pub mod records;
pub mod sasl;
pub mod wire;

pub use api_key::ApiKey;
pub use error_code::ErrorCode;
pub use message::{Message, Request};
pub use wire::{DecodeError, EncodeError, Pieces, Reader, Records, Uuid, WireError, Writer};
