//! The producer's identity: the id and epoch that the cluster gives to an idempotent producer.
//!
//! One task asks for it (InitProducerId), at the start and whenever a partition cannot use the present id any more.
//! Partitions raise their epochs themselves; see the client's state machines.

use std::sync::{Arc, Mutex, PoisonError};

use ottla_client_state::backoff::Backoff;
use ottla_client_state::sequence::ProducerIdentity;
use ottla_protocol::messages::InitProducerIdRequest;
use tokio::sync::Notify;

use super::shared::{NOWHERE, Shared};
use crate::error::{Error, ErrorKind, Result};

/// The present identity, and the wish for a new one.
#[derive(Debug, Default)]
pub(super) struct Identity {
    current: Mutex<Option<ProducerIdentity>>,
    wanted: Notify,
}

impl Identity {
    /// The present identity; `None` until the cluster has given one.
    pub fn current(&self) -> Option<ProducerIdentity> {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, identity: Option<ProducerIdentity>) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = identity;
    }

    /// Gives up the id `spent` if it is still the present one, and asks for another.
    pub fn renew(&self, spent: i64) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.is_some_and(|identity| identity.id == spent) {
            *current = None;
            self.wanted.notify_one();
        }
    }
}

/// The task that asks for identities, until the producer ends.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut ended = shared.ended();
    tokio::select! {
        () = keep(&shared) => {}
        _ = ended.wait_for(|ended| *ended) => {}
    }
}

async fn keep(shared: &Shared) {
    let client = shared.client.config();
    let mut backoff = Backoff::new(client.retry_backoff_ms, client.retry_backoff_max_ms, rand::random());
    let mut failures = 0;
    loop {
        match ask(shared).await {
            Ok(identity) => {
                shared.watch.identified(identity);
                failures = 0;
                shared.set_trouble(NOWHERE, None);
                shared.identity.set(Some(identity));
                shared.wake_senders();
                shared.identity.wanted.notified().await;
            }
            Err(error) => {
                failures += 1;
                if error.retriable() {
                    tracing::debug!(%error, "no producer id yet; trying again");
                } else {
                    tracing::warn!(%error, "the cluster refuses a producer id");
                    shared.abort_waiting(&error);
                }
                shared.set_trouble(NOWHERE, Some(error));
                tokio::time::sleep(std::time::Duration::from_millis(backoff.next_ms(failures))).await;
            }
        }
    }
}

async fn ask(shared: &Shared) -> Result<ProducerIdentity> {
    let request = InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: i32::MAX,
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    };
    let frame = shared.client.request_any(i16::MAX, &request).await?;
    let response = frame.decode()?;
    if response.error_code != 0 {
        let error = Error::from_code(response.error_code, "a producer id for idempotent writes");
        return Err(error.with_broker(frame.broker()));
    }
    if response.producer_id < 0 || response.producer_epoch < 0 {
        let text = "the broker gave a negative producer id or epoch";
        return Err(Error::new(ErrorKind::Protocol, text)
            .with_retriable(true)
            .with_broker(frame.broker()));
    }
    Ok(ProducerIdentity {
        id: response.producer_id,
        epoch: response.producer_epoch,
    })
}
