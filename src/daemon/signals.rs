//! Signals by which the system and its users control the process: stop, read the files again, or
//! nothing at all.
//!
//! Must hold: only SIGTERM and SIGINT end a box that keeps reads (and signals that cannot be
//! caught, or that say that the program is broken). A terminal that is closed, a script that sends
//! the signal of another daemon, and a limit on the size of files must not end it.

use std::collections::BTreeSet;
use std::io;

use futures_util::future::select_all;
use rustix::process::Signal as Kind;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Signals that would end the process and that have no meaning for it. The system sends XFSZ with
/// each write beyond the file size limit (`ulimit -f`). The write then fails, and the box treats
/// that like any full disk.
const PASSED_OVER: [Kind; 8] =
    [Kind::USR1, Kind::USR2, Kind::ALARM, Kind::VTALARM, Kind::PROF, Kind::IO, Kind::POWER, Kind::XFSZ];

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// SIGTERM or SIGINT: stop.
    Stop,
    /// SIGHUP: read again the files that can be read while the box runs.
    Reread,
    /// Another signal, with its number.
    Nothing(i32),
}

/// The signals of the process, which are caught from now on.
pub(super) struct Signals {
    caught: Vec<(Signal, Wish)>,
    /// The signals without a meaning that were logged already. Each is logged once.
    told: BTreeSet<i32>,
}

impl Signals {
    /// Starts to catch the signals.
    ///
    /// # Errors
    /// The system does not allow it.
    pub(super) fn catch() -> io::Result<Self> {
        let wanted = [
            (SignalKind::terminate(), Wish::Stop),
            (SignalKind::interrupt(), Wish::Stop),
            (SignalKind::hangup(), Wish::Reread),
        ];
        let nothing = PASSED_OVER.map(|kind| (SignalKind::from_raw(kind.as_raw()), Wish::Nothing(kind.as_raw())));
        let caught = wanted.into_iter().chain(nothing).map(|(kind, wish)| Ok((signal(kind)?, wish)));
        Ok(Self { caught: caught.collect::<io::Result<_>>()?, told: BTreeSet::new() })
    }

    /// Waits for the next signal that has a meaning.
    pub(super) async fn next(&mut self) -> Wish {
        loop {
            let all = self.caught.iter_mut().map(|(signal, wish)| Box::pin(async { (signal.recv().await, *wish) }));
            match select_all(all).await.0.1 {
                Wish::Nothing(number) => {
                    if self.told.insert(number) {
                        tracing::info!("signal {number} means nothing here and changes nothing");
                    }
                }
                wish => return wish,
            }
        }
    }
}
