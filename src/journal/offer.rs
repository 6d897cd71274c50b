//! Offers: an uplink that may send lets the writer number the next read in the group that keeps it.
//!
//! While a device's session is joined, and nothing of the device is in flight, its uplink places an
//! [`Offer`]: when nothing waits, until a read arrives; and when the batch of reads that waited is
//! due, for a moment, so that the batch needs no group of its own. When the writer forms a group
//! with reads, it asks the offer for the batch of what waits and of the device's reads in the group,
//! and writes the batch behind them, in the same group: one write and one `fdatasync` for all. The
//! uplink is told when the group is durable, and sends its POST then.
//!
//! What must hold:
//! * **Nothing is guessed.** The batch is formed only if the state knows now what it will decide
//!   about each of these reads when it follows them ([`super::foresee`]), and if all that waits is in
//!   memory and needs no question to the cloud ([`super::waiting`]). In any doubt the group is
//!   written without a batch, and the uplink forms it later, as it does for reads that wait.
//! * **Numbered durably before the first POST, and never changed** (invariant 3): a group that the
//!   disk refuses is written again unchanged, with the batch in it. The uplink learns of the batch
//!   only when the group is durable.
//! * **An offer is taken once, or withdrawn.** The uplink places one offer at a time. Before it does
//!   anything else, it withdraws the offer, and thereby learns whether the offer was taken.
//! * **A torn group has no batch.** If the power fails while the group is written, the batch may
//!   survive and a read of it may not. The log then cuts the group off from the first hole on
//!   ([`super::log::Log::open`]). No POST was sent, and nothing of the group was acknowledged.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::upload::{Batch, Pending, UploadEvent};

/// What an uplink lets the writer do.
pub(crate) struct Offer {
    /// The device.
    pub device: Box<str>,
    /// Decoders whose reads are uploaded to the device.
    pub decoders: Vec<Box<str>>,
    /// Most passings that the batch may hold.
    pub limit: usize,
    /// Forms the numbered batch of these reads. `None`: the batch must be formed later.
    pub form: Box<dyn FnMut(Pending) -> Option<Batch> + Send>,
}

/// An offer, and where the batch goes that was written with it.
pub(super) struct Placed {
    pub offer: Offer,
    pub taken: oneshot::Sender<Batch>,
}

/// The offers, by device.
#[derive(Default)]
pub(super) struct Offers(Mutex<BTreeMap<Box<str>, Placed>>);

impl Offers {
    pub(super) fn lock(&self) -> MutexGuard<'_, BTreeMap<Box<str>, Placed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A batch that is written in the group of its reads, and who is told when it is durable.
pub(super) struct Numbered {
    pub batch: Batch,
    pub taken: oneshot::Sender<Batch>,
}

impl Numbered {
    /// The line of the log.
    pub(super) fn event(&self) -> UploadEvent {
        UploadEvent::Batch(self.batch.clone())
    }

    /// Tells the uplink that the batch is durable.
    pub(super) fn tell(self) {
        // An uplink that is gone finds the batch in flight when it starts again.
        let _ = self.taken.send(self.batch);
    }
}
