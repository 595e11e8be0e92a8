//! SaslAuthenticate (key 36), versions 0 to 2.
//!
//! - Carries one message of the mechanism that SaslHandshake chose, and the broker's answer to it. From version 1 the last one
//!   says how long the authentication holds (`connections.max.reauth.ms`), 0 for as long as the connection.
//! - A failure is SASL_AUTHENTICATION_FAILED with Apache Kafka's words, which do not say whether there is such a user. It is
//!   answered after `connection.failed.authentication.delay.ms`; then the connection is closed.
//! - After authentication, or without SASL, it is ILLEGAL_SASL_STATE.
//!
//! After a SaslHandshake of version 0 the messages are bare: [`bare`]. A failure is then not answered at all.

use crate::handlers::{CloseReason, Context, Reply};
use crate::security::sasl::Outcome;
use bytes::Bytes;
use ottla_protocol::ErrorCode;
use ottla_protocol::frame::RequestHeader;
use ottla_protocol::messages::{SaslAuthenticateRequest, SaslAuthenticateResponse};
use ottla_protocol::wire::Pieces;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tracing::debug;

/// Carries out one request.
pub async fn handle(context: &Context, header: &RequestHeader<'_>, request: SaslAuthenticateRequest<'_>) -> Reply {
    let heard = context
        .sasl
        .as_ref()
        .map(|session| session.hear(request.auth_bytes, Instant::now()));
    let (auth_bytes, lifetime) = match heard {
        Some(Outcome::Challenge(bytes)) => (bytes, None),
        Some(Outcome::Accepted(bytes, lifetime)) => {
            welcome(context);
            (bytes, lifetime)
        }
        Some(Outcome::Refused(text)) => {
            let reply = context.reply(header, &failure(ErrorCode::SaslAuthenticationFailed, &text));
            return later(context, reply.and_close(CloseReason::AuthenticationFailed(text)));
        }
        Some(Outcome::IllegalState) | None => {
            let text = "SaslAuthenticate request received after successful authentication";
            return context.reply(header, &failure(ErrorCode::IllegalSaslState, text));
        }
    };
    let answer = SaslAuthenticateResponse {
        auth_bytes: &auth_bytes,
        session_lifetime_ms: lifetime.map_or(0, |lifetime| i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX)),
        ..Default::default()
    };
    context.reply(header, &answer)
}

/// Takes a message that came in a frame of its own.
pub fn bare(context: &Context, message: &[u8]) -> Reply {
    let heard = context
        .sasl
        .as_ref()
        .map(|session| session.hear(message, Instant::now()));
    match heard {
        Some(Outcome::Challenge(bytes)) => framed(bytes),
        Some(Outcome::Accepted(bytes, _)) => {
            welcome(context);
            framed(bytes)
        }
        Some(Outcome::Refused(text)) => later(context, Reply::Close(CloseReason::AuthenticationFailed(text))),
        Some(Outcome::IllegalState) | None => Reply::Nothing,
    }
}

fn welcome(context: &Context) {
    if let Some(username) = context.sasl.as_ref().and_then(|session| session.username()) {
        debug!(peer = %context.peer, username, "authenticated");
    }
}

fn failure(error: ErrorCode, text: &str) -> SaslAuthenticateResponse<'_> {
    SaslAuthenticateResponse {
        error_code: error.code(),
        error_message: Some(text),
        ..Default::default()
    }
}

/// Holds an answer back: whoever guesses shall not guess fast.
fn later(context: &Context, reply: Reply) -> Reply {
    let delay = context
        .sasl
        .as_ref()
        .map_or(Duration::ZERO, |session| session.policy().failure_delay);
    if delay.is_zero() {
        return reply;
    }
    Reply::Parked(Box::pin(async move {
        sleep(delay).await;
        reply
    }))
}

fn framed(bytes: Vec<u8>) -> Reply {
    // A message is bounded by the mechanism, far below any length that does not fit.
    let length = i32::try_from(bytes.len()).unwrap_or(i32::MAX);
    let frame = [&length.to_be_bytes()[..], &bytes].concat();
    Reply::Now(Pieces::from(vec![Bytes::from(frame)]))
}
