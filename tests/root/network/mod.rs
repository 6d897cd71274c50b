//! The real program in a network of its own (namespace, veth pairs), and the kernel makes it a bad
//! one: links that go down, packets that vanish in one direction or both, resets, names that are
//! not found, IPv6 that leads nowhere, 64 kbit/s, and a box whose clock shows 1970. The simulated
//! cloud and decoder are in the test, at the other ends of the cables. Each case ends with the same
//! audit: every read in the cloud once, numbered without a hole, nothing that may not be.
//!
//! Needs root, iproute2 and nftables; the clock's case libfaketime. tests/README.md has the
//! command.

mod field;
mod lines;
mod names;
