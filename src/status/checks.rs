//! Before the gun: what one test chip proved about each mat.
//!
//! A volunteer passes a chip over each mat. Four words of the mat get a tick, one after the other:
//! the box read it, its time is right, it is kept, and it is in the cloud. A tick stays until the next
//! day, until the session changes, or until somebody starts again.
//!
//! What must hold:
//! * **A tick says what was seen, and when.** A mat gets the first tick from a live read only, because
//!   a stored read proves nothing of the mat now. It gets the last one when the cloud accepted a
//!   passing of a read that the mat gave since the first tick.
//! * **Nothing is taken back.** A mat that is lost later keeps its ticks, and the view says that it was
//!   lost ([`MatCheck::lost`]).
//! * **Bounded.** For each mat [`READS_MAX`] reads are remembered until one of them arrives.
//! * Pure: the times are passed in. There is no clock and no I/O.

use std::collections::VecDeque;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::snapshot::{DecoderStatus, LinkState, RecentRead};
use crate::model::chip::Seq;
use crate::model::source;

/// Reads of a mat whose arrival in the cloud is waited for. With more, the oldest are forgotten.
const READS_MAX: usize = 64;

/// What was seen of one mat since the checks began. A tick is the time at which it was given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MatCheck {
    /// The name of the decoder.
    pub name: String,
    /// The chip code of the first live read.
    pub chip: Option<String>,
    /// When the box received the first live read.
    pub read: Option<Timestamp>,
    /// When the clock of the mat was first known to be right, after the first read.
    pub time_right: Option<Timestamp>,
    /// When the first live read was safe on the disk.
    pub kept: Option<Timestamp>,
    /// When a read of the mat was first in the cloud.
    pub in_cloud: Option<Timestamp>,
    /// Since when a mat with a tick is not connected.
    pub lost: Option<Timestamp>,
}

impl MatCheck {
    /// Whether all four words have a tick.
    pub fn is_whole(&self) -> bool {
        self.read.is_some() && self.time_right.is_some() && self.kept.is_some() && self.in_cloud.is_some()
    }
}

/// The checks of all mats, in the order of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChecksStatus {
    /// Since when, by the clock of the box. `None`: they have not begun, because the box has just
    /// started.
    pub since: Option<Timestamp>,
    /// A check for each mat.
    pub mats: Vec<MatCheck>,
    /// The ends of the tokens of the sessions into which the mats were checked. It is empty while they
    /// are not known.
    #[serde(default)]
    pub sessions: Vec<String>,
}

/// The checks, and what is needed to go on with them.
#[derive(Debug, Default)]
pub(super) struct Checks {
    status: ChecksStatus,
    /// Reads of each mat that are not known to be in the cloud, the oldest first.
    open: Vec<VecDeque<Seq>>,
}

impl Checks {
    /// What is shown.
    pub(super) fn status(&self) -> ChecksStatus {
        self.status.clone()
    }

    /// Goes on with checks of an earlier process.
    pub(super) fn restore(&mut self, status: ChecksStatus) {
        self.open = vec![VecDeque::new(); status.mats.len()];
        self.status = status;
    }

    /// Begins anew: all ticks are gone.
    pub(super) fn start_again(&mut self, now: Timestamp) {
        let sessions = std::mem::take(&mut self.status.sessions);
        self.status = ChecksStatus { since: Some(now), mats: Vec::new(), sessions };
        self.open.clear();
    }

    fn mat(&mut self, name: &str) -> (&mut MatCheck, &mut VecDeque<Seq>) {
        let at = self.status.mats.iter().position(|mat| mat.name == name).unwrap_or_else(|| {
            self.status.mats.push(MatCheck { name: name.to_owned(), ..MatCheck::default() });
            self.open.push(VecDeque::new());
            self.status.mats.len() - 1
        });
        (&mut self.status.mats[at], &mut self.open[at])
    }

