//! What the machine knows, in five parts: the session, the batch in flight, the timers, what is believed of the cloud's answers,
//! and what is counted.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use super::limits::{BATCH_LIMIT, RETRY_FIRST, SESSIONS_MAX, WATCH_EVERY, scaled};
use super::suspect::Suspects;
use super::watch::Watch;
use crate::cloud::rufus::Session;
use crate::cloud::uplink::fresh::Freshness;
use crate::cloud::uplink::inquiry::{Inquiry, Way};
use crate::cloud::uplink::pace::Pace;
use crate::cloud::uplink::recall::Recall;
use crate::cloud::uplink::sizing::Sizing;
use crate::cloud::uplink::work::Work;
use crate::config::UploadConfig;
use crate::journal::UploadItem;
use crate::model::retry::Retry;

/// What is known of the device's active session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Active {
    Unknown,
    None,
    Some(Session),
}

/// The session joined: numbers are given in it.
#[derive(Clone, Debug)]
pub(super) struct Joined {
    pub(super) token: Box<str>,
    pub(super) next: u64,
    /// The cloud was asked which numbers are taken, in this process.
    pub(super) checked: bool,
}

/// Why an inquiry is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    Settle,
    Join,
    /// Lines of the log are gone: what does the session hold?
    Recall,
    /// Reads were left behind by an earlier process: does the cloud hold them?
    Left {
        from: i64,
        to: i64,
    },
    /// The cloud counts duplicates that it does not show under their numbers: where are they?
    Elsewhere,
    /// Does somebody else send into this session?
    Watch,
}

#[derive(Debug)]
pub(super) struct Question {
    pub(super) inquiry: Inquiry,
    pub(super) why: Why,
    /// The cloud said that the session is not there; ask for the session itself.
    pub(super) confirm: bool,
    /// Refusals of this form of the question.
    pub(super) refusals: u32,
}

impl Question {
    pub(super) fn new(inquiry: Inquiry, why: Why) -> Self {
        Self { inquiry, why, confirm: false, refusals: 0 }
    }
}

/// Who is at fault when a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Culprit {
    /// The network.
    Offline,
    /// The cloud.
    Cloud,
    /// Neither, or it does not matter.
    Other,
}

#[derive(Clone, Debug)]
pub(super) struct Trouble {
    pub(super) by_post: bool,
    pub(super) fault: Culprit,
    pub(super) text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    No,
    /// The key or device is refused; `by_post`: reading may well be allowed.
    Yes {
        by_post: bool,
    },
}

/// Which session takes passings, and which numbers were given in it.
#[derive(Debug)]
pub(super) struct SessionState {
    pub(super) active: Active,
    pub(super) joined: Option<Joined>,
    /// Token and next number that the journal holds.
    pub(super) recorded: Option<(Box<str>, u64)>,
    /// Sessions that this box gave numbers in, the last joined last, each with the number above all that were given. What
    /// the cloud shows never lowers them. At most [`SESSIONS_MAX`].
    pub(super) given: VecDeque<(Box<str>, u64)>,
    /// The same, without the numbers that were passed over because the cloud showed them to be taken.
    pub(super) own: VecDeque<(Box<str>, u64)>,
    /// The first session of this process is not joined yet: numbers in it that the box did not give tell of lost lines.
    pub(super) first_join: bool,
    /// A POST was told that the session is gone: what is active now?
    pub(super) resolve: bool,
    /// A POST was accepted in the session joined, by this process.
    pub(super) proven: bool,
    /// Looks for the active session in a row at which the cloud failed.
    pub(super) polls_failed: u32,
    /// Looks in a row that showed an older session.
    pub(super) stale_polls: u32,
    /// Answers in a row that there is no active session, and when the first of them came.
    pub(super) none_row: u32,
    pub(super) none_since: Duration,
}

impl SessionState {
    /// `recorded`: token and next number of the session joined last.
    pub(super) fn new(recorded: Option<(Box<str>, u64)>, mut given: VecDeque<(Box<str>, u64)>) -> Self {
        if let Some((token, next)) = &recorded {
            note_given(&mut given, token, *next);
        }
        Self {
            active: Active::Unknown,
            joined: recorded.clone().map(|(token, next)| Joined { token, next, checked: false }),
            recorded,
            own: given.clone(),
            given,
            first_join: true,
            resolve: false,
            proven: false,
            polls_failed: 0,
            stale_polls: 0,
            none_row: 0,
            none_since: Duration::ZERO,
        }
    }
}

/// The batch in flight, how much of it the next POST carries, and how its POSTs went.
pub(super) struct BatchState {
    pub(super) work: Option<Work>,
    pub(super) question: Option<Question>,
    /// Places in the open list of the POST under way.
    pub(super) posting: Option<Range<usize>>,
    /// When the POST under way was given out.
    pub(super) post_began: Duration,
    /// The batch in flight was as large as a batch can be: more waits.
    pub(super) full: bool,
    /// When a batch was formed, or something of it was settled.
    pub(super) moved_at: Duration,
    pub(super) sizing: Sizing,
    pub(super) suspects: Suspects,
    /// Single passings refused in a row.
    pub(super) refused_row: u32,
    /// POSTs in a row whose outcome is unknown.
    pub(super) trouble_row: u32,
    /// Times in a row that passings had to be numbered anew because their numbers were taken.
    pub(super) renumbered_row: u32,
}

