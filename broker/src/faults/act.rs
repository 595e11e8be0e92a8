//! What a fault does to its request and its answer.
//!
//! In: a request that met a rule. Out: a [`Reply`], as from `dispatch`, which it calls unless the request is lost.
//! It does not choose (the parent does) and does not know where an error goes in an answer ([`super::answers`] does).

use super::Installed;
use super::answers::{self, Target};
use super::rule::{After, Before, Seen};
use crate::dispatch;
use crate::handlers::{CloseReason, Context, Reply};
use ottla_protocol::wire::Pieces;
use ottla_protocol::{ApiKey, frame};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// The fault that one request meets.
#[derive(Debug)]
pub struct Plan {
    installed: Arc<Installed>,
    target: Target,
}

impl Plan {
    pub(super) fn new(installed: Arc<Installed>, target: Target) -> Self {
        let plan = Plan { installed, target };
        // Whoever waits for a delay wants to act during it.
        if plan.delay().is_some() {
            plan.installed.note_fired();
        }
        plan
    }

    /// How long the request is to be held back before [`carry_out`](Plan::carry_out).
    pub fn delay(&self) -> Option<Duration> {
        let delay = self.installed.rule.delay_request;
        (!delay.is_zero()).then_some(delay)
    }

    /// True if no later request of the connection is to be carried out.
    pub fn ends_connection(&self) -> bool {
        self.installed.rule.ends_connection()
    }

    /// Carries the request out as the fault wants it.
    pub async fn carry_out(self, context: &Context, frame: &[u8]) -> Reply {
        let rule = &self.installed.rule;
        let reply = match rule.before {
            Before::Drop => {
                self.note_fired();
                return Reply::Nothing;
            }
            Before::Close | Before::Cut(_) => {
                self.note_fired();
                return Reply::Last(Pieces::from(Vec::new()));
            }
            Before::Error(code) => answers::refuse(context, frame, &self.target, code).await,
            Before::CarryOut => dispatch::dispatch(context, frame).await,
        };
        self.finish(reply, super::see(context, frame))
    }

    fn note_fired(&self) {
        if self.delay().is_none() {
            self.installed.note_fired();
        }
    }

    /// Does to the answer what the rule says.
    fn finish(self, reply: Reply, seen: Option<Seen<'_>>) -> Reply {
        let rule = &self.installed.rule;
        match rule.after {
            After::Drop => {
                self.note_fired();
                return Reply::Nothing;
            }
            After::Close => {
                self.note_fired();
                return Reply::Last(Pieces::from(Vec::new()));
            }
            After::Send | After::Cut(_) | After::Duplicate => {}
        }
        let due = Instant::now() + rule.delay_response;
        let delayed = !rule.delay_response.is_zero();
        let to = seen.map(|seen| (seen.api, seen.version));
        let reply = match reply {
            Reply::Nothing => {
                self.note_fired();
                return if rule.error_after.is_some() {
                    silent()
                } else {
                    Reply::Nothing
                };
            }
            Reply::Close(_) | Reply::Last(_) | Reply::Farewell(..) => {
                self.note_fired();
                return reply;
            }
            reply => then(reply, move |pieces| self.change(pieces, to)),
        };
        if !delayed {
            return reply;
        }
        Reply::Parked(Box::pin(async move {
            sleep_until(due).await;
            reply
        }))
    }

    fn change(self, pieces: Pieces, to: Option<(ApiKey, i16)>) -> Reply {
        let rule = &self.installed.rule;
        let mut answer = pieces.into_vec();
        if let Some((key, version)) = to
            && (rule.error_after.is_some() || rule.throttle.is_some())
        {
            answer = match answers::change(key, version, &answer, &self.target, rule.error_after, rule.throttle) {
                Ok(changed) => changed,
                Err(reason) => return Reply::Close(reason),
            };
        }
        if let (Some((key, version)), Some(edit)) = (to, &rule.edit) {
            answer = edited(key, version, &answer, |body| edit(body));
        }
        self.note_fired();
        match rule.after {
            After::Cut(bytes) => {
                answer.truncate(bytes);
                Reply::Last(whole(answer))
            }
            After::Duplicate => Reply::Now(whole(answer.repeat(2))),
            _ => Reply::Now(whole(answer)),
        }
    }
}

/// The answer in one piece.
pub(super) fn whole(bytes: Vec<u8>) -> Pieces {
    Pieces::from(vec![bytes.into()])
}

/// How a refusal is told to somebody who wants no answer.
pub(super) fn silent() -> Reply {
    Reply::Close(CloseReason::SilentProduce(answers::MESSAGE.to_owned()))
}

/// Changes the answer, now or when it comes.
pub(super) fn then(reply: Reply, change: impl FnOnce(Pieces) -> Reply + Send + 'static) -> Reply {
    match reply {
        Reply::Now(pieces) => change(pieces),
        Reply::Parked(parked) => Reply::Parked(Box::pin(async move { then(parked.await, change) })),
        other => other,
    }
}

fn edited(key: ApiKey, version: i16, answer: &[u8], edit: impl FnOnce(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let prefix = frame::LENGTH_PREFIX_BYTES;
    let Ok((_, body_at)) = frame::decode_response_header(key, version, answer.get(prefix..).unwrap_or_default()) else {
        return answer.to_vec();
    };
    let (head, body) = answer.split_at(prefix + body_at);
    let body = edit(body);
    let length = i32::try_from(head.len() - prefix + body.len()).unwrap_or(i32::MAX);
    [&length.to_be_bytes()[..], &head[prefix..], &body].concat()
}
