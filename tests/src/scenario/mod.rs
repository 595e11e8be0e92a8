//! Language-neutral scenarios: one story, told by every language. The format is in `tests/scenarios/README.md`.
//!
//! - [`script`]: a line of a scenario as words and bytes, and bytes as they are printed.
//! - [`storyteller`]: the runner in Rust; the program `scenario` is nothing else.
//! - [`stage`]: a broker, the wire before it, and the control port by which a scenario breaks both.
//! - [`runners`]: the table of the runners in all languages.
//! - [`judge`]: runs a runner over the files and compares.
//! - [`ways`]: the files for secured listeners, written out for one broker.

pub mod judge;
pub mod runners;
pub mod script;
pub mod stage;
pub mod storyteller;
pub mod ways;
