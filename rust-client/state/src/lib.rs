//! The decisions of the Ottla client: state machines without I/O, clock or randomness of their own.
