//! Errors as other languages see them: number, kind, text, and three facts.
//!
//! In: the client's [`ottla::Error`], and what goes wrong at the border itself. Out: for each a number that never changes
//! its meaning (Kafka's own from -1 up, ours from -1000 down), the name of a kind, a text for a tired person, whether the
//! same call may succeed later, and whether a record may be in the log.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use ottla::{ErrorKind, Persisted};

/// An error on its way to another language. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Error {
    /// The client's.
    Client(ottla::Error),
    /// The border's.
    Border(Border),
}

/// What only happens at the border.
#[derive(Debug, Clone)]
pub struct Border {
    kind: Kind,
    text: String,
}

macro_rules! kinds {
    ($($kind:ident, $name:literal, $number:literal, $doc:literal;)*) => {
        /// The kind of trouble, one for each exception class.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(i32)]
        pub enum Kind {
            $(#[doc = $doc] $kind = $number,)*
        }

        impl Kind {
            /// All kinds, in the order of their numbers.
            pub const ALL: &'static [Kind] = &[$(Kind::$kind,)*];

            /// Its name in snake case, the same in every language.
            pub fn name(self) -> &'static str {
                match self {
                    $(Kind::$kind => $name,)*
                }
            }

            /// Its number, for errors that are no broker's; never used for anything else.
            pub fn number(self) -> i32 {
                self as i32
            }

            /// What it means.
            pub fn doc(self) -> &'static str {
                match self {
                    $(Kind::$kind => $doc,)*
                }
            }
        }
    };
}

kinds! {
    Config, "config", -1000, "A key of the configuration is unknown, has a value that does not fit, or contradicts another.";
    Argument, "argument", -1001, "An argument of a call does not fit.";
    Connect, "connect", -1002, "No connection to a broker could be made.";
    Disconnected, "disconnected", -1003, "A connection was lost before the answer came.";
    Timeout, "timeout", -1004, "The time for it ran out.";
    Protocol, "protocol", -1005, "The other side does not speak Kafka's protocol, or broke it.";
    Unsupported, "unsupported", -1006, "The broker supports no version of the request that this client speaks.";
    UnknownTopic, "unknown_topic", -1007, "The topic or partition does not exist.";
    Authorization, "authorization", -1008, "The principal may not do this.";
    Authentication, "authentication", -1009, "The broker did not accept who we say we are, or we do not accept who it says it is.";
    Fenced, "fenced", -1010, "Another instance took this one's place.";
    TooLarge, "too_large", -1011, "A record or request is larger than it may be.";
    QueueFull, "queue_full", -1012, "The buffer is full and the call was not to wait.";
    Offset, "offset", -1013, "A position lies outside the log, or there is neither a position nor a policy to find one.";
    Corrupt, "corrupt", -1014, "Records failed their checksum or cannot be read.";
    Closed, "closed", -1015, "The client was closed, or is closing.";
    Runtime, "runtime", -1016, "The client's threads cannot be started, or a blocking call was made where it must not wait.";
    Broker, "broker", -1017, "Any other error code of a broker.";
    Forked, "forked", -1018, "The client was made before a fork, in the parent process: make a new one in the child.";
    Panic, "panic", -1019, "A mistake inside the library, caught at the border. The client may be used on, but please report it.";
    Interrupted, "interrupted", -1020, "The wait was ended from elsewhere.";
    Unknown, "unknown", -1021, "An error of a kind that this version of the binding does not know.";
}

impl From<ErrorKind> for Kind {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Config => Kind::Config,
            ErrorKind::Argument => Kind::Argument,
            ErrorKind::Connect => Kind::Connect,
            ErrorKind::Disconnected => Kind::Disconnected,
            ErrorKind::Timeout => Kind::Timeout,
            ErrorKind::Protocol => Kind::Protocol,
            ErrorKind::Unsupported => Kind::Unsupported,
            ErrorKind::UnknownTopic => Kind::UnknownTopic,
            ErrorKind::Authorization => Kind::Authorization,
            ErrorKind::Authentication => Kind::Authentication,
            ErrorKind::Fenced => Kind::Fenced,
            ErrorKind::TooLarge => Kind::TooLarge,
            ErrorKind::QueueFull => Kind::QueueFull,
            ErrorKind::Offset | ErrorKind::LogTruncated => Kind::Offset,
            ErrorKind::Corrupt => Kind::Corrupt,
            ErrorKind::Closed => Kind::Closed,
            ErrorKind::Runtime => Kind::Runtime,
            ErrorKind::Broker => Kind::Broker,
            // The client may get kinds before the bindings do.
            _ => Kind::Unknown,
        }
    }
}

