//! Any bytes as any message in any version, stored records included. What can be read can be written, and what is
//! written then is read and written again the same.

use ottla_protocol::catalog::RecodeError;
use ottla_protocol::internal::{self, groups, metadata, transactions};
use ottla_protocol::messages;

/// Runs the target on `bytes`.
pub fn run(bytes: &[u8]) {
    let [low, high, version, body @ ..] = bytes else { return };
    let count = messages::CATALOG.len() + internal::CATALOG.len();
    let choice = usize::from(u16::from_le_bytes([*low, *high])) % (count + 3);
    let Some(info) = messages::CATALOG.iter().chain(internal::CATALOG).nth(choice) else {
        return stored(choice - count, body, *version);
    };
    let version = info.min_version + i16::from(*version) % (info.last_version - info.min_version + 1);
    match info.recode(body, version) {
        Ok(written) => assert_eq!(
            info.recode(&written, version).as_ref(),
            Ok(&written),
            "{} v{version}",
            info.name
        ),
        Err(RecodeError::Encode(error)) => panic!("{} v{version}: read but not written: {error}", info.name),
        Err(_) => {}
    }
}

/// Records behind their type number.
fn stored(kind: usize, body: &[u8], api_key: u8) {
    match kind {
        0 => {
            if let Ok((record, version)) = metadata::decode(body) {
                let written = metadata::encode(&record, version).expect("what was read can be written");
                assert_eq!(metadata::decode(&written), Ok((record, version)));
            }
        }
        1 => {
            if let Ok(key) = groups::Key::decode(body) {
                assert_eq!(
                    groups::Key::decode(&key.encode().expect("what was read can be written")),
                    Ok(key)
                );
            }
            if let Ok((value, version)) = groups::Value::decode(i16::from(api_key), body) {
                value.encode(version).expect("what was read can be written");
            }
        }
        _ => {
            if let Ok(key) = transactions::Key::decode(body) {
                key.encode().expect("what was read can be written");
            }
            if let Ok((value, version)) = transactions::Value::decode(i16::from(api_key), body) {
                value.encode(version).expect("what was read can be written");
            }
        }
    }
}
