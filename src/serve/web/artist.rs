//! Draws the page: from the board and the journal to the parts of a [`PageFrame`].
//!
//! Must hold: it runs on a thread that may wait for a disk, and asks the board for one snapshot a
//! drawing. Everything that is not about a read is drawn at most once a second.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use askama::Template;
use tokio::sync::watch;

use super::frame::{Beat, Drawn, PageFrame};
use super::view::{
    AlsoRow, Anchor, BoxClock, ChainView, ClocksView, FootView, LinkView, PageTimes, ReadRow, ShownRead, StateView,
    also, plots,
};
use crate::cloud::passing::Bibs;
use crate::config::ChipZeros;
use crate::export::{NewestFate, NewestRead, NewestReads, Reading};
use crate::journal::Journal;
use crate::model::shown::ShownIn;
use crate::status::plot::PlotSeries;
use crate::status::{Board, BoxState, Lamp, Snapshot};

/// Least time between two drawings of what is not about a read.
const WHOLE: Duration = Duration::from_millis(950);
/// Time between two drawings of the plots.
const PLOTS: Duration = Duration::from_secs(10);
/// Reads that are shown.
pub(super) const ROWS: usize = 20;
/// The file with which systemd's time service records that the clock was set from the network.
const SYNCHRONISED: &str = "/run/systemd/timesync/synchronized";

/// The data of the plots: the last minutes and the last hours. `None`: there are none yet.
pub(crate) type PlotSource = Arc<dyn Fn() -> Option<(PlotSeries, PlotSeries)> + Send + Sync>;

/// What the page knows beside the board.
#[derive(Clone)]
pub(crate) struct Sources {
    /// The journal, once it is open.
    pub journal: watch::Receiver<Option<Journal>>,
    /// How stamps and chips are understood.
    pub reading: Reading,
    /// The bibs.
    pub bibs: watch::Receiver<Arc<Bibs>>,
    /// Whether zeros at the beginning of a chip code count in the bib file.
    pub zeros: ChipZeros,
    /// The data of the plots.
    pub plots: PlotSource,
}

/// Draws one frame after another.
pub(super) struct Artist {
    board: Board,
    sources: Sources,
    newest: Option<NewestReads>,
    anchor: Anchor,
    /// The state that was shown last, and the second at which it began.
    state: Option<(BoxState, i64)>,
    whole_at: Option<Instant>,
    plots_at: Option<Instant>,
    /// The plots, as they were drawn last.
    plots: Vec<(&'static str, String)>,
    frame: Arc<PageFrame>,
}

#[derive(Template)]
#[template(path = "state.html")]
struct StatePart<'a> {
    state: &'a StateView,
    lamps: &'a str,
}

#[derive(Template)]
#[template(path = "lamps.html")]
struct LampsPart<'a> {
    lamps: &'a [Lamp],
}

#[derive(Template)]
#[template(path = "also.html")]
struct AlsoPart<'a> {
    rows: &'a [AlsoRow],
    more: usize,
}

#[derive(Template)]
#[template(path = "link.html")]
struct LinkPart<'a> {
    link: &'a LinkView,
}

#[derive(Template)]
#[template(path = "chain.html")]
struct ChainPart<'a> {
    mats: &'a [String],
    mats_cut: &'a str,
    links: &'a [String],
}

#[derive(Template)]
#[template(source = "<p id=\"sum\">{{ sum }}</p>", ext = "html")]
struct SumPart<'a> {
    sum: &'a str,
}

#[derive(Template)]
#[template(path = "clocks.html")]
struct ClocksPart<'a> {
    clocks: &'a ClocksView,
}

#[derive(Template)]
#[template(path = "row.html")]
struct RowPart<'a> {
    row: &'a ReadRow,
}

#[derive(Template)]
#[template(path = "plots.html")]
struct PlotsPart<'a> {
    id: &'a str,
    drawings: &'a [plots::Drawing],
}

#[derive(Template)]
#[template(path = "foot.html")]
struct FootPart<'a> {
    foot: &'a FootView,
}

/// The part as text. Writing to a text cannot fail.
fn text(part: &impl Template) -> String {
    part.render().unwrap_or_default()
}

fn alone(id: &str, html: String) -> Drawn {
    Drawn { id: id.to_owned(), html, within: None, holds: None }
}

impl Artist {
    pub(super) fn new(board: Board, sources: Sources, version: &str) -> Self {
        let frame = PageFrame { version: version.into(), ..PageFrame::default() };
        Self {
            board,
            sources,
            newest: None,
            anchor: Anchor::default(),
            state: None,
            whole_at: None,
            plots_at: None,
            plots: Vec::new(),
            frame: Arc::new(frame),
        }
    }

    /// The last drawing.
    pub(super) fn last(&self) -> Arc<PageFrame> {
        Arc::clone(&self.frame)
    }

    /// Forgets the reads, so that nothing is held for nobody.
    pub(super) fn rest(&mut self) {
        self.newest = None;
    }

