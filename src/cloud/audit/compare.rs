//! The comparison, as pure code: passings of the journal against pages of the cloud, one window of
//! numbers at a time.
//!
//! A window holds at most [`WINDOW`] of our passings, in memory by number. The rows of the cloud
//! are matched as they arrive, in any order and in pages of any size, so neither the session nor a
//! page must fit into memory. At most [`FINDINGS_MAX`] differences are kept. More are only counted.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::cloud::rufus::{CloudPassing, Page};
use crate::journal::UploadItem;

/// Our passings in a window. One page of the real cloud (5000) can hold them, with room for others.
pub(crate) const WINDOW: usize = 2000;
/// Most differences that are kept.
pub(crate) const FINDINGS_MAX: usize = 10_000;
/// Most passings that are kept of those that the cloud holds beside ours under one number.
const OTHERS_MAX: usize = 4;

/// The state of a passing according to the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PassingState {
    /// The cloud confirmed that it holds the passing.
    Accepted,
    /// The passing has a number and is not settled.
    Open,
    /// The cloud refused the passing, and it was set aside.
    Aside,
    /// The passing was accepted, and sent again under another number because its time was
    /// corrected. The cloud may still hold it, or somebody removed it there.
    Replaced,
}

/// A passing as the journal numbered it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ours {
    /// The passing.
    pub item: UploadItem,
    /// State of the passing.
    pub mark: PassingState,
    /// The cloud counted duplicates when it accepted this passing. So it may hold this chip and
    /// time only under another number.
    pub counted: bool,
}

/// The kind of a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditVerdict {
    /// The passing was accepted, and the cloud does not hold it.
    Missing,
    /// Like missing, but the cloud holds the same chip and time under a number that is not ours.
    Elsewhere,
    /// The cloud holds another chip, bib or time under this number.
    Different,
    /// The cloud holds the passing a second time, under the same number or under one that is not
    /// ours.
    Duplicated,
    /// The cloud holds a passing that is not ours.
    Foreign,
    /// The passing was set aside, and the cloud does not hold it.
    SetAside,
    /// The passing has a number and is on its way.
    NotYetSent,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Kind of the difference.
    pub verdict: AuditVerdict,
    /// Our passing, if the journal has one.
    pub ours: Option<UploadItem>,
    /// The cloud's passing, if it has one.
    pub cloud: Option<CloudPassing>,
    /// The other number of a passing that is held twice or elsewhere.
    pub other: Option<u64>,
    /// See [`Ours::counted`].
    pub counted: bool,
}

impl Finding {
    /// The number of the finding. `None`: the cloud returned no number.
    pub fn num(&self) -> Option<u64> {
        self.ours.as_ref().map(|item| item.num).or_else(|| self.cloud.as_ref()?.num)
    }
}

/// The result of one window, or of several together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Compared {
    /// Number of passings in the journal.
    pub checked: u64,
    /// How many of them the cloud holds unchanged.
    pub equal: u64,
    /// Number of passings in the cloud whose number cannot be read.
    pub unnumbered: u64,
    /// Differences, in the order of the numbers, at most [`FINDINGS_MAX`].
    pub findings: Vec<Finding>,
    /// Number of differences beyond that limit, by kind.
    pub beyond: BTreeMap<AuditVerdict, u64>,
    /// Passings that are equal except for the fraction of the second, which the cloud returns as
    /// zero.
    pub coarse: Vec<Finding>,
    /// The cloud stores fractions, because it returned another passing with its fraction.
    pub keeps_fractions: bool,
}

impl AuditVerdict {
    /// A later answer of the cloud may still change the verdict. An accepted passing may take a
    /// while to appear. A passing that moves to another page during the audit is listed twice or
    /// not at all.
    pub fn is_doubtful(self) -> bool {
        !matches!(self, Self::SetAside | Self::NotYetSent)
    }
}

