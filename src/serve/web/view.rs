//! What the page shows, made from a [`Snapshot`](crate::status::Snapshot), the newest reads and a clock. It is pure: no I/O,
//! no clock of its own.
//!
//! Must hold:
//! * The state, its sentence and what to do are those of the judge (`status::judge`). Nothing here
//!   decides a state.
//! * Green is never shown for what is not known: that is a ring.
//! * Each mark is a shape and a word, and only then a colour.
//! * An age is written as the second at which it began, by the monotonic clock of the box. So a
//!   text changes only when something happened, and the page counts the seconds by itself.
//! * Text from outside goes into a template as a value, and the template escapes it.

mod chain;
mod clocks;
mod facts;
mod foot;
mod gun;
pub(super) mod plots;
mod reads;
mod state;
mod times;

pub(super) use chain::{ChainView, LinkView};
pub(super) use clocks::{BoxClock, ClocksView};
pub(super) use facts::{in_parts, state_word};
pub(super) use foot::FootView;
pub(super) use gun::GunView;
pub(super) use reads::{ReadRow, ShownRead};
pub(super) use state::{AlsoRow, Choice, StateView, also, look_of};
pub(super) use times::{Anchor, PageTimes, ages_filled};
