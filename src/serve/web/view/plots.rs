//! The plots: reads and uploads, what was on, what waits, and the delay, as inline SVG.
//!
//! Must hold: nothing that was not measured is drawn as zero. It is a hole with a hatch, and the
//! strip below says whose hole it is. Each picture is a few paths, so that it is small.

mod svg;

use jiff::Timestamp;

use self::svg::{Path, bars, hatched, line_steps};
use super::PageTimes;
use crate::model::text::printable;
use crate::status::plot::{PlotCell, PlotSeries, PlotSpan};
use crate::status::words::{age, count};

/// Width of the drawing area.
const WIDTH: f64 = 360.0;
/// Where the strips begin, behind their names.
const STRIPS: f64 = 104.0;
/// Height of the drawing of rates.
const RATES: f64 = 96.0;
/// Height of the drawing of what waits.
const WAITS: f64 = 52.0;
/// Height of the drawing of the delay.
const DELAYS: f64 = 60.0;
/// Height of a strip.
const STRIP: f64 = 24.0;
/// Most strips that are drawn.
const STRIPS_MOST: usize = 10;
/// The aim of the delay, in seconds.
const AIM_S: f64 = 3.0;

/// A text in a drawing.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::serve::web) struct PlotLabel {
    pub x: String,
    pub y: String,
    /// `start`, `middle` or `end`.
    pub anchor: &'static str,
    pub text: String,
    /// Whether it says why something was off.
    pub loud: bool,
}

/// A drawing: paths by their class, and texts.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::serve::web) struct Drawing {
    /// The name of the figure.
    pub title: &'static str,
    /// Its value now, in words.
    pub now: String,
    /// What it shows, as a sentence.
    pub says: String,
    /// The height; the width is always the same.
    pub height: f64,
    /// Class and path.
    pub paths: Vec<(&'static str, String)>,
    /// The texts.
    pub labels: Vec<PlotLabel>,
    /// Whether it has the key of bars and line.
    pub key: bool,
}

impl Drawing {
    /// The width of every drawing.
    pub(in crate::serve::web) const fn width(&self) -> f64 {
        WIDTH
    }
}

/// All drawings of one period.
pub(in crate::serve::web) fn drawings(series: &PlotSeries, times: &PageTimes) -> Vec<Drawing> {
    let scale = Scale::of(series);
    vec![rates(series, &scale), strips(series, &scale, times), waits(series, &scale), delays(series, &scale)]
}

/// Where a time is in a drawing.
struct Scale {
    until_ms: i64,
    length_ms: i64,
    cell: f64,
    /// The period in words.
    period: String,
}

impl Scale {
    fn of(series: &PlotSeries) -> Self {
        let cells = series.cells.len().max(1);
        let length_ms = i64::from(series.step_s.max(1)) * 1000 * cells as i64;
        let period = age(length_ms.unsigned_abs() / 1000);
        let period = period.strip_suffix(" 00 min").map_or(period.clone(), str::to_owned);
        Self { until_ms: series.until.as_millisecond(), length_ms, cell: WIDTH / cells as f64, period }
    }

    /// The share of the period that is over at `instant`, 0 to 1.
    fn share(&self, instant: Timestamp) -> f64 {
        let from = self.until_ms - self.length_ms;
        ((instant.as_millisecond() - from) as f64 / self.length_ms as f64).clamp(0.0, 1.0)
    }

    /// The texts below a drawing.
    fn axis(&self, y: f64) -> Vec<PlotLabel> {
        let label = |x: f64, anchor, text: String| PlotLabel {
            x: svg::number(x),
            y: svg::number(y),
            anchor,
            text,
            loud: false,
        };
        vec![label(0.0, "start", format!("{} ago", self.period)), label(WIDTH, "end", "now".to_owned())]
    }
}

/// Runs of cells for which `is` holds: first cell and number of cells.
fn runs(cells: &[PlotCell], is: impl Fn(&PlotCell) -> bool) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for at in cells.iter().enumerate().filter(|(_, cell)| is(cell)).map(|(at, _)| at) {
        match runs.last_mut() {
            Some((first, length)) if *first + *length == at => *length += 1,
            _ => runs.push((at, 1)),
        }
    }
    runs
}

/// Hatches over the cells that were not measured.
fn holes(series: &PlotSeries, scale: &Scale, top: f64, bottom: f64, is: impl Fn(&PlotCell) -> bool) -> String {
    let mut path = Path::default();
    for (first, length) in runs(&series.cells, is) {
        hatched(&mut path, first as f64 * scale.cell, length as f64 * scale.cell, top, bottom);
    }
    path.text()
}

