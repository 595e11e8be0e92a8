//! Answers with faults in them, as bytes.
//!
//! In: a request or an answer as a frame, and the [`Target`] of a rule. Out: the answer with the error in it.
//! Where the error goes in each API's answer is known in [`super::places`].
//!
//! A refusal must leave no trace. An API without effects is carried out in a harmless form and its answer is replaced;
//! from one with effects the refused parts are taken out first, and put back into the answer.

use super::act::{silent, then, whole};
use super::places::{Places, for_api};
use super::rule::{Rule, Seen, WireCode};
use crate::dispatch;
use crate::handlers::{CloseReason, Context, Reply, ReplyTo};
use ottla_broker_state::fetch_sessions::SessionKey;
use ottla_protocol::messages::*;
use ottla_protocol::{ApiKey, Uuid, frame};
use std::time::Duration;

/// The broker's own words for an error that was asked for.
pub(super) const MESSAGE: &str = "asked for by a fault rule";
/// The type of a topic among the resources that have configurations.
const TOPIC: i8 = 2;

/// Which parts of a request and its answer a rule means.
#[derive(Debug, Clone)]
pub(super) struct Target {
    topic: Option<String>,
    /// The topic's id, zero if there is no such topic (any more).
    id: Uuid,
    /// Asked for one partition.
    pub(super) partition: Option<i32>,
    /// The error belongs to the answer as a whole.
    pub(super) top_level: bool,
    /// What is meant and may be left out of the answer.
    left_out: Vec<SessionKey>,
}

impl Target {
    fn is_everything(&self) -> bool {
        self.topic.is_none() && self.partition.is_none()
    }

    /// Whether the topic is meant. Requests say either its name or its id; the other one is empty.
    pub(super) fn topic(&self, name: &str, id: Uuid) -> bool {
        match &self.topic {
            None => true,
            Some(_) if name.is_empty() => !id.is_zero() && self.id == id,
            Some(topic) => topic == name,
        }
    }

    /// Whether the partition is meant.
    pub(super) fn partition(&self, index: i32) -> bool {
        self.partition.is_none_or(|wanted| wanted == index)
    }

    /// Whether what has configurations is meant.
    pub(super) fn resource(&self, kind: i8, name: &str) -> bool {
        self.topic.is_none() || (kind == TOPIC && self.topic(name, Uuid::ZERO))
    }
}

/// What of the request `rule` means; `None` if nothing.
pub(super) fn target(context: &Context, rule: &Rule, seen: &Seen<'_>) -> Option<Target> {
    let known = |topic: &String| context.broker.replica_manager.topic(topic);
    let mut target = Target {
        id: rule
            .topic
            .as_ref()
            .and_then(known)
            .map_or(Uuid::ZERO, |topic| topic.id()),
        topic: rule.topic.clone(),
        partition: rule.partition,
        top_level: rule.top_level,
        left_out: Vec::new(),
    };
    target.left_out = for_api!(seen.api, left_out(context, seen, &target), Vec::new());
    if target.is_everything() || !target.left_out.is_empty() {
        return Some(target);
    }
    let touches = for_api!(seen.api, touches(seen, &target), false);
    touches.then_some(target)
}

fn left_out<'a, R: Places<'a>>(context: &Context, seen: &Seen<'a>, target: &Target) -> Vec<SessionKey> {
    let request = seen.decode::<R>();
    request.map_or_else(Vec::new, |request| request.left_out(context, target))
}

fn touches<'a, R: Places<'a>>(seen: &Seen<'a>, target: &Target) -> bool {
    seen.decode::<R>().is_some_and(|request| request.touches(target))
}

/// Answers with `code` for the parts meant, without carrying them out; carries out the rest.
pub(super) async fn refuse(context: &Context, frame: &[u8], target: &Target, code: WireCode) -> Reply {
    let Some(seen) = super::see(context, frame) else {
        return dispatch::dispatch(context, frame).await;
    };
    let refusal = for_api!(seen.api, split(&seen, target, code), None);
    let to = ReplyTo {
        key: seen.api,
        version: seen.version,
        correlation_id: seen.correlation_id,
    };
    match refusal {
        // Not served, or malformed: the broker's own refusal.
        None => dispatch::dispatch(context, frame).await,
        Some(Err(reason)) => Reply::Close(reason),
        Some(Ok(Split { rest, refused })) => {
            let Some(Rest { frame, version }) = rest else {
                return refused.map_or_else(silent, |answer| Reply::Now(whole(answer)));
            };
            let reply = dispatch::dispatch(context, &frame).await;
            let target = target.clone();
            match then(reply, move |answer| {
                join(to, version, &answer.into_vec(), refused.as_deref(), &target, code)
            }) {
                Reply::Nothing => silent(),
                reply => reply,
            }
        }
    }
}