    /// A read became durable at `now`.
    pub(super) fn kept(&mut self, read: &RecentRead, now: Timestamp) {
        if !read.live {
            return;
        }
        let (mat, open) = self.mat(source::decoder(&read.decoder));
        if mat.read.is_none() {
            (mat.chip, mat.read, mat.kept) = (Some(read.chip.clone()), Some(read.received), Some(now));
        }
        if mat.in_cloud.is_none() {
            if open.len() == READS_MAX {
                open.pop_front();
            }
            open.push_back(Seq(read.seq));
        }
    }

    /// The cloud accepted the passing of this read at `now`.
    pub(super) fn arrived(&mut self, read: Seq, now: Timestamp) {
        for (mat, open) in self.status.mats.iter_mut().zip(&mut self.open) {
            if open.contains(&read) {
                mat.in_cloud.get_or_insert(now);
                open.clear();
            }
        }
    }

    /// Looks at the mats and the sessions. To be called about once a second. `new_day`: midnight has
    /// passed since the last look, in the zone of the box.
    pub(super) fn look(&mut self, decoders: &[DecoderStatus], sessions: Vec<String>, new_day: bool, now: Timestamp) {
        // A session that is not known for a moment is no other session.
        let known = &mut self.status.sessions;
        let other = !sessions.is_empty() && !known.is_empty() && sessions != *known;
        if !sessions.is_empty() {
            *known = sessions;
        }
        if new_day || other {
            self.start_again(now);
        }
        self.status.since.get_or_insert(now);
        for decoder in decoders {
            let (mat, _) = self.mat(&decoder.name);
            if mat.read.is_none() {
                continue;
            }
            if decoder.times_right {
                mat.time_right.get_or_insert(now);
            }
            match decoder.state {
                LinkState::Connected => mat.lost = None,
                LinkState::Connecting | LinkState::Failed | LinkState::Idle => {
                    mat.lost.get_or_insert(now);
                }
            }
        }
        // Mats are shown in the order of the configuration, and only those that it has.
        let place = |name: &str| decoders.iter().position(|decoder| decoder.name == name);
        let mut both: Vec<_> = self.status.mats.drain(..).zip(self.open.drain(..)).collect();
        both.retain(|(mat, _)| place(&mat.name).is_some());
        both.sort_by_key(|(mat, _)| place(&mat.name));
        (self.status.mats, self.open) = both.into_iter().unzip();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn read(seq: u64, decoder: &str, live: bool) -> RecentRead {
        let (chip, decoder_time) = (format!("C{seq}"), "06:12:00".to_owned());
        let received = at(seq as i64);
        RecentRead {
            seq,
            decoder: decoder.into(),
            chip,
            decoder_time,
            received,
            antenna: None,
            rssi: None,
            hits: None,
            live,
        }
    }

    fn mat(name: &str, state: LinkState, times_right: bool) -> DecoderStatus {
        DecoderStatus { name: name.into(), state, times_right, ..DecoderStatus::default() }
    }

    fn ticks(checks: &Checks) -> Vec<String> {
        let sign = |tick: Option<Timestamp>| if tick.is_some() { '+' } else { '-' };
        let of = |mat: &MatCheck| {
            let signs = [mat.read, mat.time_right, mat.kept, mat.in_cloud].map(sign);
            format!("{} {}{}", mat.name, String::from_iter(signs), if mat.lost.is_some() { " lost" } else { "" })
        };
        checks.status().mats.iter().map(of).collect()
    }

    /// Two mats, of which the first is connected and right.
    fn mats() -> [DecoderStatus; 2] {
        [mat("main", LinkState::Connected, true), mat("back", LinkState::Connecting, false)]
    }

    #[test]
    fn a_mat_gets_its_ticks_one_by_one_and_keeps_them_when_it_is_lost() {
        let mut checks = Checks::default();
        checks.look(&mats(), vec!["S".into()], false, at(0));
        assert_eq!(ticks(&checks), ["main ----", "back ----"]);
        checks.kept(&read(1, "main", false), at(1));
        assert_eq!(ticks(&checks)[0], "main ----", "a stored read proves nothing of the mat");
        checks.kept(&read(2, "main/gate", true), at(3));
        assert_eq!(ticks(&checks)[0], "main +-+-");
        checks.look(&mats(), vec!["S".into()], false, at(4));
        assert_eq!(ticks(&checks)[0], "main +++-");
        checks.arrived(Seq(7), at(5));
        assert_eq!(ticks(&checks)[0], "main +++-", "that was another read");
        checks.arrived(Seq(2), at(6));
        assert!(checks.status().mats[0].is_whole());
        checks.look(&[mat("main", LinkState::Failed, true), mats()[1].clone()], vec![], false, at(7));
        assert_eq!(ticks(&checks), ["main ++++ lost", "back ----"]);
        checks.look(&mats(), vec!["S".into()], false, at(8));
        assert_eq!(ticks(&checks)[0], "main ++++", "it is back");
        let of = checks.status().mats[0].clone();
        assert_eq!(
            (of.read, of.kept, of.time_right, of.in_cloud),
            (Some(at(2)), Some(at(3)), Some(at(4)), Some(at(6)))
        );
        assert_eq!(of.chip.as_deref(), Some("C2"));
    }

    #[test]
    fn ticks_go_with_the_day_with_another_session_and_when_somebody_starts_again() {
        for case in ["day", "session", "again", "nothing", "unknown"] {
            let mut checks = Checks::default();
            checks.look(&mats(), vec!["S".into()], false, at(0));
            checks.kept(&read(1, "main", true), at(1));
            let session = if case == "session" { vec!["T".into()] } else { vec!["S".into()] };
            let session = if case == "unknown" { Vec::new() } else { session };
            if case == "again" {
                checks.start_again(at(2));
            }
            checks.look(&mats(), session, case == "day", at(3));
            let stays = matches!(case, "nothing" | "unknown");
            assert_eq!(ticks(&checks)[0], if stays { "main +++-" } else { "main ----" }, "{case}");
            assert_eq!(
                checks.status().since,
                Some(match case {
                    "again" => at(2),
                    _ if stays => at(0),
                    _ => at(3),
                })
            );
        }
    }

    #[test]
    fn any_read_since_the_first_one_may_be_the_one_that_arrives_and_their_number_is_bounded() {
        let mut checks = Checks::default();
        for seq in 1..=1000 {
            checks.kept(&read(seq, "main", true), at(1));
        }
        checks.arrived(Seq(1), at(2));
        assert!(checks.status().mats[0].in_cloud.is_none(), "it is forgotten");
        checks.arrived(Seq(999), at(3));
        assert_eq!(checks.status().mats[0].in_cloud, Some(at(3)));
        assert!(checks.open.iter().all(VecDeque::is_empty));
    }

    #[test]
    fn what_an_earlier_process_saw_stays() {
        let mut checks = Checks::default();
        checks.look(&mats(), vec!["S".into()], false, at(0));
        checks.kept(&read(1, "main", true), at(1));
        checks.arrived(Seq(1), at(2));
        checks.look(&mats(), vec!["S".into()], false, at(2));
        let kept = serde_json::to_string(&checks.status()).unwrap();
        let mut next = Checks::default();
        next.restore(serde_json::from_str(&kept).unwrap());
        next.look(&mats(), vec!["T".into()], false, at(3));
        assert_eq!(ticks(&next), ["main ----", "back ----"], "the session changed while nothing ran");
        next.restore(serde_json::from_str(&kept).unwrap());
        next.look(&mats(), vec!["S".into()], false, at(3));
        assert_eq!(ticks(&next), ["main ++++", "back ----"]);
        next.kept(&read(2, "back", true), at(4));
        next.arrived(Seq(2), at(5));
        assert_eq!(ticks(&next), ["main ++++", "back +-++"]);
    }
}
