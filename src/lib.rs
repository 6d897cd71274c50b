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
//! 1. [`link`] owns the port (TCP client, TCP server, serial). It feeds the bytes to one [`decoders`]
//!    value per connection and gets frames and replies.
//! 2. [`journal`] keeps the frames: one writer thread, one `write` and one
//!    `fdatasync` per group. `keep` returns when they would survive a power cut. Only then are the
//!    protocol's replies (acks) written to the wire, and only then does the [`status`] board count
//!    them.
//! 3. The journal's state follows: repeats (by an index of every read ever kept) and dead time are
//!    judged, what waits is in the sled queue.
//! 4. [`cloud::uplink`] takes what waits for its device, lets [`cloud::passing`] fix time, chip
//!    code and bib, numbers a batch, makes it durable, and only then sends it through
//!    [`cloud::rufus`]. Each answer is recorded; an unknown one is asked about.
//!    Whoever else reads along, export and audit too, reads the same entries with a cursor of its
//!    own (`journal::entries`, `journal::reader`, `journal::sink`).
//! 5. [`status`] is written to by all of them and read by [`serve::web`],
//!    [`serve::control`], [`status::glance`] and the metrics.
//!
//! [`daemon`] starts these tasks, watches them and stops them in order. [`commands::demo`] is the
//! daemon against [`sim`].
//!
//! # What must stay true
//!
//! 1. *Kept before shown*: acknowledged, counted, shown or uploaded only after
//!    `fdatasync` returned ([`journal::Durable`]).
//! 2. *Everything is kept*: reads, markers, rejected frames (rate capped). Filters act afterwards.
//! 3. *Numbered once*: a batch is durable before its first POST and never changes; one in flight
//!    per device.
//! 4. *Unknown is not failed*: the same numbers go again, and the cloud is asked before anything is
//!    renumbered.
//! 5. *Nothing waits for the bad one*: a refused passing is set aside; a bad byte never ends a
//!    link.
//! 6. *Bounded*: every buffer, line, reply and page has a limit written beside it; what is not
//!    uploaded is never pruned.
//! 7. *Two clocks*: the decoder's stamp is data; timers are monotonic; a step of the wall clock is
//!    reported and recorded, and corrects the receipts that stamps without a date hang on.
//! 8. *No task dies alone*: one that ends unexpectedly ends the process, systemd starts it again.
//! 9. *The key is secret*: `SecretString` from the file to a header marked sensitive.
//! 10. *One truth, many readers*: whoever reads the journal has a cursor of its own and slows
//!     nobody; nothing is pruned that a sink still owes.
//!
#![doc = include_str!("../docs/architecture.md")]
#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![allow(rustdoc::private_intra_doc_links, reason = "it is read with --document-private-items")]
// They panic when standard output or error is gone:
// `commands::args::print`, `daemon::logging::say`.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

pub mod cli;
mod cloud;
mod commands;
mod config;
mod daemon;
mod decoders;
mod export;
mod history;
mod journal;
mod link;
mod model;
mod serve;
mod sim;
mod status;

/// The back door: what tests, benches and fuzz targets need of the rooms, under the names that it
/// has there. It is no interface for other programs and changes without notice. The compiler takes
/// everything else that nobody uses for dead.
#[doc(hidden)]
pub mod testing {
    pub mod cloud {
        pub mod audit {
            pub use crate::cloud::audit::{Head, Subject, audit, summary};
        }
        pub mod passing {
            pub use crate::cloud::passing::Fields;
        }
        pub mod rufus {
            pub use crate::cloud::rufus::{Client, ClientConfig, install_tls};
        }
        pub mod uplink {
            pub use crate::cloud::uplink::{UplinkConfig, UplinkError, run};
        }
    }
    pub mod commands {
        pub mod decode {
            pub use crate::commands::decode::{Decoder, Decoding, Ended};
        }
        pub mod probe {
            pub use crate::commands::probe::{Candidate, Grade, recognise};
        }
    }
    pub mod config {
        pub use crate::config::{
            Address, ChipZeros, CloudConfig, Config, DecoderConfig, ExpectConfig, KeepConfig, KeyHeader, LoadOptions,
            Loaded, LogConfig, LogFormat, NotifyConfig, PassingConfig, SessionMode, StatusConfig, TagCode, TimeWindow,
            UploadConfig, Webhook,
        };
    }
    pub mod daemon {
        pub use crate::daemon::Daemon;
        pub mod allocator {
            pub use crate::daemon::allocator::VARIABLES;
        }
    }
    pub mod decoders {
        pub use crate::decoders::{
            Cleared, Dials, Frame, Framed, Info, Item, MEMORY_MAX, Missed, OUTPUT_MAX, Output, Protocol, READ_MAX,
            REGISTRY, Range, Settings, Spec, settings, spec,
        };
        pub mod trials {
            pub use crate::decoders::trials::{MakeRecord, STREAM};
        }
    }
    pub mod export {
        pub use crate::export::found::{SearchAnswer, SearchQuery, Sought};
        pub use crate::export::{Format, Query, Reading, export};
    }
    pub mod journal {
        pub use crate::journal::{
            Batch, Group, Journal, JournalConfig, OpenError, Pending, PendingRead, Received, Settled, Unsettled,
            UploadEvent, UploadItem, log_dir, unsettled,
        };
        pub mod owed {
            pub use crate::journal::owed::SinkReader;
        }
        pub mod reader {
            pub use crate::journal::reader::{News, Reader};
        }
        pub mod entry {
            pub use crate::journal::entry::{Body, Entry, parse_line, write_line};
        }
        pub mod log {
            pub use crate::journal::log::{LogLine, LogReader, segments};
        }
    }
    pub mod link {
        pub mod capture {
            pub use crate::link::capture::{
                CaptureError, CaptureReader, CaptureWriter, Direction, Header, PIECE, Record, What,
            };
        }
    }
    pub mod model {
        pub mod chip {
            pub use crate::model::chip::{ChipRead, Label, Marker, Position, Seq, Stamp, StoredRanges};
        }
        pub mod clock {
            pub use crate::model::clock::{Wall, offset_ms, resolve};
        }
        pub mod escape {
            pub use crate::model::escape::{escape, unescape};
        }
        pub mod shown {
            pub use crate::model::shown::ShownIn;
        }
    }
    pub mod serve {
        pub mod control {
            pub use crate::serve::control::{ControlError, ControlRequest, ask};
        }
    }
    pub mod sim {
        pub mod cloud {
            pub use crate::sim::cloud::{
                Access, Answer, Apply, BindType, Chance, Closed, CloudFault, DEVICE, Dedup, Generation, Habits, KEY,
                NoSession, OTHER_CHIP, On, OtherCompany, Post, Rebind, SimCloud, SimCloudConfig, StoredPassing,
            };
        }
        pub mod decoder {
            pub use crate::sim::decoder::{
                DecoderHabit, Kind, RaceConfig, ReadSource, SimConfig, SimDecoder, SimRead, WireFault, Wiring,
            };
        }
    }
    pub mod status {
        pub use crate::status::{
            AuditStatus, Board, BoxState, LinkState, Problem, ProblemCode, RecentRead, Severity, Snapshot, UploadState,
        };
    }
}