impl Compared {
    fn add(&mut self, finding: Finding) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        } else {
            *self.beyond.entry(finding.verdict).or_default() += 1;
        }
    }

    /// Adds a window that follows these.
    pub(crate) fn append(&mut self, window: Self) {
        self.checked += window.checked;
        self.equal += window.equal;
        self.unnumbered = self.unnumbered.max(window.unnumbered); // they have no place, so each window may show them
        self.keeps_fractions |= window.keeps_fractions;
        for finding in window.findings {
            self.add(finding);
        }
        for (verdict, count) in window.beyond {
            *self.beyond.entry(verdict).or_default() += count;
        }
        let room = FINDINGS_MAX.saturating_sub(self.coarse.len());
        self.coarse.extend(window.coarse.into_iter().take(room));
    }

    /// Combines two looks at a window. Only numbers that both looks found different count, and the
    /// second look defines the difference. The first look may have missed a passing that was just
    /// arriving, or seen one twice that moved to the next page.
    pub(crate) fn confirmed_by(&self, mut again: Self) -> Self {
        if self.beyond.is_empty() {
            let before: BTreeSet<_> = self.findings.iter().map(Finding::num).collect();
            again.findings.retain(|finding| before.contains(&finding.num()));
        }
        again
    }

    /// There is a difference that a later answer may not confirm.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.findings.iter().any(|finding| finding.verdict.is_doubtful())
            || self.beyond.iter().any(|(verdict, count)| verdict.is_doubtful() && *count > 0)
    }

    /// Keeps the first `room` findings and counts the others.
    pub(crate) fn keep(&mut self, room: usize) {
        for finding in self.findings.drain(room.min(self.findings.len())..) {
            *self.beyond.entry(finding.verdict).or_default() += 1;
        }
    }

    /// Called when everything was seen. Decides whether a missing fraction is a difference.
    pub(crate) fn finish(&mut self) {
        let coarse = std::mem::take(&mut self.coarse);
        if self.keeps_fractions {
            self.equal = self.equal.saturating_sub(coarse.len() as u64);
            for finding in coarse {
                self.add(finding);
            }
            self.findings.sort_by_key(Finding::num);
        }
    }
}

/// Our passing under a number, and whether the cloud showed it.
struct Slot {
    ours: Ours,
    held: bool,
}

impl Slot {
    /// The slot holds the same passing, from any read.
    fn is(&self, item: &UploadItem) -> bool {
        let ours = &self.ours.item;
        (&ours.chip, &ours.bib, ours.time_ms) == (&item.chip, &item.bib, item.time_ms)
    }
}

#[derive(Default)]
struct Place {
    slots: Vec<Slot>,
    /// Passings that the cloud holds here and that are not ours, at most [`OTHERS_MAX`].
    others: Vec<CloudPassing>,
    /// Further copies of our passing in the cloud.
    twice: Vec<CloudPassing>,
}

/// A range of numbers that is compared.
pub(crate) struct Window {
    first: u64,
    last: Option<u64>,
    places: BTreeMap<u64, Place>,
    seen: Compared,
}

impl Window {
    /// The numbers `first..=last` (`None`: no end), with all our passings in it. If the same
    /// passing occurs twice under the same number, the later one counts: it was sent again, or its
    /// read arrived again after its line was lost.
    pub(crate) fn new(first: u64, last: Option<u64>, ours: impl IntoIterator<Item = Ours>) -> Self {
        let mut places: BTreeMap<u64, Place> = BTreeMap::new();
        for ours in ours {
            let slots = &mut places.entry(ours.item.num).or_default().slots;
            match slots.iter_mut().find(|slot| slot.is(&ours.item)) {
                Some(slot) => slot.ours = ours,
                None => slots.push(Slot { ours, held: false }),
            }
        }
        Self { first, last, places, seen: Compared::default() }
    }

    /// Takes in a page.
    pub(crate) fn take(&mut self, page: Page) {
        for stored in page.passings {
            let Some(num) = stored.num else {
                self.seen.unnumbered += 1;
                continue;
            };
            if num < self.first || self.last.is_some_and(|last| num > last) {
                continue; // the server ignores the range
            }
            match self.places.get_mut(&num) {
                Some(place) => place.put(stored, &mut self.seen),
                None => self.seen.add(of_cloud(AuditVerdict::Foreign, stored, None)),
            }
        }
    }

    /// Ends the comparison after everything was seen.
    pub(crate) fn close(mut self) -> Compared {
        for place in self.places.into_values() {
            place.judge(&mut self.seen);
        }
        self.seen.findings.sort_by_key(Finding::num);
        self.seen
    }
}

