//! passbridge: chip reads from timing decoders, kept on disk, uploaded exactly once.
//!
//! # The way of a read
//!
//! ```text
//!  decoder ── link ──▶ protocol ──▶ journal ──▶ (pending) ──▶ uplink ──▶ rufus ──▶ cloud
//!             port,      bytes to     log: durable    passing:     batches, numbers,
//!             reconnect  frames       queue: sled     bib, time    retry, session
//! ```
//!
//! 1. [`link`] owns the port (TCP client, TCP server, serial). It feeds the bytes to one [`decoders`] value per
//!    connection and gets frames and replies.
//! 2. [`journal`] keeps the frames: one writer thread, one `write` and one `fdatasync` per group. `keep` returns when
//!    they would survive a power cut. Only then are the protocol's replies (acks) written to the wire, and only then
//!    does the [`status`] board count them.
//! 3. The journal's state follows: repeats (by an index of every read ever kept) and dead time are judged, what waits is in
//!    the sled queue.
//! 4. [`cloud::uplink`] takes what waits for its device, lets [`cloud::passing`] fix time, chip code and bib, numbers a batch, makes it
//!    durable, and only then sends it through [`cloud::rufus`]. Each answer is recorded; an unknown one is asked about.
//! 5. [`status`] is written to by all of them and read by [`serve::web`], [`serve::control`], [`status::glance`] and the metrics.
//!
//! [`daemon`] starts these tasks, watches them and stops them in order. [`commands::demo`] is the daemon against [`sim`].
//!
//! # What must stay true
//!
//! 1. *Kept before shown*: acknowledged, counted, shown or uploaded only after `fdatasync` returned ([`journal::Durable`]).
//! 2. *Everything is kept*: reads, markers, rejected frames (rate capped). Filters act afterwards.
//! 3. *Numbered once*: a batch is durable before its first POST and never changes; one in flight per device.
//! 4. *Unknown is not failed*: the same numbers go again, and the cloud is asked before anything is renumbered.
//! 5. *Nothing waits for the bad one*: a refused passing is set aside; a bad byte never ends a link.
//! 6. *Bounded*: every buffer, line, reply and page has a limit written beside it; what is not uploaded is never pruned.
//! 7. *Two clocks*: the decoder's stamp is data; timers are monotonic; a step of the wall clock is reported and
//!    recorded, and corrects the receipts that stamps without a date hang on.
//! 8. *No task dies alone*: one that ends unexpectedly ends the process, systemd starts it again.
//! 9. *The key is secret*: `SecretString` from the file to a header marked sensitive.
//!
#![doc = include_str!("../docs/architecture.md")]
#![forbid(unsafe_code)]
#![warn(missing_docs)]
// They panic when standard output or error is gone: `commands::args::print`, `daemon::logging::say`.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

pub mod cli;
pub mod cloud;
pub mod commands;
pub mod config;
pub mod daemon;
pub mod decoders;
pub mod export;
pub mod journal;
pub mod link;
pub mod model;
pub mod serve;
pub mod sim;
pub mod status;
