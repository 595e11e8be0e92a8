//! The generated messages without any judge beside: rules about versions, defaults, nulls and errors.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use ottla_protocol::catalog::{MessageInfo, RecodeError};
use ottla_protocol::internal::metadata::{self, MetadataRecord};
use ottla_protocol::internal::{PartitionChangeRecord, TopicRecord, groups};
use ottla_protocol::messages::{self, metadata_response, *};
use ottla_protocol::wire::Refusal;
use ottla_protocol::{ApiKey, EncodeError, Message, Reader, Records, Request, Uuid, WireError, Writer, internal};
use proptest::prelude::*;

fn catalog() -> impl Iterator<Item = &'static MessageInfo> {
    messages::CATALOG.iter().chain(internal::CATALOG)
}

fn encoded<'a, M: Message<'a>>(message: &M, version: i16) -> Result<Vec<u8>, EncodeError> {
    let mut w = Writer::new();
    message.encode(&mut w, version);
    w.into_vec()
}

fn refusal<'a, M: Message<'a>>(message: &M, version: i16) -> String {
    encoded(message, version).unwrap_err().to_string()
}

#[test]
fn a_message_of_defaults_comes_back_in_every_version() {
    let mut pairs = 0;
    for info in catalog() {
        for version in info.min_version..=info.last_version {
            let bytes = info.default_bytes(version).unwrap();
            assert_eq!(info.recode(&bytes, version), Ok(bytes), "{} v{version}", info.name);
            pairs += 1;
        }
    }
    assert!(pairs > 700);
}

#[test]
fn versions_that_do_not_exist_are_refused_in_both_directions() {
    for info in catalog() {
        for version in [i16::MIN, info.min_version - 1, info.last_version + 1, i16::MAX] {
            let (min, max) = (info.min_version, info.last_version);
            let error = info.debug(&[0; 64], version).unwrap_err();
            assert_eq!(error.error, WireError::UnsupportedVersion { version, min, max });
            let error = info.default_bytes(version).unwrap_err();
            assert_eq!(error.refusal, Refusal::UnsupportedVersion { version, min, max });
            assert_eq!((error.place.message, error.field), (info.name, "version"));
        }
    }
}

#[test]
fn a_version_that_is_not_stable_can_be_read_but_is_not_offered() {
    assert_eq!(
        (
            ApiKey::InitProducerId.max_version(),
            ApiKey::InitProducerId.last_version()
        ),
        (5, 6)
    );
    assert_eq!(
        (InitProducerIdRequest::MAX_VERSION, InitProducerIdRequest::LAST_VERSION),
        (5, 6)
    );
    assert_eq!(
        (
            InitProducerIdResponse::MAX_VERSION,
            InitProducerIdResponse::LAST_VERSION
        ),
        (5, 6)
    );
    let request = InitProducerIdRequest {
        enable2_pc: true,
        ..Default::default()
    };
    let bytes = encoded(&request, 6).unwrap();
    assert_eq!(InitProducerIdRequest::decode(&mut Reader::new(&bytes), 6), Ok(request));
}