/// Marks where the clock of the box stepped.
fn clock_steps(series: &PlotSeries, scale: &Scale, top: f64, bottom: f64) -> String {
    let mut path = Path::default();
    for step in series.clock_steps.iter().rev().take(8) {
        let x = scale.share(*step) * WIDTH;
        path.to(x, top);
        path.line(x, bottom);
    }
    path.text()
}

fn rate(number: Option<u32>, step_s: u32) -> Option<f64> {
    number.map(|number| f64::from(number) / f64::from(step_s.max(1)))
}

/// A rate in words, such as `1.4`.
fn rate_in_words(rate: Option<f64>) -> String {
    match rate {
        None => "not known".to_owned(),
        Some(0.0) => "0".to_owned(),
        Some(rate) if rate < 9.95 => format!("{rate:.1}"),
        Some(rate) => count(rate.round() as u64),
    }
}

/// A round number at or above `most`.
fn ceiling(most: f64) -> f64 {
    let mut unit = 1.0;
    while unit * 10.0 < most {
        unit *= 10.0;
    }
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * unit).find(|step| *step >= most).unwrap_or(most)
}

fn rates(series: &PlotSeries, scale: &Scale) -> Drawing {
    let (top, step_s) = (16.0, series.step_s);
    let of = |number| rate(number, step_s);
    let values = series.cells.iter().flat_map(|cell| [of(cell.reads), of(cell.uploads)]).flatten();
    let most = ceiling(values.fold(1.0, f64::max));
    let y = |value: f64| RATES - value / most * (RATES - top);
    let last = series.cells.last().copied().unwrap_or_default();
    let (reads, uploads) = (rate_in_words(of(last.reads)), rate_in_words(of(last.uploads)));
    let up: Vec<Option<f64>> = series.cells.iter().map(|cell| of(cell.uploads).map(y)).collect();
    let down: Vec<Option<f64>> = series.cells.iter().map(|cell| of(cell.reads).map(y)).collect();
    let mut labels = scale.axis(RATES + 16.0);
    labels.push(PlotLabel {
        x: "0".to_owned(),
        y: svg::number(top - 3.0),
        anchor: "start",
        text: format!("{} a second", count(most as u64)),
        loud: false,
    });
    let unknown = runs(&series.cells, |cell| cell.reads.is_none()).len();
    let gaps = match unknown {
        0 => String::new(),
        1 => " There is one gap in which nothing was measured.".to_owned(),
        gaps => format!(" There are {gaps} gaps in which nothing was measured."),
    };
    Drawing {
        title: "Reads and uploads",
        now: format!("now {reads} and {uploads} a second"),
        says: format!(
            "Reads and uploads a second, the last {}. Now {reads} reads and {uploads} uploads a second.{gaps}",
            scale.period
        ),
        height: RATES + 20.0,
        paths: vec![
            ("rule", format!("M0 {0}H{WIDTH}", svg::number(top))),
            ("bar", bars(&down, scale.cell, RATES)),
            ("up", line_steps(&up, scale.cell)),
            ("hatch", holes(series, scale, top, RATES, |cell| cell.reads.is_none())),
            ("step", clock_steps(series, scale, top, RATES)),
            ("base", format!("M0 {RATES}H{WIDTH}")),
        ],
        labels,
        key: true,
    }
}

fn strips(series: &PlotSeries, scale: &Scale, times: &PageTimes) -> Drawing {
    let (mut on, mut hatch) = (Path::default(), Path::default());
    let mut labels = Vec::new();
    let mut off: Vec<String> = Vec::new();
    for (at, strip) in series.strips.iter().take(STRIPS_MOST).enumerate() {
        let top = at as f64 * STRIP;
        let (upper, lower) = (top + 5.0, top + 18.0);
        let name = cut(&printable(&strip.name));
        labels.push(PlotLabel {
            x: "0".to_owned(),
            y: svg::number(top + 16.0),
            anchor: "start",
            text: name,
            loud: false,
        });
        let x = |instant| STRIPS + scale.share(instant) * (WIDTH - STRIPS);
        for span in &strip.spans {
            let (from, to) = (x(span.from), x(span.to));
            if to <= 0.0 || to < from {
                continue;
            }
            match span.on {
                true => on.rect(from, upper, to - from, lower - upper),
                false => {
                    hatched(&mut hatch, from, (to - from).max(4.0), upper, lower);
                    off.push(why(&strip.name, span, times));
                }
            }
        }
    }
    let now = match off.last() {
        None if series.strips.iter().all(|strip| strip.spans.is_empty()) => "not known".to_owned(),
        None => "nothing was off".to_owned(),
        Some(why) => why.clone(),
    };
    off.reverse();
    off.truncate(4);
    let says = match off.as_slice() {
        [] => format!("What was on, the last {}. Nothing was off, as far as it is known.", scale.period),
        off => format!("What was on, the last {}. Off: {}.", scale.period, off.join("; ")),
    };
    let height = series.strips.len().min(STRIPS_MOST) as f64 * STRIP;
    Drawing {
        title: "What was on",
        now,
        says,
        height,
        paths: vec![("on", on.text()), ("hatch", hatch.text())],
        labels,
        key: false,
    }
}

