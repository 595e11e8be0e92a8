//! SaslHandshake (key 17), versions 0 and 1.
//!
//! - Chooses the mechanism that the client will authenticate by. Version 0: its messages come in frames of their own;
//!   version 1: in SaslAuthenticate requests.
//! - A mechanism that the listener does not have is UNSUPPORTED_SASL_MECHANISM, with the list of those that it has; then the
//!   connection is closed.
//! - After an authentication that does not hold for ever (`connections.max.reauth.ms`), it begins the next one (KIP-368), at
//!   most once a second. Otherwise it is ILLEGAL_SASL_STATE, as on a listener without SASL.

use crate::handlers::{CloseReason, Context, Reply};
use crate::security::sasl::{Choice, Session};
use ottla_protocol::ErrorCode;
use ottla_protocol::frame::RequestHeader;
use ottla_protocol::messages::{SaslHandshakeRequest, SaslHandshakeResponse};
use tokio::time::Instant;

/// Carries out one request.
pub async fn handle(context: &Context, header: &RequestHeader<'_>, request: SaslHandshakeRequest<'_>) -> Reply {
    let Some(session) = context.sasl.as_deref() else {
        return context.reply(header, &answer(ErrorCode::IllegalSaslState, None));
    };
    match session.choose(request.mechanism, header.api_version, Instant::now()) {
        Choice::Chosen => context.reply(header, &answer(ErrorCode::None, Some(session))),
        Choice::IllegalState => context.reply(header, &answer(ErrorCode::IllegalSaslState, None)),
        Choice::Unsupported => {
            let reply = context.reply(header, &answer(ErrorCode::UnsupportedSaslMechanism, Some(session)));
            reply.and_close(CloseReason::UnsupportedMechanism {
                enabled: session
                    .policy()
                    .mechanisms()
                    .map(|mechanism| mechanism.name())
                    .collect(),
            })
        }
    }
}

/// The answer to a request at the wrong time.
pub fn illegal_state() -> SaslHandshakeResponse<'static> {
    answer(ErrorCode::IllegalSaslState, None)
}

fn answer(error: ErrorCode, session: Option<&Session>) -> SaslHandshakeResponse<'static> {
    SaslHandshakeResponse {
        error_code: error.code(),
        mechanisms: session
            .map(|session| {
                session
                    .policy()
                    .mechanisms()
                    .map(|mechanism| mechanism.name())
                    .collect()
            })
            .unwrap_or_default(),
    }
}
