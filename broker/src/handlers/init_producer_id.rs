//! InitProducerId (key 22), versions 0 to 5.
//!
//! - Without a transactional id every request gets a new producer id with epoch 0, whatever id it had before. Ids come in
//!   blocks of 1000 that are written to the metadata log first, so none is ever given twice.
//! - A producer id without epoch, or the reverse, is INVALID_REQUEST; so is an empty transactional id.
//!
//! Not supported: transactions. A transactional id is answered with TRANSACTIONAL_ID_AUTHORIZATION_FAILED: of the codes
//! that a client expects here it is the one that the Java client and librdkafka both take as final, instead of asking
//! again until their timeout. Version 6 is unstable in Kafka and not served.

use super::{Context, Reply};
use ottla_protocol::ErrorCode;
use ottla_protocol::frame::RequestHeader;
use ottla_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};

/// Carries out one request.
pub async fn handle(context: &Context, header: &RequestHeader<'_>, request: InitProducerIdRequest<'_>) -> Reply {
    let refuse = |code: ErrorCode| InitProducerIdResponse {
        error_code: code.code(),
        producer_id: -1,
        producer_epoch: -1,
        ..InitProducerIdResponse::default()
    };
    if let Some(code) = check(&request) {
        return context.reply(header, &refuse(code));
    }
    let response = match context.broker.controller.next_producer_id().await {
        Ok(producer_id) => InitProducerIdResponse {
            producer_id,
            producer_epoch: 0,
            ..InitProducerIdResponse::default()
        },
        Err(error) => {
            tracing::warn!(%error, "no producer id can be given");
            // A code that clients repeat the request for: the broker may be back soon, on a disk that works.
            refuse(ErrorCode::CoordinatorNotAvailable)
        }
    };
    context.reply(header, &response)
}

fn check(request: &InitProducerIdRequest<'_>) -> Option<ErrorCode> {
    if (request.producer_id == -1) != (request.producer_epoch == -1) {
        return Some(ErrorCode::InvalidRequest);
    }
    match request.transactional_id {
        None => None,
        Some("") => Some(ErrorCode::InvalidRequest),
        Some(_) => Some(ErrorCode::TransactionalIdAuthorizationFailed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transactions_and_half_an_identity_are_refused() {
        let request = InitProducerIdRequest {
            transactional_id: None,
            ..InitProducerIdRequest::default()
        };
        assert_eq!(check(&request), None);
        assert_eq!(
            check(&InitProducerIdRequest {
                producer_id: 5,
                producer_epoch: 1,
                ..request.clone()
            }),
            None
        );
        let half = InitProducerIdRequest {
            producer_id: 5,
            ..request.clone()
        };
        assert_eq!(check(&half), Some(ErrorCode::InvalidRequest));
        let empty = InitProducerIdRequest {
            transactional_id: Some(""),
            ..request.clone()
        };
        assert_eq!(check(&empty), Some(ErrorCode::InvalidRequest));
        let transactional = InitProducerIdRequest {
            transactional_id: Some("t"),
            ..request
        };
        assert_eq!(
            check(&transactional),
            Some(ErrorCode::TransactionalIdAuthorizationFailed)
        );
        assert!(!ErrorCode::TransactionalIdAuthorizationFailed.retriable());
    }
}
