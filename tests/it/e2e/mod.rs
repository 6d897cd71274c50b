//! The whole way of a read, in one process: simulated decoders on real sockets and a real pty, the
//! real journal in a directory of its own, the real daemon, and the simulated cloud. What is proven
//! at each end is the same: every read that happened is in the cloud once, numbered 1..n without a
//! hole, and the cloud has seen nothing it must never see.
//!
//! Nothing here sleeps to let something happen: a test waits for a condition and fails with what
//! the box shows when the condition does not come. Two tests take as long as a clock in the product
//! does, and say so.

mod audit;
mod clock;
mod cloud_habits;
mod commands;
mod crash;
mod damage;
mod days;
mod decoders;
mod devices;
mod exports;
mod faults;
mod habits_of_decoders;
mod latency;
mod locations;
mod network;
mod notify;
mod outside;
mod registry;
mod rewind;
mod sessions;
mod sources;
mod unset_clocks;
