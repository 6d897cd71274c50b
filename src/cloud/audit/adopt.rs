//! After a `device_id` was corrected, a command can move the old device's unsent passings to the
//! new device. These are passings that were numbered for the old device and are not in the cloud.
//!
//! What must hold:
//! * **By choice.** A box that is lent to another race also gets another device, and the passings
//!   of the first race do not belong to the second. So nothing moves automatically: `check` and the
//!   status show how many passings there are, and a command names both devices.
//! * **Nothing twice.** A passing that was in flight may be in the cloud. Its session is asked for
//!   it twice, with the time between that the cloud may take to show what it accepted. A passing
//!   that an answer shows is settled as sent. Only a passing that no answer shows is released. If
//!   the cloud cannot be asked, the passing stays as it is.
//! * **No other sender is active.** The old device is not in the configuration, so no uplink of
//!   this process uses it, and no other process has the journal.
//!
//! Reads that were never numbered do not belong to a device but to their decoder. They are uploaded
//! to the decoder's current device without a command.

use std::time::Duration;

use super::ask::{self, InCloud};
use super::compare::{Ours, PassingState};
use crate::cloud::rufus::Client;
use crate::journal::{InFlight, Journal, JournalError, UploadEvent, UploadItem};

/// Result of moving the passings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Adopted {
    /// Passings that the new device gets now.
    pub moved: u64,
    /// Passings that the cloud already holds for the old device. They count as sent.
    pub settled: u64,
    /// Passings of unknown fate that stay with the old device.
    pub left: u64,
    /// Why these passings stay.
    pub why: Option<String>,
}

impl Adopted {
    /// The result as text for people.
    pub(crate) fn in_words(&self, from: &str, to: &str) -> String {
        let Self { moved, settled, left, why } = self;
        let mut text = format!("{moved} passings of device {from} go to device {to} now");
        if *settled > 0 {
            text += &format!("; {settled} were found in a session of {from}, and count as sent");
        }
        if *left > 0 {
            let why = why.as_deref().unwrap_or("the cloud could not be asked");
            text += &format!("; {left} may be in a session of {from} and stay until the cloud tells: {why}");
        }
        text
    }
}

/// Moves the passings of `from` to `to`. `lag` and `rest` are as in [`super::Subject`].
///
/// # Errors
/// The journal is closed.
pub(crate) async fn adopt(
    journal: &Journal,
    client: &Client,
    (from, to): (&str, &str),
    (lag, rest): (Duration, Duration),
) -> Result<Adopted, JournalError> {
    journal.serving().await;
    let mut adopted = Adopted::default();
    if let Some(flight) = journal.device(from).in_flight {
        let cloud = InCloud::new(client, &flight.batch.session, rest);
        tokio::time::sleep(lag).await; // a POST of the previous process may still be under way
        match absent(&flight, &cloud, lag).await {
            Ok(absent) => {
                adopted.settled = (flight.open.len() - absent.len()) as u64;
                for event in events(from, &flight.open, &absent) {
                    journal.record(event).await?;
                }
            }
            Err(error) => (adopted.left, adopted.why) = (flight.open.len() as u64, Some(error.to_string())),
        }
    }
    let items = journal.released(from);
    adopted.moved = items.len() as u64;
    if !items.is_empty() {
        journal.record(UploadEvent::Moved { device: from.into(), to: to.into(), items }).await?;
    }
    if adopted != Adopted::default() {
        journal.note("resend", &adopted.in_words(from, to)).await?;
    }
    Ok(adopted)
}

/// Returns the numbers of the passings in flight that neither of two answers shows.
async fn absent(flight: &InFlight, cloud: &InCloud<'_>, lag: Duration) -> Result<Vec<u64>, super::AuditError> {
    let open = |item: &UploadItem| Ours { item: item.clone(), mark: PassingState::Open, counted: false };
    let ours: Vec<Ours> = flight.open.iter().map(open).collect();
    let first = ask::not_shown(cloud, &ours).await?;
    tokio::time::sleep(lag).await;
    let again = ask::not_shown(cloud, &ours).await?;
    Ok(first.into_iter().filter(|num| again.contains(num)).collect())
}

/// Returns the events to record, one for each run of open passings with the same result.
fn events(device: &str, open: &[UploadItem], absent: &[u64]) -> Vec<UploadEvent> {
    let is_absent = |item: &UploadItem| absent.contains(&item.num);
    let event = |run: &[UploadItem]| {
        let (first, last, device) = (run.first()?.num, run.last()?.num, device.into());
        Some(match is_absent(&run[0]) {
            true => UploadEvent::Released { device, first, last },
            false => UploadEvent::Accepted { device, first, last, duplicates: 0 },
        })
    };
    open.chunk_by(|one, next| is_absent(one) == is_absent(next)).filter_map(event).collect()
}