impl Place {
    fn put(&mut self, stored: CloudPassing, seen: &mut Compared) {
        let likeness = |slot: &Slot| likeness(&stored, &slot.ours.item);
        let free = self.slots.iter_mut().filter(|slot| !slot.held).find(|slot| likeness(slot) != Likeness::None);
        if let Some(slot) = free {
            slot.held = true;
            match likeness(slot) {
                Likeness::Same => seen.keeps_fractions |= stored.time_ms.is_some_and(|ms| ms % 1000 != 0),
                _ if seen.coarse.len() < FINDINGS_MAX => seen.coarse.push(Finding {
                    verdict: AuditVerdict::Different,
                    ours: Some(slot.ours.item.clone()),
                    cloud: Some(stored),
                    other: None,
                    counted: false,
                }),
                _ => {}
            }
        } else if self.slots.iter().any(|slot| likeness(slot) != Likeness::None) {
            if self.twice.len() < OTHERS_MAX {
                self.twice.push(stored);
            }
        } else if self.others.len() < OTHERS_MAX {
            self.others.push(stored);
        }
    }

    fn judge(self, seen: &mut Compared) {
        let mut others = self.others.into_iter();
        for Slot { ours: Ours { item, mark, counted }, held } in self.slots {
            if mark == PassingState::Replaced && !held {
                continue; // it was removed, as it should be
            }
            seen.checked += 1;
            if held {
                seen.equal += 1;
                continue;
            }
            // We did not store a passing that was set aside, so another passing under its number
            // belongs to another sender.
            let cloud = if mark == PassingState::Aside { None } else { others.next() };
            let verdict = match (mark, &cloud) {
                (_, Some(_)) => AuditVerdict::Different,
                (PassingState::Accepted | PassingState::Replaced, None) => AuditVerdict::Missing,
                (PassingState::Open, None) => AuditVerdict::NotYetSent,
                (PassingState::Aside, None) => AuditVerdict::SetAside,
            };
            seen.add(Finding { verdict, ours: Some(item), cloud, other: None, counted });
        }
        for stored in others {
            seen.add(of_cloud(AuditVerdict::Foreign, stored, None));
        }
        for stored in self.twice {
            let other = stored.num;
            seen.add(of_cloud(AuditVerdict::Duplicated, stored, other));
        }
    }
}