/// Longest name of a strip, in characters.
const NAME: usize = 14;

fn cut(name: &str) -> String {
    match name.char_indices().nth(NAME) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

/// Why something was off, with its time.
fn why(name: &str, span: &PlotSpan, times: &PageTimes) -> String {
    let what = span.why.as_deref().map_or("off".to_owned(), printable);
    let (name, from) = (printable(name), times.time(span.from));
    match name.as_str() {
        "internet" | "this box" => format!("{what} {from}"),
        name => format!("{name} {what} {from}"),
    }
}

fn waits(series: &PlotSeries, scale: &Scale) -> Drawing {
    let most = ceiling(series.cells.iter().filter_map(|cell| cell.waiting).max().unwrap_or(0).max(20) as f64);
    let y = |value: u64| WAITS - value as f64 / most * (WAITS - 8.0);
    let mut area = Path::default();
    for (first, length) in runs(&series.cells, |cell| cell.waiting.is_some()) {
        let cells = &series.cells[first..first + length];
        area.to(first as f64 * scale.cell, WAITS);
        for (at, cell) in cells.iter().enumerate() {
            area.line((first + at + 1) as f64 * scale.cell, y(cell.waiting.unwrap_or(0)));
        }
        area.line((first + length) as f64 * scale.cell, WAITS);
        area.close();
    }
    let now = match series.cells.last().and_then(|cell| cell.waiting) {
        None => "not known".to_owned(),
        Some(0) => "none".to_owned(),
        Some(waiting) => count(waiting),
    };
    Drawing {
        title: "Waiting for the cloud",
        says: format!("Reads that wait for the cloud, the last {}. Now: {now}.", scale.period),
        now,
        height: WAITS + 4.0,
        paths: vec![
            ("area", area.text()),
            ("hatch", holes(series, scale, 8.0, WAITS, |cell| cell.waiting.is_none())),
            ("base", format!("M0 {WAITS}H{WIDTH}")),
        ],
        labels: vec![PlotLabel {
            x: "0".to_owned(),
            y: "12".to_owned(),
            anchor: "start",
            text: count(most as u64),
            loud: false,
        }],
        key: false,
    }
}

fn delays(series: &PlotSeries, scale: &Scale) -> Drawing {
    let base = DELAYS - 4.0;
    let seconds = |ms: Option<u32>| ms.map(|ms| f64::from(ms) / 1000.0);
    let most = series.cells.iter().filter_map(|cell| seconds(cell.delay_worst_ms)).fold(AIM_S * 1.25, f64::max);
    let y = |seconds: f64| base - seconds / most * (base - 12.0);
    let (mut dots, mut worst) = (Path::default(), Path::default());
    let mut joined = false;
    for (at, cell) in series.cells.iter().enumerate() {
        let x = (at as f64 + 0.5) * scale.cell;
        if let Some(median) = seconds(cell.delay_median_ms) {
            dots.dot(x, y(median));
        }
        match seconds(cell.delay_worst_ms) {
            Some(slowest) if joined => worst.line(x, y(slowest)),
            Some(slowest) => worst.to(x, y(slowest)),
            None => {}
        }
        joined = cell.delay_worst_ms.is_some();
    }
    let last = series.cells.iter().rev().find_map(|cell| Some((cell.delay_median_ms?, cell.delay_worst_ms?)));
    let in_words = |ms: u32| crate::status::words::took(std::time::Duration::from_millis(ms.into()));
    let now = match last {
        None => "nothing arrived".to_owned(),
        Some((median, worst)) => format!("half in {}, all in {}", in_words(median), in_words(worst)),
    };
    Drawing {
        title: "Delay to the cloud",
        says: format!("Delay from read to cloud, the last {}; 3 seconds is the aim. {now}.", scale.period),
        now,
        height: DELAYS,
        paths: vec![
            ("rule", format!("M0 {0}H{WIDTH}", svg::number(y(AIM_S)))),
            ("worst", worst.text()),
            ("dot", dots.text()),
            ("base", format!("M0 {base}H{WIDTH}")),
        ],
        labels: vec![PlotLabel {
            x: "0".to_owned(),
            y: svg::number(y(AIM_S) - 3.0),
            anchor: "start",
            text: "3 s".to_owned(),
            loud: false,
        }],
        key: false,
    }
}
