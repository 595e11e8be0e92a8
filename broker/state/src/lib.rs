//! The decisions of the Ottla broker: state machines without I/O, clock or randomness of their own.