    /// Draws what is due. It may read files.
    pub(super) fn draw(&mut self) -> Arc<PageFrame> {
        let status = self.board.snapshot();
        let (now, uptime) = (self.board.now(), self.board.elapsed());
        let uptime_ms = u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX);
        let zone = ShownIn::of_the_box();
        let started_ms = self.anchor.look(now, uptime_ms);
        let times = PageTimes { zone, now, uptime_ms, started_ms };
        let reads = self.newest().unwrap_or_else(|| self.reads_of_board());
        self.draw_of(&status, &times, reads)
    }

    /// The drawing of this status, at this time, with these reads.
    fn draw_of(&mut self, status: &Snapshot, times: &PageTimes, reads: Vec<NewestRead>) -> Arc<PageFrame> {
        let ahead_s = times.zone.ahead_of_utc(times.now);
        let beat = Beat { uptime_ms: times.uptime_ms, wall_ms: times.now.as_millisecond(), ahead_s };
        let rows = self.rows(status, times, reads);
        let due = self.whole_at.is_none_or(|at| at.elapsed() >= WHOLE);
        let other = self.state.is_none_or(|(state, _)| state != status.state);
        let parts = (due || other).then(|| self.parts(status, times));
        self.frame = Arc::new(self.frame.next(beat, parts, Some(rows)));
        self.last()
    }

    fn parts(&mut self, status: &Snapshot, times: &PageTimes) -> Vec<Drawn> {
        self.whole_at = Some(Instant::now());
        let state = StateView::of(status, times, self.since(status, times));
        let chain = ChainView::of(status, times);
        let (rows, more) = also(status, times);
        let source = if Path::new(SYNCHRONISED).exists() { BoxClock::FromNetwork } else { BoxClock::NotKnown };
        let clocks = ClocksView::of(status, times, source);
        let link = |link: &LinkView| text(&LinkPart { link });
        let mats: Vec<String> = chain.mats.iter().map(link).collect();
        let links: Vec<String> = chain.links.iter().map(link).collect();
        let ids: Vec<&str> = chain.mats.iter().chain(&chain.links).map(|link| link.id.as_str()).collect();
        let lamps = text(&LampsPart { lamps: &status.lamps });
        let mut parts = vec![
            Drawn {
                holds: Some(text(&StatePart { state: &state, lamps: "" })),
                ..alone("state", text(&StatePart { state: &state, lamps: &lamps }))
            },
            Drawn { within: Some("state"), ..alone("lamps", lamps.clone()) },
            alone("also", text(&AlsoPart { rows: &rows, more })),
            Drawn {
                holds: Some(format!("{} {}", ids.join(" "), chain.mats_cut)),
                ..alone("chain", text(&ChainPart { mats: &mats, mats_cut: chain.mats_cut, links: &links }))
            },
        ];
        let within = |(link, html): (&LinkView, String)| Drawn { within: Some("chain"), ..alone(&link.id, html) };
        parts.extend(chain.mats.iter().chain(&chain.links).zip(mats.into_iter().chain(links)).map(within));
        parts.push(alone("sum", text(&SumPart { sum: &chain.sum })));
        parts.push(alone("clocks", text(&ClocksPart { clocks: &clocks })));
        self.draw_plots(times);
        parts.extend(self.plots.iter().map(|(id, html)| alone(id, html.clone())));
        parts.push(alone("foot", text(&FootPart { foot: &FootView::of(status, times) })));
        parts
    }

    /// When the state began, in seconds since the start. The same moment, measured twice, may differ
    /// by a second.
    fn since(&mut self, status: &Snapshot, times: &PageTimes) -> i64 {
        let found = (times.uptime_ms / 1000) as i64 - status.state_s as i64;
        match self.state {
            Some((state, known)) if state == status.state && (known - found).abs() <= 1 => known,
            _ => self.state.insert((status.state, found)).1,
        }
    }

    fn draw_plots(&mut self, times: &PageTimes) {
        if self.plots_at.is_some_and(|at| at.elapsed() < PLOTS) {
            return;
        }
        self.plots_at = Some(Instant::now());
        if let Some((minutes, hours)) = (self.sources.plots)() {
            let drawn = [("plots-10m", &minutes), ("plots-6h", &hours)];
            self.plots = drawn
                .map(|(id, series)| (id, text(&PlotsPart { id, drawings: &plots::drawings(series, times) })))
                .into();
        }
    }

    fn rows(&self, status: &Snapshot, times: &PageTimes, reads: Vec<NewestRead>) -> Vec<(u64, String)> {
        let bibs = Arc::clone(&self.sources.bibs.borrow());
        let zeros = self.sources.zeros;
        let row = |read: NewestRead| {
            let bib = bibs.find(&read.chip, zeros).map(str::to_owned);
            let row = ReadRow::of(status, &ShownRead { read, bib }, times);
            (row.seq, text(&RowPart { row: &row }))
        };
        reads.into_iter().map(row).collect()
    }

    /// The newest reads of the journal. `None`: it is not open, or its log cannot be read now.
    fn newest(&mut self) -> Option<Vec<NewestRead>> {
        if self.newest.is_none() {
            let journal = self.sources.journal.borrow().clone()?;
            self.newest = Some(NewestReads::begin(journal, self.sources.reading.clone()));
        }
        let looked = self.newest.as_mut().map(NewestReads::look)?;
        looked.inspect_err(|error| tracing::debug!(%error, "the page cannot read the log")).ok()
    }

    /// The newest reads that the board knows, by the time of their receipt. What became of them is
    /// not known here.
    fn reads_of_board(&self) -> Vec<NewestRead> {
        let read = |read: crate::status::RecentRead| NewestRead {
            seq: read.seq,
            decoder: read.decoder,
            chip: read.chip,
            time: read.received,
            received: read.received,
            hits: read.hits,
            rssi: read.rssi,
            fate: NewestFate::Waiting,
        };
        self.board.recent_reads(ROWS).into_iter().map(read).collect()
    }
}

#[cfg(test)]
pub(super) mod tests;