impl BatchState {
    /// `parked`: passings that an earlier process set aside because the cloud failed at them.
    pub(super) fn new(work: Option<Work>, failing: Vec<UploadItem>, upload: &UploadConfig) -> Self {
        Self {
            work,
            question: None,
            posting: None,
            post_began: Duration::ZERO,
            full: false,
            moved_at: Duration::ZERO,
            sizing: Sizing::new(upload.batch_max.min(BATCH_LIMIT), BATCH_LIMIT),
            suspects: Suspects::new(failing, upload.retry_max),
            refused_row: 0,
            trouble_row: 0,
            renumbered_row: 0,
        }
    }
}

/// When what is due. All times are since the start.
pub(super) struct Timers {
    pub(super) now: Duration,
    /// Nothing is done before this time.
    pub(super) hold: Duration,
    /// When the active session is looked for next.
    pub(super) poll_at: Duration,
    /// Every form of question is refused: nothing can be asked before this time.
    pub(super) mute_until: Duration,
    pub(super) post_retry: Retry,
    pub(super) ask_retry: Retry,
    /// When to look for reads; `None`: when some are noticed.
    pub(super) look: Option<Duration>,
    /// When the first of the reads was noticed that the next batch is to carry.
    pub(super) noticed: Option<Duration>,
    pub(super) last_look: Duration,
    pub(super) last_post: Option<Duration>,
    pub(super) posted_since_look: bool,
}

impl Timers {
    pub(super) fn new(upload: &UploadConfig) -> Self {
        Self {
            now: Duration::ZERO,
            hold: Duration::ZERO,
            poll_at: Duration::ZERO,
            mute_until: Duration::ZERO,
            post_retry: Retry::new(RETRY_FIRST, upload.retry_max),
            ask_retry: Retry::new(RETRY_FIRST, upload.retry_max),
            look: Some(Duration::ZERO),
            noticed: None,
            last_look: Duration::ZERO,
            last_post: None,
            posted_since_look: false,
        }
    }
}

/// What is believed of the cloud's answers, of the key, and of what the cloud holds already.
pub(super) struct Trust {
    pub(super) fresh: Freshness,
    /// The form of question that the cloud answers, and until when it is asked so first.
    pub(super) way: (Way, Duration),
    /// What the cloud holds already of what waits.
    pub(super) recall: Recall,
    /// Reads below this entry were left behind by an earlier process.
    pub(super) first: u64,
    pub(super) watch: Watch,
    pub(super) refused: Refused,
    /// Refusals in a row of the key or the device.
    pub(super) refusals: usize,
    /// Reading is refused while posting works.
    pub(super) blind: bool,
    /// Refusals in a row to read, and whether another question is to tell if it is the key.
    pub(super) unread: u32,
    pub(super) test_reading: bool,
    /// The cloud took a POST since the key was refused last.
    pub(super) posts_work: bool,
    /// The cloud has shown that it detects duplicates.
    pub(super) dedups: bool,
}

impl Trust {
    /// `doubt`: the sessions in doubt after lines of the log were lost.
    pub(super) fn new(doubt: Option<Vec<Box<str>>>, first: u64, upload: &UploadConfig) -> Self {
        Self {
            fresh: Freshness::new(upload.settle),
            way: (Way::Range, Duration::ZERO),
            recall: Recall::new(doubt),
            first,
            watch: Watch::new(scaled(WATCH_EVERY, upload.retry_max)),
            refused: Refused::No,
            refusals: 0,
            blind: false,
            unread: 0,
            test_reading: false,
            posts_work: false,
            dedups: false,
        }
    }
}

/// What a timer sees of it.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Passings acknowledged, ever.
    pub(super) sent: u64,
    /// Of them reported as duplicates.
    pub(super) duplicates: u64,
    /// Passings set aside since the start.
    pub(super) set_aside: u64,
    /// POSTs acknowledged since the start.
    pub(super) accepted_posts: u64,
    /// The last failure, until success.
    pub(super) trouble: Option<Trouble>,
    pub(super) pace: Pace,
}

/// Notes the number above all that were given in a session, as the one joined last.
pub(super) fn note_given(given: &mut VecDeque<(Box<str>, u64)>, token: &str, next: u64) {
    let known = given.iter().position(|(known, _)| **known == *token).and_then(|at| given.remove(at));
    let before = known.map_or(0, |(_, before)| before);
    if given.len() == SESSIONS_MAX {
        given.pop_front();
    }
    given.push_back((token.into(), before.max(next)));
}
