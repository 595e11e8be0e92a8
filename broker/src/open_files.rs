//! How many files and sockets the process may have open.
//!
//! Systems start processes with a low limit that every process may raise for itself, up to a second one. A broker needs
//! a descriptor for each connection and some for each partition, so it raises its own. For programs that are a broker;
//! the library does not change its host.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{info, warn};

/// Below this a broker is likely to refuse connections for want of descriptors.
const ENOUGH: u64 = 10_000;

/// Raises the limit of open files as far as this process may, and says in the log if that is not far.
pub fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            warn!("cannot raise the limit of open files: {error}");
        }
    }
    match getrlimit(Resource::Nofile).current {
        Some(files) if files < ENOUGH => {
            warn!("connections and log segments together may be at most {files}: the limit of open files (ulimit -Hn)");
        }
        Some(files) => info!("up to {files} files and connections may be open"),
        None => {}
    }
}
