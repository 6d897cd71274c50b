//! What a command does on the journal itself while no daemon runs.

use crate::commands::args::{Paths, load_right};
use crate::config::Config;
use crate::config::failure::Failure;
use crate::daemon;
use crate::journal::Journal;
use crate::status::Board;

/// Opens the journal with the lock of the data directory, acts on it, and closes it.
///
/// # Errors
/// The configuration is wrong (78), the journal cannot be opened, or `act` failed.
pub(crate) async fn on_the_journal<T>(
    place: &Paths,
    act: impl AsyncFnOnce(&Config, &Journal) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let config = load_right(place, true)?;
    let journal = daemon::open_journal(&config, &Board::new(&config.name))?;
    let done = act(&config, &journal).await;
    journal.close().await;
    done
}
