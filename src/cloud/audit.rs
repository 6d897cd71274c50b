//! The audit: does the cloud hold what the journal says it holds, passing by passing?
//!
//! What must hold:
//! * **Bounded.** Neither side is ever in memory as a whole. The log gives the passings of a session in the order of their
//!   numbers with a batch in memory ([`ours`]); they are taken in windows of 2000 numbers, and for each window the cloud is
//!   asked page by page ([`ask`]). Differences beyond 10,000 are only counted.
//! * **Nothing is asked of the cloud's order.** Pages may have any size and any order, and a server may ignore the range or
//!   the page ([`compare`]).
//! * **Beside the daemon, and without it.** The log is read up to what is durable, as `export` does. What is on its way is
//!   *not yet sent*, not missing.
//! * **No false alarm.** The journal is read before the cloud: what it calls accepted then must be there. A window that shows
//!   differences is asked for once more, and, where some are left, a third time after the cloud has had the time that it
//!   may take to show what it accepted ([`Subject::lag`]): only numbers that every answer shows as different are. What was
//!   numbered after the first look is not foreign: the audit compares up to the moment it began, and the journal is looked
//!   at again for what the cloud holds above that.
//! * **Words.** *missing*: accepted, and not in the cloud. *set aside*: refused. *not yet sent*: on its way, or not numbered.
//!   *different*: the same number with another chip, bib or time. *foreign*: in the cloud, not ours: another device or
//!   program sends into the session. *duplicated*: the same chip and time twice. *elsewhere*: ours, under another number.
//!   Where there is none of them but what is on its way, both are *equal so far*; without that, too, *equal*. Times are compared to the millisecond, or to the second in a
//!   cloud that keeps no fractions.
//! * **A repair never numbers anew and never overwrites.** Only what is missing goes again, under its number, by the uplink
//!   itself between two batches: made durable as a batch in flight first ([`crate::journal::Batch::resend`]), the cloud asked
//!   immediately before the POST. A closed session takes nothing: that is said, and no session is opened for it.
//!
//! When a session is over, the daemon audits it by itself ([`keep`]): durably remembered, so it is done after a restart if
//! it was not before, and again and again until the cloud answers, at least 30 s apart. What an audit found is a problem
//! of its session, until an audit of the same session finds it equal.
//!
//! Rejected: a merge of two sorted streams (the cloud documents no order of its pages, and its own page shows the newest
//! first); all numbers of a session in a set (grows with the session); reading the cloud first and the journal after (each
//! passing accepted between the two would look missing); repairing from the audit's own process while a daemon runs (two
//! POSTs of a device in flight).

pub mod adopt;
pub mod ask;
pub mod compare;
pub mod keep;
pub mod ours;
mod report;
mod session;
mod text;

pub use report::{AuditError, AuditReport, Head, Subject};
pub use session::audit;
pub(crate) use text::json_lines;
pub use text::text as summary;