/// A request taken apart.
#[derive(Debug)]
struct Split {
    /// What is carried out.
    rest: Option<Rest>,
    /// The answer to what is not, as a frame; `None` if the error is put into the answer to the rest, or nobody wants
    /// one.
    refused: Option<Vec<u8>>,
}

#[derive(Debug)]
struct Rest {
    /// Without its length prefix.
    frame: Vec<u8>,
    version: i16,
}

fn split<'a, R: Places<'a>>(seen: &Seen<'a>, target: &Target, code: WireCode) -> Option<Result<Split, CloseReason>> {
    let request = seen.decode::<R>()?;
    let unanswered = request.unanswered();
    let (rest, refused) = request.without_effect(target, seen.version);
    let encode = || -> Result<Split, CloseReason> {
        let failed = |error| CloseReason::Encode { key: seen.api, error };
        let rest = rest.map(|(request, version)| -> Result<Rest, CloseReason> {
            let pieces = frame::encode_request(version, seen.correlation_id, seen.client_id, &request);
            let frame = pieces.map_err(failed)?.into_vec().split_off(frame::LENGTH_PREFIX_BYTES);
            Ok(Rest { frame, version })
        });
        let refused = refused.filter(|_| !unanswered).map(|mut answer| {
            R::spoil(&mut answer, target, code, seen.version);
            let pieces = frame::encode_response(seen.api, seen.version, seen.correlation_id, &answer);
            pieces.map(|pieces| pieces.into_vec()).map_err(failed)
        });
        Ok(Split {
            rest: rest.transpose()?,
            refused: refused.transpose()?,
        })
    };
    Some(encode())
}

/// The answer to the rest, in the version it was carried out in, becomes the answer to all.
fn join(to: ReplyTo, version: i16, answer: &[u8], refused: Option<&[u8]>, target: &Target, code: WireCode) -> Reply {
    let joined = for_api!(
        to.key,
        join_as(to, version, answer, refused, target, code),
        Ok(answer.to_vec())
    );
    joined.map_or_else(Reply::Close, |bytes| Reply::Now(whole(bytes)))
}

fn join_as<'a, R: Places<'a>>(
    to: ReplyTo,
    version: i16,
    answer: &'a [u8],
    refused: Option<&'a [u8]>,
    target: &'a Target,
    code: WireCode,
) -> Result<Vec<u8>, CloseReason> {
    let mut joined: R::Response<'a> = read::<R>(version, answer)?;
    match refused {
        Some(refused) => R::append(&mut joined, read::<R>(to.version, refused)?),
        None => {
            R::complete(&mut joined, &target.left_out);
            R::spoil(&mut joined, target, code, to.version);
        }
    }
    write::<R>(to.version, to.correlation_id, &joined)
}

/// Puts an error and a throttle time into an answer.
pub(super) fn change(
    key: ApiKey,
    version: i16,
    answer: &[u8],
    target: &Target,
    error: Option<WireCode>,
    throttle: Option<Duration>,
) -> Result<Vec<u8>, CloseReason> {
    for_api!(
        key,
        change_as(version, answer, target, error, throttle),
        Ok(answer.to_vec())
    )
}

fn change_as<'a, R: Places<'a>>(
    version: i16,
    answer: &'a [u8],
    target: &'a Target,
    error: Option<WireCode>,
    throttle: Option<Duration>,
) -> Result<Vec<u8>, CloseReason> {
    let mut changed: R::Response<'a> = read::<R>(version, answer)?;
    if let Some(error) = error {
        R::complete(&mut changed, &target.left_out);
        R::spoil(&mut changed, target, error, version);
    }
    if let Some(time) = throttle
        && let Some(place) = R::throttle(&mut changed)
    {
        *place = i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
    }
    let body = answer.get(frame::LENGTH_PREFIX_BYTES..).unwrap_or_default();
    let (correlation_id, _) = frame::decode_response_header(R::API_KEY, version, body)?;
    write::<R>(version, correlation_id, &changed)
}

fn read<'a, R: Places<'a>>(version: i16, answer: &'a [u8]) -> Result<R::Response<'a>, CloseReason> {
    let answer = answer.get(frame::LENGTH_PREFIX_BYTES..).unwrap_or_default();
    let (_, body_at) = frame::decode_response_header(R::API_KEY, version, answer)?;
    Ok(frame::decode_body(answer, body_at, version)?)
}

fn write<'a, R: Places<'a>>(version: i16, correlation_id: i32, body: &R::Response<'a>) -> Result<Vec<u8>, CloseReason> {
    let key = R::API_KEY;
    let pieces = frame::encode_response(key, version, correlation_id, body);
    pieces
        .map(|pieces| pieces.into_vec())
        .map_err(|error| CloseReason::Encode { key, error })
}
