//! The generator of messages.
fn main() {}
