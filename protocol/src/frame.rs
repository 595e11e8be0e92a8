//! Frames: the length prefix and the headers around a request and a response.
//!
//! Takes: a body and what the header says. Gives: the whole frame in pieces, length prefix included. In the other
//! direction it takes a frame without its prefix (whoever reads a socket has eaten it) and gives the header and the
//! place where the body starts. Does not decode bodies and does not know sockets.

use crate::messages::{RequestHeader as WireRequestHeader, ResponseHeader as WireResponseHeader};
use crate::wire::{AtField, DecodeError, EncodeError, Pieces, Place, Reader, Refusal, WireError, Writer};
use crate::{ApiKey, Message, Request};

/// Bytes of the length before a frame.
pub const LENGTH_PREFIX_BYTES: usize = 4;

const HEADER: Place = Place::new(WireRequestHeader::NAME, "");

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
            w.refuse(Refusal::TooLong { length })
                .at(Place::new("Frame", ""), "length");
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
    let api_key = peek.i16().at(HEADER, "request_api_key")?;
    let api_version = peek.i16().at(HEADER, "request_api_version")?;
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
        .at(Place::new(M::NAME, ""), "start");
    };
    crate::catalog::read(body, version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::{ApiVersionsRequest, ApiVersionsResponse, ProduceRequest, ProduceResponse, produce_request};
    use crate::{DecodeError, Records};
    use bytes::Bytes;

    #[test]
    fn a_frame_says_its_length() {
        let request = ApiVersionsRequest::default();
        let frame = encode_request(0, 9, Some("a"), &request).unwrap().into_vec();
        assert_eq!(frame, [0, 0, 0, 11, 0, 18, 0, 0, 0, 0, 0, 9, 0, 1, b'a']);
    }

    #[test]
    fn the_length_counts_spliced_records() {
        let records = Records::Bytes(Bytes::from(vec![7; 10_000]));
        let partition_data = vec![produce_request::PartitionProduceData { index: 1, records }];
        let topic = produce_request::TopicProduceData {
            name: "t",
            partition_data,
            ..Default::default()
        };
        let request = ProduceRequest {
            topic_data: vec![topic],
            ..ProduceRequest::default()
        };
        let pieces = encode_request(9, 1, None, &request).unwrap();
        assert!(pieces.iter().any(|piece| piece.len() == 10_000));
        let total = pieces.len();
        let frame = pieces.into_vec();
        assert_eq!(
            i32::from_be_bytes(frame[..4].try_into().unwrap()) as usize,
            total - LENGTH_PREFIX_BYTES
        );
        let (header, body) = decode_request_header(&frame[4..]).unwrap();
        assert_eq!((header.api_key, header.api_version, header.client_id), (0, 9, None));
        let read: ProduceRequest<'_> = decode_body(&frame[4..], body, 9).unwrap();
        assert_eq!(read, request);
    }

    #[test]
    fn a_response_has_the_header_of_its_version() {
        let response = ProduceResponse::default();
        let old = encode_response(ApiKey::Produce, 8, 77, &response).unwrap().into_vec();
        let new = encode_response(ApiKey::Produce, 9, 77, &response).unwrap().into_vec();
        assert_eq!(decode_response_header(ApiKey::Produce, 8, &old[4..]), Ok((77, 4)));
        assert_eq!(decode_response_header(ApiKey::Produce, 9, &new[4..]), Ok((77, 5)));
    }

    #[test]
    fn api_versions_is_always_answered_with_the_oldest_header() {
        let response = ApiVersionsResponse::default();
        for version in 0..=ApiKey::ApiVersions.max_version() {
            let frame = encode_response(ApiKey::ApiVersions, version, 3, &response)
                .unwrap()
                .into_vec();
            assert_eq!(
                decode_response_header(ApiKey::ApiVersions, version, &frame[4..]),
                Ok((3, 4))
            );
        }
    }

    #[test]
    fn the_header_of_an_unknown_request_is_read_all_the_same() {
        for (key, version) in [(18i16, 99i16), (18, -1), (4, 0), (-1, 0), (30_000, 30_000)] {
            let mut w = Writer::new();
            w.i16(key)
                .i16(version)
                .i32(5)
                .opt_str(Some("who"), false)
                .raw(&[1, 2, 3]);
            let frame = w.into_vec().unwrap();
            let (header, body) = decode_request_header(&frame).unwrap();
            assert_eq!(
                (header.api_key, header.api_version, header.correlation_id),
                (key, version, 5)
            );
            assert_eq!((header.client_id, body), (Some("who"), frame.len() - 3));
        }
    }

    #[test]
    fn the_body_must_reach_the_end_of_the_frame() {
        let frame = [0, 0];
        let read: Result<ApiVersionsRequest<'_>, DecodeError> = decode_body(&frame, 0, 0);
        assert_eq!(
            read.unwrap_err().to_string(),
            "ApiVersionsRequest.end: is followed by 2 bytes that belong to nothing"
        );
        let read: Result<ApiVersionsRequest<'_>, DecodeError> = decode_body(&frame, 3, 0);
        assert!(read.is_err());
    }
}
