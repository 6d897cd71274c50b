//! The audit: does the cloud hold what the journal says it holds, passing by passing?
//!
//! What must hold:
//! * **Bounded.** Neither side is ever in memory as a whole. The log returns the passings of a
//!   session in the order of their numbers, with one batch in memory ([`ours`]). They are compared
//!   in windows of 2000 numbers, and for each window the cloud is asked page by page ([`ask`]).
//!   More than 10,000 differences are only counted.
//! * **No order is expected of the cloud.** Pages may have any size and any order, and a server may
//!   ignore the range or the page ([`compare`]).
//! * **With the daemon or without it.** The log is read up to what is durable, as `export` reads
//!   it. A passing that is on its way counts as *not yet sent*, not as missing.
//! * **No false alarm.** The journal is read before the cloud, so what the journal calls accepted
//!   must already be in the cloud. A window with differences is asked for once more. If differences
//!   remain, it is asked for a third time after the time that the cloud may take to show what it
//!   accepted ([`Subject::lag`]). Only numbers that every answer shows as different count. A
//!   passing that was numbered after the first look is not foreign: the audit compares up to the
//!   moment at which it began, and it looks at the journal again for the passings that the cloud
//!   holds above that.
//! * **Words.** *missing*: accepted, and not in the cloud. *set aside*: refused. *not yet sent*: on
//!   its way, or not numbered. *different*: the same number with another chip, bib or time.
//!   *foreign*: in the cloud and not ours, because another device or program sends into the
//!   session. *duplicated*: the same chip and time twice. *elsewhere*: ours, under another number.
//!   If the only differences are passings on their way, both sides are *equal so far*. Without any
//!   difference they are *equal*. Times are compared to the millisecond, or to the second if the
//!   cloud stores no fractions.
//! * **A repair never gives new numbers and never overwrites.** Only missing passings are sent
//!   again, under their old numbers, by the uplink itself between two batches. They first become
//!   durable as a batch in flight ([`crate::journal::Batch::resend`]), and the cloud is asked
//!   immediately before the POST. A closed session takes no passings. The repair then says so, and
//!   does not open another session.
//!
//! When a session is over, the daemon audits it automatically ([`keep`]). The journal stores that
//! the audit is due, so the daemon makes it after a restart if it was not made before. The daemon
//! tries again until the cloud answers, at least 30 s apart. Differences that an audit found are a
//! problem of the session, until an audit of the same session finds none.
//!
//! Rejected: merging two sorted streams (the cloud documents no order of its pages, and its own
//! page shows the newest first); all numbers of a session in a set (it grows with the session);
//! reading the cloud first and the journal after it (each passing accepted between the two would
//! look missing); repairing from the audit's own process while a daemon runs (the device would have
//! two POSTs in flight).

pub(crate) mod adopt;
pub(crate) mod ask;
pub(crate) mod compare;
pub(crate) mod keep;
pub(crate) mod ours;
mod report;
mod session;
mod text;

pub use report::{AuditError, AuditReport, Head, Subject};
pub use session::audit;
pub(crate) use text::json_lines;
pub use text::text as summary;
