//! A `device_id` was corrected: what was numbered for the old device, and is not there, goes to the new one, when a command
//! says so.
//!
//! What must hold:
//! * **By choice.** A box that is lent to another race has another device too, and the passings of the first race are none of
//!   the second. So nothing moves by itself: `check` and the status tell how many there are, and a command names both devices.
//! * **Nothing twice.** What was in flight may be in the cloud. Its session is asked for it, twice and as far apart as the
//!   cloud may take to show what it accepted: what an answer shows is settled as sent, only what no answer shows is
//!   released. Where the cloud cannot be asked, it stays as it is.
//! * **Nobody else at work.** The old device is none of the configuration, so no uplink of this process touches it, and no
//!   other process has the journal.
//!
//! Reads that were never numbered are not of a device but of their decoder: they go where it goes now, without a word.

use std::time::Duration;

use super::ask::{self, InCloud};
use super::compare::{Ours, PassingState};
use crate::cloud::rufus::Client;
use crate::journal::{InFlight, Journal, JournalError, UploadEvent, UploadItem};

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Adopted {
    /// Passings that go to the new device now.
    pub moved: u64,
    /// Passings that the cloud turned out to hold for the old device: they are counted as sent.
    pub settled: u64,
    /// Passings of unknown fate that stay with the old device.
    pub left: u64,
    /// Why.
    pub why: Option<String>,
}

impl Adopted {
    /// As it is told to people.
    pub fn in_words(&self, from: &str, to: &str) -> String {
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

/// Lets the passings of `from` follow to `to`. `lag` and `rest` as in [`super::Subject`].
///
/// # Errors
/// The journal is closed.
pub async fn adopt(
    journal: &Journal,
    client: &Client,
    (from, to): (&str, &str),
    (lag, rest): (Duration, Duration),
) -> Result<Adopted, JournalError> {
    journal.serving().await;
    let mut adopted = Adopted::default();
    if let Some(flight) = journal.device(from).in_flight {
        let cloud = InCloud::new(client, &flight.batch.session, rest);
        tokio::time::sleep(lag).await; // a POST of the process before may have been under way
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

/// Numbers of what is in flight that neither of two answers shows.
async fn absent(flight: &InFlight, cloud: &InCloud<'_>, lag: Duration) -> Result<Vec<u64>, super::AuditError> {
    let open = |item: &UploadItem| Ours { item: item.clone(), mark: PassingState::Open, counted: false };
    let ours: Vec<Ours> = flight.open.iter().map(open).collect();
    let first = ask::not_shown(cloud, &ours).await?;
    tokio::time::sleep(lag).await;
    let again = ask::not_shown(cloud, &ours).await?;
    Ok(first.into_iter().filter(|num| again.contains(num)).collect())
}

/// What is to be recorded, a line for each run of open passings that end alike.
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
