//! What the link needs of the journal.

use jiff::Timestamp;

use crate::decoders::Framed;
use crate::journal::{Durable, Journal, JournalError, Kept};
use crate::model::chip::{ChipRead, StoredRanges};

/// What the link needs of the journal.
pub trait ReadStore: Clone + Send + Sync + 'static {
    /// Keeps frames of one decoder or location ([`crate::model::source`]), none of them [`crate::decoders::Frame::Info`], and resolves when they would
    /// survive a power cut, never before. While the disk is full it waits. Calls are kept in the order in which
    /// they are first polled.
    ///
    /// # Errors
    /// The journal is gone and nothing can be kept any more.
    fn append(
        &self,
        source: &str,
        received: Timestamp,
        frames: Vec<Framed>,
    ) -> impl Future<Output = Result<Kept, JournalError>> + Send;

    /// Which places of a decoder's memory are held, in whatever source. May take as long as the journal's queue needs to open.
    fn stored_ranges(&self, decoder: &str) -> impl Future<Output = StoredRanges> + Send;

    /// Lets go those reads of a decoder that were held back and turn out to be of this race, in whatever source.
    fn let_go(
        &self,
        decoder: &str,
        which: impl Fn(&ChipRead) -> bool + Send + 'static,
    ) -> impl Future<Output = ()> + Send;
}

impl ReadStore for Journal {
    async fn append(&self, source: &str, received: Timestamp, frames: Vec<Framed>) -> Result<Kept, JournalError> {
        Journal::append(self, source, received, frames).await.map(Durable::get)
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
