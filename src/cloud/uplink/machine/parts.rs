//! The machine's knowledge, in five parts: the session, the batch in flight, the timers, what the
//! machine believes about the cloud's answers, and the counters.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use super::limits::{BATCH_LIMIT, COMPANY, RETRY_FIRST, SESSIONS_MAX, WATCH_EVERY, scaled};
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

/// What the machine knows about the device's active session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Active {
    Unknown,
    None,
    Some(Session),
}

/// The session in which the machine gives numbers.
#[derive(Clone, Debug)]
pub(super) struct Joined {
    pub(super) token: Box<str>,
    pub(super) next: u64,
    /// In this process, the cloud was asked which numbers are taken.
    pub(super) checked: bool,
}

/// The purpose of an inquiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    Settle,
    Join,
    /// Log lines were lost. Which passings does the session hold?
    Recall,
    /// An earlier process left reads behind. Does the cloud hold them?
    Left {
        from: i64,
        to: i64,
    },
    /// The cloud counts duplicates that it does not show under their numbers. Under which numbers
    /// does it hold them?
    Elsewhere,
    /// Does another writer send passings into this session?
    Watch,
}

#[derive(Debug)]
pub(super) struct Question {
    pub(super) inquiry: Inquiry,
    pub(super) why: Why,
    /// The cloud reported that the session does not exist, so the machine asks for the session
    /// itself.
    pub(super) confirm: bool,
    /// How often the cloud refused this form of the question.
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
    /// Nobody answers, and it is not known whether that is because of the network.
    Silent,
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
    /// The cloud refuses the key or the device. With `by_post`, a POST was refused, so the key may
    /// still be allowed to read.
    Yes {
        by_post: bool,
    },
}

/// The session that takes passings, and the numbers that were given in it.
#[derive(Debug)]
pub(super) struct SessionState {
    pub(super) active: Active,
    pub(super) joined: Option<Joined>,
    /// Token and next number as the journal holds them.
    pub(super) recorded: Option<(Box<str>, u64)>,
    /// Sessions in which this box gave numbers, the one joined last at the end. Each has the number
    /// above all given ones. What the cloud shows never lowers that number. At most
    /// [`SESSIONS_MAX`].
    pub(super) given: VecDeque<(Box<str>, u64)>,
    /// The same, without the numbers that were skipped because the cloud showed that they are
    /// taken.
    pub(super) own: VecDeque<(Box<str>, u64)>,
    /// No session was joined in this process yet. If the first session holds numbers that the box
    /// did not give, log lines may be lost.
    pub(super) first_join: bool,
    /// The answer to a POST said that the session is gone, so the machine must find out which
    /// session is active now.
    pub(super) resolve: bool,
    /// This process had a POST accepted in the session that is joined.
    pub(super) proven: bool,
    /// How often in a row the cloud failed to say which session is active.
    pub(super) polls_failed: u32,
    /// How often in a row the cloud showed an older session as active.
    pub(super) stale_polls: u32,
    /// How often in a row the cloud answered that no session is active, and when the first of these
    /// answers arrived.
    pub(super) none_row: u32,
    pub(super) none_since: Duration,
    /// Somebody closed the session. Until a read waits, none is created.
    pub(super) closed_by_hand: bool,
    /// The session that somebody closed last. A closed session is never opened again, so an answer
    /// that shows it as active is an old one.
    pub(super) closed: Option<Box<str>>,
    /// The session that ended when somebody opened the one that is active.
    pub(super) replaced: Option<Box<str>>,
}

impl SessionState {
    /// `recorded`: token and next number of the session that was joined last.
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
            closed_by_hand: false,
            closed: None,
            replaced: None,
        }
    }
}

/// The batch in flight, the size of its next POST, and the results of its POSTs.
pub(super) struct BatchState {
    pub(super) work: Option<Work>,
    pub(super) question: Option<Question>,
    /// Places in the open list that the current POST carries.
    pub(super) posting: Option<Range<usize>>,
    /// When the machine returned the current POST.
    pub(super) post_began: Duration,
    /// The batch in flight was as large as a batch can be, so more passings wait.
    pub(super) full: bool,
    /// When a batch was last formed, or a passing of it was last settled.
    pub(super) moved_at: Duration,
    pub(super) sizing: Sizing,
    pub(super) suspects: Suspects,
    /// Single passings that the cloud refused in a row.
    pub(super) refused_row: u32,
    /// POSTs in a row whose outcome is unknown.
    pub(super) trouble_row: u32,
    /// How often in a row passings got new numbers because their numbers were taken.
    pub(super) renumbered_row: u32,
}

