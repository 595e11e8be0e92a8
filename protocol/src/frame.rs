//! Frames: the length prefix and the headers around a request and a response.
//!
//! Takes: a body and what the header says. Gives: the whole frame in pieces, length prefix included. In the other
//! direction it takes a frame without its prefix (whoever reads a socket has eaten it) and gives the header and the
//! place where the body starts. Does not decode bodies and does not know sockets.

use crate::messages::{RequestHeader as WireRequestHeader, ResponseHeader as WireResponseHeader};
use crate::wire::{AtField, DecodeError, EncodeError, Pieces, Reader, Refusal, WireError, Writer};
use crate::{ApiKey, Message, Request};

/// Bytes of the length before a frame.
pub const LENGTH_PREFIX_BYTES: usize = 4;

/// What stands before the body of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestHeader<'a> {
    /// The number of the API, known or not; see [`ApiKey::from_code`].
    pub api_key: i16,
    /// The version of the request.
    pub api_version: i16,
    /// The number that the response will repeat.
    pub correlation_id: i32,
    /// The name that the client gives itself.
    pub client_id: Option<&'a str>,
}

/// Writes a request: length prefix, header, body.
///
/// # Errors
/// When the body says something that `version` cannot carry, or when the frame would be longer than 2 GiB.
pub fn encode_request<'m, M: Message<'m> + Request>(
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
    body: &M,
) -> Result<Pieces, EncodeError> {
    let mut w = Writer::with_capacity(256);
    w.i32(0);
    let header = WireRequestHeader {
        request_api_key: M::API_KEY.code(),
        request_api_version: version,
        correlation_id,
        client_id,
    };
    header.encode(&mut w, M::API_KEY.request_header_version(version));
    body.encode(&mut w, version);
    finish(w)
}

/// Writes a response: length prefix, header, body. `api_key` and `version` are those of the request, and the header
/// is the one that goes with them.
///
/// # Errors
/// When the body says something that `version` cannot carry, or when the frame would be longer than 2 GiB.
pub fn encode_response<'m, M: Message<'m>>(
    api_key: ApiKey,
    version: i16,
    correlation_id: i32,
    body: &M,
) -> Result<Pieces, EncodeError> {
    let mut w = Writer::with_capacity(256);
    w.i32(0);
    WireResponseHeader { correlation_id }.encode(&mut w, api_key.response_header_version(version));
    body.encode(&mut w, version);
    finish(w)
}

fn finish(mut w: Writer) -> Result<Pieces, EncodeError> {
    let length = w.len() - LENGTH_PREFIX_BYTES;
    match i32::try_from(length) {
        Ok(length) => w.patch_i32(0, length),
        Err(_) => {
            w.refuse(Refusal::TooLong { length }).at("Frame", "length");
        }
    }
    w.into_pieces()
}

/// Reads the header of a request and says where its body starts.
///
/// An API or a version that is not known is no error here, because the caller has to answer it: the header is read in
/// version 1 then (the body of an unknown request starts where nobody can tell), as it is before every version that
/// any client asks for first.
///
/// # Errors
/// When the frame ends inside the header, or the header is malformed.
pub fn decode_request_header(frame: &[u8]) -> Result<(RequestHeader<'_>, usize), DecodeError> {
    let mut peek = Reader::new(frame);
    let api_key = peek.i16().at(WireRequestHeader::NAME, "request_api_key")?;
    let api_version = peek.i16().at(WireRequestHeader::NAME, "request_api_version")?;
    let header_version = match ApiKey::from_code(api_key) {
        Some(key) if key.has_version(api_version) => key.request_header_version(api_version),
        _ => 1,
    };
    let mut reader = Reader::new(frame);
    let header = WireRequestHeader::decode(&mut reader, header_version)?;
    let header = RequestHeader {
        api_key,
        api_version,
        correlation_id: header.correlation_id,
        client_id: header.client_id,
    };
    Ok((header, reader.position()))
}

/// Reads the header of the response to a request of `api_key` and `version`, and says where its body starts. Gives
/// the correlation id first.
///
/// # Errors
/// When the frame ends inside the header, or the header is malformed.
pub fn decode_response_header(api_key: ApiKey, version: i16, frame: &[u8]) -> Result<(i32, usize), DecodeError> {
    let mut reader = Reader::new(frame);
    let header = WireResponseHeader::decode(&mut reader, api_key.response_header_version(version))?;
    Ok((header.correlation_id, reader.position()))
}

/// Reads a body that must reach the end of the frame, from `offset` on.
///
/// # Errors
/// When the body is malformed, or bytes are left over.
pub fn decode_body<'a, M: Message<'a>>(frame: &'a [u8], offset: usize, version: i16) -> Result<M, DecodeError> {
    let Some(body) = frame.get(offset..) else {
        return Err(WireError::UnexpectedEnd {
            needed: offset,
            left: frame.len(),
        })
        .at(M::NAME, "start");
    };
    crate::catalog::read(body, version)
}
