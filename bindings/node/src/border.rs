//! Errors as text, answers by mail, and wake-ups.
//!
//! In: results of the core. Out: JSON that the JavaScript half makes values and errors of. An answer that takes time is
//! posted under the number that the caller gave; JavaScript is woken once for all that have come.

use std::future::Future;
use std::task::Waker;

use napi::Status;
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use ottla::TopicPartition;
use ottla_bindings_core::{Error, Kind, Mailbox, guard, persisted_name, spawn, waker};
use serde_json::{Value, json};

/// A function of JavaScript that may be called from any thread. It is weak: it keeps no process alive. Calls after the
/// end of its environment (a worker that was terminated) do nothing.
pub(crate) type Wake = ThreadsafeFunction<u32, (), u32, Status, false, true>;

/// A waker that calls `wake`.
pub(crate) fn waking(wake: Wake) -> Waker {
    waker(move || {
        wake.call(0, ThreadsafeFunctionCallMode::NonBlocking);
    })
}

/// An error as JSON.
pub(crate) fn told(error: &Error) -> Value {
    json!({
        "kind": error.kind().name(),
        "code": error.number(),
        "codeName": error.code_name(),
        "retriable": error.retriable(),
        "persisted": persisted_name(error.persisted()),
        "message": error.to_string(),
        "topic": error.partition().map(|partition| partition.topic.as_ref()),
        "partition": error.partition().map(|partition| partition.partition),
        "offset": error.offset().map(|offset| offset.to_string()),
        "attempts": error.attempt_count(),
    })
}

/// An error as an exception whose message is JSON: the JavaScript half makes a `KafkaError` of it.
pub(crate) fn thrown(error: Error) -> napi::Error {
    napi::Error::from_reason(told(&error).to_string())
}

/// Runs a call from JavaScript; a panic becomes an error.
pub(crate) fn call<T>(what: impl FnOnce() -> Result<T, Error>) -> napi::Result<T> {
    guard(what).map_err(thrown)
}

/// `[[key, value], ...]` as the core takes a configuration.
pub(crate) fn pairs(options: Vec<Vec<String>>) -> Result<Vec<(String, String)>, Error> {
    let pair = |words: Vec<String>| {
        <[String; 2]>::try_from(words)
            .map(|[key, value]| (key, value))
            .map_err(|_| Error::argument("options must be pairs of key and value"))
    };
    options.into_iter().map(pair).collect()
}

/// `[[topic, partition], ...]` as JSON.
pub(crate) fn partitions(text: &str) -> Result<Vec<TopicPartition>, Error> {
    let list: Vec<(String, i32)> = parsed(text)?;
    Ok(list
        .into_iter()
        .map(|(topic, partition)| TopicPartition::new(topic.as_str(), partition))
        .collect())
}

/// What the JavaScript half packed as JSON.
pub(crate) fn parsed<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|error| Error::argument(format!("an argument does not fit: {error}")))
}

/// Answers that are on their way to JavaScript, as JSON texts `{id, answer}` or `{id, error}`.
#[derive(Clone)]
pub(crate) struct Post {
    letters: Mailbox<String>,
}

impl Post {
    pub fn new(waker: Waker) -> Self {
        Post {
            letters: Mailbox::new(waker),
        }
    }

    /// Runs `future` and posts what comes of it under the number `id`.
    pub fn answer<F, E>(&self, id: u32, future: F) -> napi::Result<()>
    where
        F: Future<Output = Result<Value, E>> + Send + 'static,
        E: Into<Error>,
    {
        let letters = self.letters.clone();
        call(|| {
            spawn(async move {
                let letter = match future.await {
                    Ok(answer) => json!({ "id": id, "answer": answer }),
                    Err(error) => json!({ "id": id, "error": told(&error.into()) }),
                };
                letters.put(letter.to_string());
            })
        })
    }

    /// What has come.
    pub fn take(&self) -> Vec<String> {
        self.letters.take()
    }
}

/// What nobody could have meant.
pub(crate) fn refused(text: impl Into<String>) -> Error {
    Error::new(Kind::Argument, text)
}