#[test]
fn a_request_knows_its_response() {
    fn response_of<R: Request>() -> (&'static str, ApiKey) {
        (<R::Response<'static> as Message<'static>>::NAME, R::API_KEY)
    }
    assert_eq!(response_of::<FetchRequest<'_>>(), ("FetchResponse", ApiKey::Fetch));
    assert_eq!(
        response_of::<ApiVersionsRequest<'_>>(),
        ("ApiVersionsResponse", ApiKey::ApiVersions)
    );
}

#[test]
fn what_a_version_cannot_carry_is_refused_unless_it_may_be_lost() {
    let request = MetadataRequest {
        allow_auto_topic_creation: false,
        ..Default::default()
    };
    assert_eq!(
        refusal(&request, 3),
        "MetadataRequest.allow_auto_topic_creation: has a value that version 3 cannot carry"
    );
    assert!(encoded(&request, 4).is_ok());
    // The cluster id is ignorable: old versions go without it.
    let response = MetadataResponse {
        cluster_id: Some("c"),
        ..Default::default()
    };
    let bytes = encoded(&response, 1).unwrap();
    let read = MetadataResponse::decode(&mut Reader::new(&bytes), 1).unwrap();
    assert_eq!(read.cluster_id, None);
}

#[test]
fn null_is_refused_in_versions_without_null() {
    let everything = MetadataRequest {
        topics: None,
        ..Default::default()
    };
    assert_eq!(
        refusal(&everything, 0),
        "MetadataRequest.topics: is null, which version 0 does not allow"
    );
    assert_eq!(encoded(&everything, 1).unwrap(), [0xff; 4]);
    let error = MetadataRequest::decode(&mut Reader::new(&[0xff; 4]), 0).unwrap_err();
    assert_eq!(error.error, WireError::NullNotAllowed);
    let read = MetadataRequest::decode(&mut Reader::new(&[0xff; 4]), 1).unwrap();
    assert_eq!(read, everything);
}

#[test]
fn an_error_names_the_whole_way_to_the_field() {
    let isr_nodes = vec![1, 2, 3];
    let partition = metadata_response::MetadataResponsePartition {
        isr_nodes,
        ..Default::default()
    };
    let topic = metadata_response::MetadataResponseTopic {
        partitions: vec![partition],
        ..Default::default()
    };
    let response = MetadataResponse {
        topics: vec![topic],
        ..Default::default()
    };
    let bytes = encoded(&response, 1).unwrap();
    let error = MetadataResponse::decode(&mut Reader::new(&bytes[..bytes.len() - 1]), 1).unwrap_err();
    assert_eq!(
        error.to_string(),
        "MetadataResponse.topics.partitions.isr_nodes: count 3 needs more than the 11 bytes left"
    );
}

#[test]
fn a_tagged_field_is_written_only_when_it_says_something() {
    let plain = encoded(&FetchRequest::default(), 17).unwrap();
    let named = FetchRequest {
        cluster_id: Some("c"),
        ..Default::default()
    };
    let tagged = encoded(&named, 17).unwrap();
    // A count of 1, then tag 0, its size of 2, and "c".
    assert_eq!(plain.last(), Some(&0));
    assert_eq!(tagged[..plain.len() - 1], plain[..plain.len() - 1]);
    assert_eq!(tagged[plain.len() - 1..], [1, 0, 2, 2, b'c']);
}

#[test]
fn records_are_borrowed_when_read() {
    let partition = fetch_response::PartitionData {
        records: Records::Slice(b"batch"),
        ..Default::default()
    };
    let topic = fetch_response::FetchableTopicResponse {
        partitions: vec![partition],
        ..Default::default()
    };
    let response = FetchResponse {
        responses: vec![topic],
        ..Default::default()
    };
    let frame = bytes::Bytes::from(encoded(&response, 12).unwrap());
    let read = FetchResponse::decode(&mut Reader::new(&frame), 12).unwrap();
    let records = read.responses[0].partitions[0].records.as_slice().unwrap();
    // `slice_ref` panics unless the slice lies inside the frame.
    assert_eq!(&frame.slice_ref(records)[..], b"batch");
}

#[test]
fn a_metadata_record_stands_in_a_frame_of_three_varints() {
    let topic = TopicRecord {
        name: "gps",
        topic_id: Uuid([9; 16]),
    };
    let bytes = metadata::encode(&topic.clone().into(), 0).unwrap();
    assert_eq!(bytes[..3], [1, 2, 0]);
    assert_eq!(metadata::decode(&bytes), Ok((MetadataRecord::Topic(topic), 0)));
    let error = metadata::decode(&[2, 2, 0]).unwrap_err();
    assert_eq!(error.to_string(), "MetadataRecord.frame_version: 2 is not a known type");
    let error = metadata::decode(&[1, 127, 0]).unwrap_err();
    assert_eq!(error.to_string(), "MetadataRecord.api_key: 127 is not a known type");
    let mut longer = bytes.clone();
    longer.push(0);
    assert_eq!(
        metadata::decode(&longer).unwrap_err().error,
        WireError::TrailingBytes { left: 1 }
    );
    // A change of nothing says nothing: partition, topic, and no tagged field.
    let change = encoded(
        &PartitionChangeRecord {
            partition_id: 1,
            ..Default::default()
        },
        0,
    )
    .unwrap();
    assert_eq!(change.len(), 4 + 16 + 1);
}

#[test]
fn a_key_of_a_coordinator_says_its_type_first() {
    let bytes = [0, 2, 0, 1, b'g'];
    let key = groups::Key::decode(&bytes).unwrap();
    assert_eq!((key.api_key(), key.encode()), (2, Ok(bytes.to_vec())));
    assert!(groups::Key::decode(&[0, 99, 0, 1, b'g']).is_err());
    assert!(groups::Key::decode(&[]).is_err());
}

proptest! {
    #[test]
    fn no_bytes_make_a_message_panic(choice: prop::sample::Index, version: i16, bytes: Vec<u8>) {
        let all: Vec<_> = catalog().collect();
        let info = choice.get(&all);
        let version = info.min_version + version.rem_euclid(info.last_version - info.min_version + 1);
        let result = info.recode(&bytes, version);
        prop_assert!(!matches!(result, Err(RecodeError::Encode(_))), "read but not written: {:?}", result);
    }
}
