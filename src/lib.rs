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
//! # The map
//!
//! | module | what it knows that nobody else does |
//! |---|---|
//! | [`model::chip`] | what a decoder says: reads, markers, stamps, positions; which positions are held |
//! | [`model::clock`] | the rules that turn a decoder stamp into UTC, and the doubts |
//! | [`decoders`] | the trait, the registry; one file per decoder below it |
//! | [`link`] | ports, reconnect, the receive buffer, the order of acks, which location is which lane, doubts about a decoder's time, asking by hand |
//! | [`model::lane`] | what a location with a device of its own is called, and what belongs to one decoder |
//! | [`journal`] | the log's format, sled, checkpoints, rebuild, pruning |
//! | [`cloud::passing`] | chip code, bib file, what a passing consists of |
//! | [`cloud::uplink`] | sessions, numbers, retry: a pure machine and a thin driver |
//! | [`cloud::rufus`] | the cloud's wire types, calls and answers, its name and its certificate; nothing about retries |
//! | [`config`] | file, environment, flags; errors that name key, value and line |
//! | [`status`], [`serve::web`], [`serve::control`], [`status::glance`] | what is seen from outside |
//! | [`daemon`], [`daemon::service`], [`daemon::logging`], [`daemon::harden`] | the process: tasks, systemd, the log, steps of the box's clock, what others may not see of it |
//! | [`cli`], [`config::failure`] | commands and exit codes |
//! | [`cloud::audit`] | whether the cloud holds what the journal says; what is missing goes again |
//! | [`commands::check`], [`export`], [`commands::decode`], [`commands::demo`] | a command each |
//! | [`commands::probe`] | which protocol bytes look like, what it is else, and which questions may be put to an unknown box |
//! | [`model::escape`] | raw bytes as text |
//! | [`link::capture`] | what goes over a link, both ways: the file, how a link is listened to, the relay |
//! | [`sim`] | the simulated decoder and cloud for demo, tests and benches; the player of captures |
//!
//! The `backoff` crate is known to the private module `retry` alone, `sled` to the private `journal::queue` alone.
//!
//! # Where this differs from the design it was built from, and why
//!
//! * *No index by chip and bib in the queue.* Nothing reads it yet; it would double what is written to the card. The
//!   newest 1,000 reads are in memory, and a rebuild reads a million lines of the log in 2.3 s (benches/README.md).
//! * *A read goes into sled only if it still waits at the next checkpoint* (10 s, or 8,192 reads). At a race with internet nearly none
//!   does. The log is the durable copy in either case.
//! * *Repeats and dead time are judged when the state follows, not before keeping*: reads are kept while the queue is
//!   still being rebuilt. The verdict becomes durable with the batch line that covers the read. A repeat is a read with the
//!   identity of an *earlier entry* of the log, found in an index beside it (`journal::known`), so it follows from the log
//!   alone: what was not covered when the process ended is judged the same again.
//! * *A stamp without a believable date* (missing, `0000-00-NN`, 1970, 2000) is taken as a time of day of the newest day on which
//!   it is not after its receipt, and always reported; see [`model::clock`]. While the box does not know its own date it waits,
//!   and what comes after it: without the time no TLS certificate is valid either, so nothing more is held up by it.
//! * *Exit code 78 is restarted by systemd too*: an address or a file may be there a moment later, and nobody is there
//!   to type a command at six in the morning.
//!
//! # Rejected
//!
//! * *Acking first and uploading without a queue*, *two commits per read*, *loading the whole backlog for a flush*, *deleting
//!   at the ack*: each seen in the field, each lost reads or stood still.
//! * *Several POSTs in flight*: a program that pulls reads on from the highest number and would miss the lower one.
//! * *Numbering at the POST*: a crash between the two would number anew.
//! * *Taking a read for a repeat because its place is held and its stamp is old*: hides what a decoder reads that was cleared
//!   and whose clock was set back. What is in doubt goes up twice and is seen.
//! * *Correcting stamps by the measured clock offset*: the decoder's stamp is data. The offset is shown.
#![forbid(unsafe_code)]
#![warn(missing_docs)]
// They panic when standard output or error is gone: `cli::print`, `logging::say`.
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