impl BatchState {
    /// `failing`: passings that an earlier process set aside because the cloud failed at them.
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

/// When each step is due. All times count from the start.
pub(super) struct Timers {
    pub(super) now: Duration,
    /// The machine does nothing before this time.
    pub(super) hold: Duration,
    /// When the machine next asks for the active session.
    pub(super) poll_at: Duration,
    /// The cloud refused every form of a question. The machine asks nothing before this time.
    pub(super) mute_until: Duration,
    pub(super) post_retry: Retry,
    pub(super) ask_retry: Retry,
    /// When to look for reads. `None`: when the driver reports a change of the journal.
    pub(super) look: Option<Duration>,
    /// When the machine noticed the first read that the next batch will carry.
    pub(super) noticed: Option<Duration>,
    /// A full batch waits, so the next batch is due at once.
    pub(super) full: bool,
    pub(super) last_look: Duration,
    pub(super) last_post: Option<Duration>,
    pub(super) posted_since_look: bool,
    /// The machine waits after the start until an answer of the cloud about what it holds can be
    /// believed.
    pub(super) settles: bool,
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
            full: false,
            last_look: Duration::ZERO,
            last_post: None,
            posted_since_look: false,
            settles: false,
        }
    }
}

impl Timers {
    /// Returns when the next batch is due if it is not full, for a look into the journal at `now`.
    /// Reads that were stored during a POST may have waited since the previous look.
    pub(super) fn due(&self, now: Duration, upload: &UploadConfig) -> Duration {
        (self.waited_since(now) + upload.linger).max(self.rested(upload))
    }

    /// Returns when the next POST may follow the last one.
    pub(super) fn rested(&self, upload: &UploadConfig) -> Duration {
        self.last_post.map_or(Duration::ZERO, |at| at + upload.min_interval)
    }

    /// Returns until when a batch that is due may wait for a read that it can be written with.
    pub(super) fn company(&self, upload: &UploadConfig) -> Duration {
        self.last_post.map_or(Duration::ZERO, |_| self.rested(upload) + upload.min_interval.min(COMPANY))
    }

    /// Records that the look at `now` found a batch that is not due yet.
    pub(super) fn looked(&mut self, now: Duration) {
        self.noticed = Some(self.waited_since(now));
        (self.last_look, self.posted_since_look) = (now, false);
    }

    fn waited_since(&self, now: Duration) -> Duration {
        self.noticed.unwrap_or(if self.posted_since_look { self.last_look } else { now })
    }
}

/// What the machine believes about the cloud's answers, about the key, and about what the cloud
/// already holds.
pub(super) struct Trust {
    pub(super) fresh: Freshness,
    /// The form of question that the cloud answers, and until when that form is used first.
    pub(super) way: (Way, Duration),
    /// The waiting passings that the cloud already holds.
    pub(super) recall: Recall,
    /// An earlier process left behind the reads below this entry.
    pub(super) first: u64,
    pub(super) watch: Watch,
    pub(super) refused: Refused,
    /// How often in a row the cloud refused the key or the device.
    pub(super) refusals: usize,
    /// The key may post but not read.
    pub(super) blind: bool,
    /// How often in a row the cloud refused a question because of the key, and whether another
    /// question must show if the key may read.
    pub(super) unread: u32,
    pub(super) test_reading: bool,
    /// The cloud has accepted a POST since it last refused the key, and since the key was replaced.
    pub(super) posts_work: bool,
    /// The key was replaced, and the cloud has accepted nothing with it yet.
    pub(super) key_is_new: bool,
    /// The cloud has shown that it detects duplicates.
    pub(super) dedups: bool,
}

impl Trust {
    /// `doubt`: the sessions that are in doubt after log lines were lost.
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
            key_is_new: false,
            dedups: false,
        }
    }
}

/// Numbers that the timer sees on the board.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Passings set aside since the start.
    pub(super) set_aside: u64,
    /// POSTs acknowledged since the start.
    pub(super) accepted_posts: u64,
    /// The last failure, until the next success.
    pub(super) trouble: Option<Trouble>,
    pub(super) pace: Pace,
    /// Whether nothing waited for this device at the last look. `None`: nobody has looked yet.
    pub(super) nothing_waits: Option<bool>,
}

/// Records the number above all given ones in a session, and makes it the session joined last.
pub(super) fn note_given(given: &mut VecDeque<(Box<str>, u64)>, token: &str, next: u64) {
    let known = given.iter().position(|(known, _)| **known == *token).and_then(|at| given.remove(at));
    let before = known.map_or(0, |(_, before)| before);
    if given.len() == SESSIONS_MAX {
        given.pop_front();
    }
    given.push_back((token.into(), before.max(next)));
}
