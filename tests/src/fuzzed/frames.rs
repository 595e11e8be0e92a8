//! Any bytes as the frame of a request, and as the frame of a response: headers first, then the body they announce.

use ottla_protocol::catalog::{MessageInfo, RecodeError};
use ottla_protocol::{ApiKey, frame, messages};

/// Runs the target on `bytes`.
pub fn run(bytes: &[u8]) {
    if let Ok((header, body)) = frame::decode_request_header(bytes) {
        assert!(body <= bytes.len());
        if let Some(key) = ApiKey::from_code(header.api_key) {
            decode(key, "Request", &bytes[body..], header.api_version);
        }
    }
    // The first two bytes choose what the response is to; a client always knows that.
    let [key, version, response @ ..] = bytes else { return };
    let key = ApiKey::ALL[usize::from(*key) % ApiKey::ALL.len()];
    let version = i16::from(*version) % (key.last_version() + 1);
    if let Ok((_, body)) = frame::decode_response_header(key, version, response) {
        assert!(body <= response.len());
        decode(key, "Response", &response[body..], version);
    }
}

fn decode(key: ApiKey, kind: &str, body: &[u8], version: i16) {
    let is_it = |info: &&MessageInfo| info.api_key == Some(key.code()) && info.name.ends_with(kind);
    let info = messages::CATALOG
        .iter()
        .find(is_it)
        .expect("every API has a request and a response");
    let result = info.recode(body, version);
    assert!(
        !matches!(result, Err(RecodeError::Encode(_))),
        "read but not written: {result:?}"
    );
}
