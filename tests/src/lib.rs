//! Peers and judges: whatever proves Ottla against other programs.
//!
//! - [`cluster`]: three nodes of Apache Kafka behind proxies, to be killed, paused and moved.
//! - [`delivery`]: a producer, a broker, and a wire between them that breaks by rule.
//! - [`fuzzed`]: what the fuzzer runs, as functions of bytes.
//! - [`groups`]: members of consumer groups, what they write down, and the judgement of it.
//! - [`history`]: what a writer was told and what is in the log: the judgement of loss, duplicates and order.
//! - [`hostile`]: bytes that no honest client sends, and what a broker does with them.
//! - [`hostile_broker`]: a broker that lies, before an honest one.
//! - [`peer`]: the other programs (Apache Kafka's broker and tools, librdkafka) and Ottla itself, behind one trait.
//! - [`proxy`]: a wire that breaks by rule, at exact bytes of Kafka's frames.
//! - [`place`]: where things are: the repository, what `make peers` installed, where tests leave data directories.
//! - [`secured`]: a broker with a listener of every kind of security, certificates, and the ways in.
//! - [`wire`]: the protocol by hand, for judges that want to see what a broker really sends.
//! - [`source`]: Rust source as the tidy test looks at it.
//! - [`scenario`]: one story, told by every language.
//! - [`rng`]: the seeded numbers that every random test prints and can repeat.
//!
//! The judges themselves are `tests/*.rs`.

pub mod cluster;
pub mod delivery;
pub mod fuzzed;
pub mod groups;
pub mod history;
pub mod hostile;
pub mod hostile_broker;
pub mod peer;
pub mod place;
pub mod proxy;
pub mod rng;
pub mod scenario;
pub mod secured;
pub mod source;
pub mod wire;
