//! What the link needs of the journal.

use crate::journal::{Durable, Journal, JournalError, Kept, Received};
use crate::model::chip::{ChipRead, StoredRanges};

/// The part of the journal that the link needs.
pub(crate) trait ReadStore: Clone + Send + Sync + 'static {
    /// Keeps what was received, with consecutive numbers in this order. It resolves when all of it
    /// would survive a power cut, never before. While the disk is full it waits.
    ///
    /// # Errors
    /// The journal is gone and can keep nothing more.
    fn append(&self, received: Vec<Received>) -> impl Future<Output = Result<Kept, JournalError>> + Send;

    /// Which ranges of a decoder's memory the journal has stored, in whatever source. It may take
    /// as long as the journal's queue needs to open.
    fn stored_ranges(&self, decoder: &str) -> impl Future<Output = StoredRanges> + Send;

    /// Releases those reads of a decoder that were held back and turn out to be of this race, in
    /// whatever source.
    fn let_go(
        &self,
        decoder: &str,
        which: impl Fn(&ChipRead) -> bool + Send + 'static,
    ) -> impl Future<Output = ()> + Send;
}

impl ReadStore for Journal {
    async fn append(&self, received: Vec<Received>) -> Result<Kept, JournalError> {
        self.append_all(received).await.map(Durable::get)
    }

    async fn stored_ranges(&self, decoder: &str) -> StoredRanges {
        Journal::stored_ranges(self, decoder).await
    }

    async fn let_go(&self, decoder: &str, which: impl Fn(&ChipRead) -> bool + Send + 'static) {
        match Journal::let_go(self, Some(decoder), which).await {
            Ok(0) => {}
            Ok(reads) => tracing::info!(decoder, reads, "let go what was held back: the decoder's clock is known now"),
            Err(error) => tracing::warn!(decoder, %error, "what is held back could not be judged again"),
        }
    }
}
