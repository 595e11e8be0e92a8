//! What the handlers of groups have in common (keys 8 to 16, 42, 47, 68 and 69): who the client is, and answers that wait.

use crate::coordinator::{Commit, Promise, Released};
use crate::handlers::{Context, Reply};
use ottla_broker_state::group::{Client, GroupReply, GroupShard};
use ottla_protocol::wire::Uuid;
use ottla_protocol::{ErrorCode, frame};
use rand::RngExt;

/// Answers when the records are committed, or at once if they are. `respond` is told what went wrong with them.
pub fn when_committed(commit: Commit, respond: impl FnOnce(Result<(), ErrorCode>) -> Reply + Send + 'static) -> Reply {
    if commit.is_done() {
        return respond(Ok(()));
    }
    Reply::Parked(Box::pin(async move { respond(commit.done().await) }))
}

/// The same for what may have to wait for other members first. `pick` finds the answer among those of all APIs.
pub fn when_kept<T: Send + 'static>(
    promise: Promise<T>,
    pick: impl FnOnce(GroupReply) -> Option<T> + Send + 'static,
    respond: impl FnOnce(Result<T, ErrorCode>) -> Reply + Send + 'static,
) -> Reply {
    match promise {
        Promise::Now(Released { reply, commit }) => when_committed(commit, |done| respond(done.map(|()| reply))),
        Promise::Later(receiver) => Reply::Parked(Box::pin(async move {
            // Nobody answers any more if the coordinator has moved.
            let Ok(Released { reply, commit }) = receiver.await else {
                return respond(Err(ErrorCode::NotCoordinator));
            };
            let done = if commit.is_done() { Ok(()) } else { commit.done().await };
            respond(done.and_then(|()| pick(reply).ok_or(ErrorCode::UnknownServerError)))
        })),
    }
}

/// One request's answers to several groups, each of which is good when its own records are committed.
pub struct Several<A> {
    answers: Vec<A>,
    /// What answers wait for, by their places.
    commits: Vec<(usize, Commit)>,
}

impl<A: Send + 'static> Several<A> {
    /// No answers yet.
    pub fn with_capacity(count: usize) -> Self {
        Several {
            answers: Vec::with_capacity(count),
            commits: Vec::new(),
        }
    }

    /// The next answer, and what it waits for, if anything.
    pub fn push(&mut self, answer: A, commit: Option<Commit>) {
        if let Some(commit) = commit.filter(|commit| !commit.is_done()) {
            self.commits.push((self.answers.len(), commit));
        }
        self.answers.push(answer);
    }

    /// Answers when all is committed, or at once if it is. `fail` puts into an answer what went wrong with its records.
    pub fn when_committed(
        self,
        fail: impl Fn(&mut A, ErrorCode) + Send + 'static,
        respond: impl FnOnce(&[A]) -> Reply + Send + 'static,
    ) -> Reply {
        let Several { mut answers, commits } = self;
        if commits.is_empty() {
            return respond(&answers);
        }
        Reply::Parked(Box::pin(async move {
            for (place, commit) in commits {
                if let (Err(code), Some(answer)) = (commit.done().await, answers.get_mut(place)) {
                    fail(answer, code);
                }
            }
            respond(&answers)
        }))
    }
}

/// "Not known": nobody has asked an authorizer what the client may do with a group.
pub const OPERATIONS_NOT_KNOWN: i32 = i32::MIN;

/// A group's name, and what is known of it.
pub type Described<T> = (String, Result<Option<T>, ErrorCode>);

/// Looks at each of these groups, and answers when what was seen is committed.
pub fn describe<T: Send + 'static>(
    context: &Context,
    ids: &[&str],
    look: impl Fn(&GroupShard, &str) -> Option<T>,
    respond: impl FnOnce(&[Described<T>]) -> Reply + Send + 'static,
) -> Reply {
    let mut groups = Several::with_capacity(ids.len());
    for id in ids {
        let (described, commit) = match context.broker.coordinator.look(id, |shard| look(shard, id)) {
            Ok((described, commit)) => (Ok(described), Some(commit)),
            Err(code) => (Err(code), None),
        };
        groups.push(((*id).to_owned(), described), commit);
    }
    groups.when_committed(
        |(_, described): &mut Described<T>, code| *described = Err(code),
        respond,
    )
}

/// The address of the client, as Java prints it and `kafka-consumer-groups.sh` shows it.
pub fn host(context: &Context) -> String {
    format!("/{}", context.peer.ip())
}

/// Who is asking.
pub fn client<'a>(header: &frame::RequestHeader<'a>, host: &'a str) -> Client<'a> {
    Client {
        id: header.client_id.unwrap_or_default(),
        host,
        fresh_id: Uuid::from_random_bytes(rand::rng().random()),
    }
}