impl Error {
    /// An error of the border itself.
    pub fn new(kind: Kind, text: impl Into<String>) -> Self {
        let text = text.into();
        Error::Border(Border { kind, text })
    }

    /// An argument that does not fit.
    pub fn argument(text: impl Into<String>) -> Self {
        Error::new(Kind::Argument, text)
    }

    pub(crate) fn runtime(text: impl Into<String>) -> Self {
        Error::new(Kind::Runtime, text)
    }

    pub(crate) fn forked(what: &str) -> Self {
        let text = format!("this {what} was made before fork(), in the parent process: make a new one in this process");
        Error::new(Kind::Forked, text)
    }

    pub(crate) fn closed(what: &str) -> Self {
        Error::new(Kind::Closed, format!("this {what} is closed"))
    }

    /// What kind of trouble it is.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Client(error) => error.kind().into(),
            Error::Border(border) => border.kind,
        }
    }

    /// The broker's own code where a broker said it, the number of the kind otherwise.
    pub fn number(&self) -> i32 {
        match self {
            Error::Client(error) => error.raw_code().map_or(self.kind().number(), i32::from),
            Error::Border(border) => border.kind.number(),
        }
    }

    /// Kafka's name for the broker's code (`NOT_LEADER_OR_FOLLOWER`), if a broker said it and this client knows it.
    pub fn code_name(&self) -> Option<&'static str> {
        match self {
            Error::Client(error) => error.code().map(|code| code.name()),
            Error::Border(_) => None,
        }
    }

    /// Whether the same call may succeed if it is made again.
    pub fn retriable(&self) -> bool {
        match self {
            Error::Client(error) => error.retriable(),
            Error::Border(border) => matches!(border.kind, Kind::Timeout | Kind::QueueFull),
        }
    }

    /// Whether the record, or what a request asked for, may have been written.
    pub fn persisted(&self) -> Persisted {
        match self {
            Error::Client(error) => error.persisted(),
            Error::Border(_) => Persisted::No,
        }
    }

    /// The partition it is about.
    pub fn partition(&self) -> Option<&ottla::TopicPartition> {
        match self {
            Error::Client(error) => error.partition(),
            Error::Border(_) => None,
        }
    }

    /// The offset it is about.
    pub fn offset(&self) -> Option<i64> {
        match self {
            Error::Client(error) => error.offset(),
            Error::Border(_) => None,
        }
    }

    /// How many attempts were made, for a failed send.
    pub fn attempt_count(&self) -> u32 {
        match self {
            Error::Client(error) => error.attempt_count(),
            Error::Border(_) => 0,
        }
    }
}

/// `no`, `possibly` or `yes`, the same in every language.
pub fn persisted_name(persisted: Persisted) -> &'static str {
    match persisted {
        Persisted::No => "no",
        Persisted::Possibly => "possibly",
        Persisted::Yes => "yes",
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Client(error) => error.fmt(f),
            Error::Border(border) => f.write_str(&border.text),
        }
    }
}

impl std::error::Error for Error {}

impl From<ottla::Error> for Error {
    fn from(error: ottla::Error) -> Self {
        Error::Client(error)
    }
}

/// Runs what a call from another language asks for. A panic ends here, as an error.
///
/// # Errors
/// What `call` gives, and [`Kind::Panic`].
pub fn guard<T>(call: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    // What the library's locks guard is whole after every step; see each of them.
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| Err(panicked(&*panic)))
}

fn panicked(panic: &(dyn Any + Send)) -> Error {
    let words = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without words");
    Error::new(Kind::Panic, format!("a mistake inside the library was caught: {words}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn numbers_of_kinds_are_below_those_of_kafka_and_used_once() {
        let numbers: BTreeSet<i32> = Kind::ALL.iter().map(|kind| kind.number()).collect();
        assert_eq!(numbers.len(), Kind::ALL.len());
        assert!(numbers.iter().all(|number| *number <= -1000));
        // Given once, never changed: what programs have compiled in.
        assert_eq!(
            (Kind::Config.number(), Kind::QueueFull.number(), Kind::Unknown.number()),
            (-1000, -1012, -1021)
        );
    }

    #[test]
    fn a_panic_ends_at_the_border() {
        let error = guard::<()>(|| panic!("wheel came off")).unwrap_err();
        assert_eq!(error.kind(), Kind::Panic);
        assert!(error.to_string().contains("wheel came off"), "{error}");
    }
}