fn of_cloud(verdict: AuditVerdict, stored: CloudPassing, other: Option<u64>) -> Finding {
    Finding { verdict, ours: None, cloud: Some(stored), other, counted: false }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Likeness {
    Same,
    /// Equal except for the fraction of the second, which the cloud returns as zero.
    Coarse,
    None,
}

/// Whether the cloud's passing is ours, except perhaps for the fraction of the second.
pub(crate) fn is_alike(stored: &CloudPassing, item: &UploadItem) -> bool {
    likeness(stored, item) != Likeness::None
}

/// A field that the cloud does not return, or returns unreadably, is no difference. A field that
/// the journal does not have (old lines of [`crate::journal::Found`]) is no difference either.
fn likeness(stored: &CloudPassing, item: &UploadItem) -> Likeness {
    let other = |theirs: &Option<Box<str>>, ours: &str| {
        !ours.is_empty() && theirs.as_ref().is_some_and(|it| !it.eq_ignore_ascii_case(ours))
    };
    if other(&stored.chip, &item.chip) || other(&stored.bib, &item.bib) {
        return Likeness::None;
    }
    match stored.time_ms {
        None => Likeness::Same,
        Some(time) if time == item.time_ms => Likeness::Same,
        Some(time) if time % 1000 == 0 && time.abs_diff(item.time_ms) < 1000 => Likeness::Coarse,
        Some(_) => Likeness::None,
    }
}

/// A chip at a time, as both sides know it.
type Crossing = (String, i64);

fn crossing_of_item(item: &UploadItem) -> Crossing {
    (item.chip.to_ascii_lowercase(), item.time_ms)
}

fn crossing_of_stored(stored: &CloudPassing) -> Option<Crossing> {
    let chip = stored.chip.as_ref().or(stored.bib.as_ref())?;
    Some((chip.to_ascii_lowercase(), stored.time_ms?))
}

/// A second look through the journal as it is after the cloud was read. A passing that became ours
/// meanwhile is not foreign, and a passing that is missing under its number may be in the cloud
/// under another one.
pub(crate) struct Explain {
    findings: Vec<Option<Finding>>,
    /// Findings by chip and time.
    crossings: BTreeMap<Crossing, Vec<usize>>,
    /// Foreign findings by number.
    foreign: BTreeMap<u64, Vec<usize>>,
    missing: BTreeSet<u64>,
    /// Passings that the cloud counted as duplicates, and whose chip and time it holds under
    /// another of our numbers.
    merged: u64,
}

impl Explain {
    /// At least one finding needs a second look.
    pub(crate) fn needed(findings: &[Finding]) -> bool {
        findings.iter().any(|finding| matches!(finding.verdict, AuditVerdict::Missing | AuditVerdict::Foreign))
    }

    /// A look for these findings.
    pub(crate) fn new(findings: Vec<Finding>) -> Self {
        let mut look = Self {
            findings: Vec::new(),
            crossings: BTreeMap::new(),
            foreign: BTreeMap::new(),
            missing: findings
                .iter()
                .filter(|it| it.verdict == AuditVerdict::Missing)
                .filter_map(Finding::num)
                .collect(),
            merged: 0,
        };
        for (at, finding) in findings.iter().enumerate() {
            let crossing = match finding.verdict {
                AuditVerdict::Missing => finding.ours.as_ref().map(crossing_of_item),
                AuditVerdict::Foreign => {
                    if let Some(num) = finding.num() {
                        look.foreign.entry(num).or_default().push(at);
                    }
                    finding.cloud.as_ref().and_then(crossing_of_stored)
                }
                _ => None,
            };
            if let Some(crossing) = crossing {
                look.crossings.entry(crossing).or_default().push(at);
            }
        }
        look.findings = findings.into_iter().map(Some).collect();
        look.find_elsewhere();
        look
    }

    /// A missing and a foreign finding with the same chip and time are one passing under another
    /// number.
    fn find_elsewhere(&mut self) {
        for places in self.crossings.values() {
            let is = |at: &usize, verdict| self.findings[*at].as_ref().is_some_and(|f| f.verdict == verdict);
            let missing: Vec<usize> = places.iter().copied().filter(|at| is(at, AuditVerdict::Missing)).collect();
            let foreign: Vec<usize> = places.iter().copied().filter(|at| is(at, AuditVerdict::Foreign)).collect();
            for (missing, foreign) in missing.into_iter().zip(foreign) {
                let cloud = self.findings[foreign].take().and_then(|finding| finding.cloud);
                if let Some(finding) = &mut self.findings[missing] {
                    (finding.verdict, finding.other) = (AuditVerdict::Elsewhere, cloud.as_ref().and_then(|it| it.num));
                    finding.cloud = cloud;
                }
            }
        }
    }

    /// Takes in one passing of the journal.
    pub(crate) fn look(&mut self, ours: &Ours) {
        let item = &ours.item;
        for &at in self.foreign.get(&item.num).into_iter().flatten() {
            let same = |finding: &Finding| {
                finding.cloud.as_ref().is_some_and(|stored| likeness(stored, item) != Likeness::None)
            };
            if self.findings[at].as_ref().is_some_and(same) {
                self.findings[at] = None; // numbered since the first look
            }
        }
        if ours.mark != PassingState::Accepted || self.missing.contains(&item.num) {
            return;
        }
        for &at in self.crossings.get(&crossing_of_item(item)).into_iter().flatten() {
            let Some(finding) = &mut self.findings[at] else { continue };
            match finding.verdict {
                AuditVerdict::Missing if finding.counted => {
                    self.findings[at] = None;
                    self.merged += 1;
                }
                AuditVerdict::Foreign => (finding.verdict, finding.other) = (AuditVerdict::Duplicated, Some(item.num)),
                _ => {}
            }
        }
    }

    /// Returns the remaining findings, and how many of the missing ones the cloud holds under
    /// another of our numbers.
    pub(crate) fn finish(self) -> (Vec<Finding>, u64) {
        (self.findings.into_iter().flatten().collect(), self.merged)
    }
}
