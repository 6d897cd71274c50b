//! Habits of a cloud: what a real one may do although no document says so, and what a client must live with.
//!
//! A habit is written as text, `NAME[=VALUE][@WHEN]`, the same on the command line, in tests and in the report of a test
//! that failed; [`HABITS`] lists them. They are seeded: the same requests in the same order meet the same ones. Any may be
//! combined with any other. Scripted faults ([`SimCloud::fault`](super::SimCloud::fault)) go before them.
//!
//! What is not here: what a cloud is *told* to be (its generation, its duplicate rule, its keys) is in
//! [`SimCloudConfig`](super::SimCloudConfig).

mod kinds;
mod meet;
mod names;
mod when;

pub use kinds::Habits;
pub(super) use kinds::{EmptyPages, Order, SecondWriter, Stale};
pub(super) use meet::ago;
pub use names::HABITS;
pub(super) use when::{Chooser, scattered};

impl Habits {
    /// These, each as [`HABITS`] says.
    ///
    /// # Errors
    /// Which is none, and what would be one.
    pub fn of<T: AsRef<str>>(seed: u64, texts: impl IntoIterator<Item = T>) -> Result<Self, String> {
        let mut habits = Self::new(seed);
        for text in texts {
            habits.take(text.as_ref())?;
        }
        Ok(habits)
    }

    /// One more.
    ///
    /// # Errors
    /// What would be one.
    pub fn take(&mut self, text: &str) -> Result<(), String> {
        names::take(self, text)?;
        self.texts.push(text.to_owned());
        Ok(())
    }
}
