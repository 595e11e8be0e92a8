//! What a request needs besides its bytes, and what comes back.

use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use ottla_protocol::messages::*;
use ottla_protocol::wire::Reader;
use ottla_protocol::{Message, Request, frame};

use super::connection::Throttle;
use crate::error::{Error, Result};

/// A request that this client sends.
pub(crate) trait ClientRequest: Request {
    /// How long the broker asks to be left alone (KIP-219), in milliseconds.
    fn throttle_ms(response: &Self::Response<'_>) -> i32;
}

macro_rules! throttled {
    ($($request:ty),* $(,)?) => {
        $(impl ClientRequest for $request {
            fn throttle_ms(response: &Self::Response<'_>) -> i32 {
                response.throttle_time_ms
            }
        })*
    };
}

throttled!(
    ApiVersionsRequest<'_>,
    ConsumerGroupDescribeRequest<'_>,
    ConsumerGroupHeartbeatRequest<'_>,
    CreatePartitionsRequest<'_>,
    CreateTopicsRequest<'_>,
    DeleteGroupsRequest<'_>,
    DeleteTopicsRequest<'_>,
    DescribeClusterRequest,
    DescribeConfigsRequest<'_>,
    DescribeGroupsRequest<'_>,
    DescribeTopicPartitionsRequest<'_>,
    FetchRequest<'_>,
    FindCoordinatorRequest<'_>,
    HeartbeatRequest<'_>,
    IncrementalAlterConfigsRequest<'_>,
    InitProducerIdRequest<'_>,
    JoinGroupRequest<'_>,
    LeaveGroupRequest<'_>,
    ListGroupsRequest<'_>,
    ListOffsetsRequest<'_>,
    MetadataRequest<'_>,
    OffsetCommitRequest<'_>,
    OffsetDeleteRequest<'_>,
    OffsetFetchRequest<'_>,
    ProduceRequest<'_>,
    SyncGroupRequest<'_>,
);

/// Requests whose answers have no throttle time.
macro_rules! not_throttled {
    ($($request:ty),* $(,)?) => {
        $(impl ClientRequest for $request {
            fn throttle_ms(_: &Self::Response<'_>) -> i32 {
                0
            }
        })*
    };
}

not_throttled!(SaslHandshakeRequest<'_>, SaslAuthenticateRequest<'_>);

/// An answer, still encoded. Its bytes are shared: a slice of them keeps the whole alive and copies nothing.
#[derive(Debug)]
pub(crate) struct ResponseFrame<M> {
    frame: Bytes,
    body_offset: usize,
    version: i16,
    broker: Arc<str>,
    throttle: Throttle,
    request: PhantomData<fn() -> M>,
}

impl<M: ClientRequest> ResponseFrame<M> {
    /// Reads the header of `frame`. The correlation id has been checked already.
    pub(super) fn new(frame: Bytes, version: i16, broker: &Arc<str>, throttle: Throttle) -> Result<Self> {
        let (_, body_offset) = frame::decode_response_header(M::API_KEY, version, &frame)
            .map_err(|error| Error::from(error).with_broker(broker).with_api(M::API_KEY, version))?;
        Ok(ResponseFrame {
            frame,
            body_offset,
            version,
            broker: broker.clone(),
            throttle,
            request: PhantomData,
        })
    }

    /// The same answer, for whoever does not remember what the request borrowed.
    pub fn detached<N: ClientRequest>(self) -> ResponseFrame<N> {
        let ResponseFrame {
            frame,
            body_offset,
            version,
            broker,
            throttle,
            ..
        } = self;
        ResponseFrame {
            frame,
            body_offset,
            version,
            broker,
            throttle,
            request: PhantomData,
        }
    }

    /// The version of the request, and so of the answer.
    pub fn version(&self) -> i16 {
        self.version
    }

    /// The whole frame; record bytes of the decoded answer can be shared by `frame().slice_ref(..)`.
    pub fn frame(&self) -> &Bytes {
        &self.frame
    }

    /// What follows the header.
    pub(super) fn body(&self) -> &[u8] {
        self.frame.get(self.body_offset..).unwrap_or_default()
    }

    /// The broker that answered, as errors name it.
    pub fn broker(&self) -> &Arc<str> {
        &self.broker
    }

    /// Reads the answer, and obeys the throttle time in it.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Protocol`] when the bytes are not what the version says.
    pub fn decode(&self) -> Result<M::Response<'_>> {
        let response = M::Response::decode(&mut Reader::new(self.body()), self.version).map_err(|error| {
            Error::from(error)
                .with_broker(&self.broker)
                .with_api(M::API_KEY, self.version)
        })?;
        self.throttle.obey(M::throttle_ms(&response));
        Ok(response)
    }
}
