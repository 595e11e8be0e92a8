//! Peers and judges: whatever proves Ottla against other programs.
