//! Consumer groups under judgement: members as processes, the history they write, and what is read off it.
//!
//! - [`history`]: the lines, and the judgement: owners, commits, what was skipped and what was read again.
//! - [`processes`]: members as child processes, to be stopped and killed.
//! - [`room`]: a broker, a topic and a group.
//! - [`member`]: Ottla's member; `src/bin/member.rs` runs it.

pub mod history;
pub mod member;
pub mod processes;
pub mod room;
