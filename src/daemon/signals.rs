//! What the system and its users tell the process by signals: stop, read your files again, or nothing at all.
//!
//! Must hold: only SIGTERM and SIGINT (and what cannot be caught, or says that the program is broken) end a box that keeps
//! reads. A terminal that is closed, a script that sends the signal of another daemon, a limit on the size of files: none
//! of them may.

use std::collections::BTreeSet;
use std::io;

use futures_util::future::select_all;
use rustix::process::Signal as Kind;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Signals that would end the process and mean nothing to it. XFSZ comes with each write beyond the file size limit
/// (`ulimit -f`): the write fails, and that is a full disk as any other.
const PASSED_OVER: [Kind; 8] =
    [Kind::USR1, Kind::USR2, Kind::ALARM, Kind::VTALARM, Kind::PROF, Kind::IO, Kind::POWER, Kind::XFSZ];

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// SIGTERM, SIGINT.
    Stop,
    /// SIGHUP: what can be read again while it runs is.
    Reread,
    /// Another one, by its number.
    Nothing(i32),
}

/// The signals of the process, caught from now on.
pub struct Signals {
    caught: Vec<(Signal, Wish)>,
    /// Of those that mean nothing: each is told once.
    told: BTreeSet<i32>,
}

impl Signals {
    /// Catches them.
    ///
    /// # Errors
    /// The system does not let us.
    pub fn catch() -> io::Result<Self> {
        let wanted = [
            (SignalKind::terminate(), Wish::Stop),
            (SignalKind::interrupt(), Wish::Stop),
            (SignalKind::hangup(), Wish::Reread),
        ];
        let nothing = PASSED_OVER.map(|kind| (SignalKind::from_raw(kind.as_raw()), Wish::Nothing(kind.as_raw())));
        let caught = wanted.into_iter().chain(nothing).map(|(kind, wish)| Ok((signal(kind)?, wish)));
        Ok(Self { caught: caught.collect::<io::Result<_>>()?, told: BTreeSet::new() })
    }

    /// The next one that means something.
    pub async fn next(&mut self) -> Wish {
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
