//! Habits of a cloud: what a real cloud may do although no document says so, and what a client must
//! tolerate.
//!
//! A habit is written as text, `NAME[=VALUE][@WHEN]`, in the same form on the command line, in
//! tests and in the report of a failed test. [`HABITS`] lists them. They are seeded: the same
//! requests in the same order meet the same habits. Any habit may be combined with any other.
//! Scripted faults ([`SimCloud::fault`](super::SimCloud::fault)) are used before habits.
//!
//! The basic properties of a cloud (its generation, its duplicate rule, its keys) are not habits.
//! They are in [`SimCloudConfig`](super::SimCloudConfig).

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
    /// The habits with these texts, each in the form of [`HABITS`].
    ///
    /// # Errors
    /// Names the text that is no habit, and the allowed form.
    pub fn of<T: AsRef<str>>(seed: u64, texts: impl IntoIterator<Item = T>) -> Result<Self, String> {
        let mut habits = Self::new(seed);
        for text in texts {
            habits.take(text.as_ref())?;
        }
        Ok(habits)
    }

    /// Adds one habit.
    ///
    /// # Errors
    /// The text is no habit. The error names the allowed form.
    pub fn take(&mut self, text: &str) -> Result<(), String> {
        names::take(self, text)?;
        self.texts.push(text.to_owned());
        Ok(())
    }
}
