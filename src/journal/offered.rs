//! The uplink's end of an offer ([`super::offer`]).

use std::sync::Arc;

use tokio::sync::oneshot;

use super::Journal;
use super::offer::{Offer, Placed};
use super::shared::Shared;
use super::upload::Batch;

/// An offer that was placed. It is withdrawn when this is dropped.
pub(crate) struct Offered {
    shared: Arc<Shared>,
    device: Box<str>,
    taken: oneshot::Receiver<Batch>,
}

impl Journal {
    /// Places an offer. The device must have none.
    pub(crate) fn offer(&self, offer: Offer) -> Offered {
        let (taken, answer) = oneshot::channel();
        let device = offer.device.clone();
        self.shared.offers.lock().insert(device.clone(), Placed { offer, taken });
        Offered { shared: Arc::clone(&self.shared), device, taken: answer }
    }
}

impl Offered {
    /// Waits until a batch was written with this offer, and is durable. For ever if none is.
    /// Dropping the future changes nothing.
    pub(crate) async fn taken(&mut self) -> Batch {
        match (&mut self.taken).await {
            Ok(batch) => batch,
            Err(_) => std::future::pending().await, // the journal closes
        }
    }

    /// Withdraws the offer. Returns the batch if one was written with it: the writer may be writing
    /// it now, and then this waits until it is durable.
    pub(crate) async fn withdraw(mut self) -> Option<Batch> {
        if self.shared.offers.lock().remove(&self.device).is_some() {
            return None;
        }
        (&mut self.taken).await.ok()
    }
}

impl Drop for Offered {
    fn drop(&mut self) {
        self.shared.offers.lock().remove(&self.device);
    }
}
