//! Paths of SVG, written short.

use std::fmt::Write;

/// A path, as it grows.
#[derive(Default)]
pub(super) struct Path(String);

/// A number with at most one decimal.
pub(super) fn number(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

impl Path {
    fn put(&mut self, step: char, x: f64, y: f64) {
        let _ = write!(self.0, "{step}{} {}", number(x), number(y)); // to a String it cannot fail
    }

    /// Begins anew at a point.
    pub(super) fn to(&mut self, x: f64, y: f64) {
        self.put('M', x, y);
    }

    /// A line to a point.
    pub(super) fn line(&mut self, x: f64, y: f64) {
        self.put('L', x, y);
    }

    /// A line back to where it began.
    pub(super) fn close(&mut self) {
        self.0.push('z');
    }

    /// A dot: a line of no length, which a round end makes visible.
    pub(super) fn dot(&mut self, x: f64, y: f64) {
        self.to(x, y);
        self.0.push_str("h0");
    }

    /// A rectangle.
    pub(super) fn rect(&mut self, x: f64, y: f64, width: f64, height: f64) {
        self.to(x, y);
        let (width, height) = (number(width), number(height));
        let _ = write!(self.0, "h{width}v{height}h-{width}z");
    }

    /// The text of it.
    pub(super) fn text(self) -> String {
        self.0
    }
}

/// A bar for each value, from its height down to `base`. No value, and a value of nothing, is no
/// bar.
pub(super) fn bars(tops: &[Option<f64>], cell: f64, base: f64) -> String {
    let mut path = Path::default();
    for (at, top) in tops.iter().enumerate().filter_map(|(at, top)| Some((at, (*top)?))) {
        if base - top >= 0.05 {
            path.rect(at as f64 * cell + 0.6, top, cell - 1.2, base - top);
        }
    }
    path.text()
}

/// A line in steps. It is broken where there is no value.
pub(super) fn line_steps(heights: &[Option<f64>], cell: f64) -> String {
    let mut path = Path::default();
    let mut before = None;
    for (at, height) in heights.iter().enumerate() {
        let x = at as f64 * cell;
        if let Some(y) = *height {
            match before {
                None => path.to(x, y),
                Some(last) if last == y => {}
                Some(_) => path.line(x, y),
            }
            path.line(x + cell, y);
        }
        before = *height;
    }
    path.text()
}

/// Slanted lines over a part of a drawing.
pub(super) fn hatched(path: &mut Path, x: f64, width: f64, top: f64, bottom: f64) {
    const GAP: f64 = 7.0;
    let lines = (width / GAP).ceil().clamp(1.0, 60.0) as u32;
    for at in 0..lines {
        let left = x + f64::from(at) * GAP;
        path.to(left, bottom);
        path.line((left + 6.0).min(x + width), top);
    }
}
