//! What `status --watch` draws: the news of the box as the lines of a screen of any size.
//!
//! Must hold:
//! * The most important comes first, and what does not fit is left out from below: state, sentence,
//!   what to do, lamps, problems, the way of the reads, the last reads.
//! * A colour is never the only sign: each mark has a shape and a word, and the block of a state that
//!   needs a person is reversed, so that it differs in brightness, too.
//! * Everything is as the box said it. Only *No news* is found out here.
//! * Text from outside cannot control the terminal.

use jiff::Timestamp;
use ratatui::Frame;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use crate::model::shown::ShownIn;
use crate::model::text::printable;
use crate::status::glance;
use crate::status::words::{age, count};
use crate::status::{
    BoxState, Lamp, LampName, LinkState, Mark, Problem, ProblemCode, RecentRead, Severity, Snapshot, UploadState,
};

/// What the box said, and when.
pub(super) struct LiveNews {
    /// Its status.
    pub status: Snapshot,
    /// Its newest reads, the newest first.
    pub reads: Vec<RecentRead>,
    /// When it said it.
    pub at: Timestamp,
}

/// What is drawn.
pub(super) struct LiveView {
    times: ShownIn,
    colour: bool,
    /// The last news, also if the box has been silent since.
    news: Option<LiveNews>,
    /// Why the box says nothing now.
    silent: Option<String>,
}

/// A screen of fewer columns or lines than these gets the lamps in one line, and nothing that
/// explains them.
const SMALL: (usize, usize) = (64, 18);

impl LiveView {
    /// Nothing is known yet.
    pub(super) fn new(times: ShownIn, colour: bool) -> Self {
        Self { times, colour, news: None, silent: None }
    }

    /// Takes what the box said, or why it said nothing.
    pub(super) fn take(&mut self, news: Result<LiveNews, String>) {
        match news {
            Ok(news) => (self.news, self.silent) = (Some(news), None),
            Err(why) => self.silent = Some(printable(&why)),
        }
    }

    /// Draws on the whole screen.
    pub(super) fn draw(&self, frame: &mut Frame) {
        let area = frame.area();
        let lines = self.lines(usize::from(area.width), usize::from(area.height));
        frame.render_widget(Paragraph::new(lines), area);
    }

    /// The lines of a screen of this size.
    fn lines(&self, width: usize, height: usize) -> Vec<Line<'static>> {
        let small = width < SMALL.0 || height < SMALL.1;
        let mut out = vec![self.head(width)];
        self.state(width, small, &mut out);
        let Some(news) = &self.news else {
            out.truncate(height);
            return out;
        };
        self.lamps(&news.status, width, small, &mut out);
        let below = if self.silent.is_some() { Modifier::DIM } else { Modifier::empty() };
        let above = out.len();
        let foot = usize::from(height > above + 1);
        self.problems(&news.status, width, height.saturating_sub(above + foot), &mut out);
        self.way(&news.status, width, &mut out);
        self.reads(news, height.saturating_sub(foot), &mut out);
        out.truncate(height.saturating_sub(foot).max(1));
        for line in out.iter_mut().skip(above) {
            line.style = line.style.add_modifier(below);
        }
        if foot > 0 {
            while out.len() + 1 < height {
                out.push(Line::default());
            }
            let status = &news.status;
            let runs =
                format!("q ends · passbridge {} · running for {}", printable(&status.version), age(status.uptime_s));
            out.push(Line::styled(cut(&runs, width), Modifier::DIM));
        }
        out
    }

    /// The name of the box, and the time of the news.
    fn head(&self, width: usize) -> Line<'static> {
        let name = self.news.as_ref().map_or("passbridge".to_owned(), |news| printable(&news.status.name));
        let Some(news) = &self.news else { return Line::styled(cut(&name, width), Modifier::BOLD) };
        let as_of = if self.silent.is_some() { "as of " } else { "" };
        let time = format!("{as_of}{}", self.times.time_of_day(news.at));
        let name = cut(&name, width.saturating_sub(time.len() + 1));
        let gap = width.saturating_sub(wide(&name) + wide(&time));
        Line::from(vec![Span::styled(name, Modifier::BOLD), Span::raw(" ".repeat(gap)), Span::raw(time)])
    }

    /// The state, its sentence and what to do.
    fn state(&self, width: usize, small: bool, out: &mut Vec<Line<'static>>) {
        if let Some(why) = &self.silent {
            let since = self.news.as_ref().map(|news| self.times.time_of_day(news.at));
            let (word, sentence) = match &since {
                Some(since) => (format!("NO NEWS since {since}"), format!("The box has not answered since {since}.")),
                None => ("NO NEWS".to_owned(), "The box has not answered yet.".to_owned()),
            };
            out.push(bar(&format!(" ? {word}"), width, self.style(Color::Gray, true)));
            say(&sentence, width, 3, Modifier::BOLD, out);
            say(&format!("{why}. It is asked again every second."), width, 3, Modifier::empty(), out);
            return;
        }
        let Some(LiveNews { status, .. }) = &self.news else {
            return say("The box is being asked …", width, 1, Modifier::empty(), out);
        };
        let state = format!(" {} {}  for {}", sign(status.state), status.state.shown(), age(status.state_s));
        out.push(bar(&state, width, self.state_style(status.state)));
        let (most, todo) = if small { (3, 1) } else { (4, 3) };
        say(&printable(&status.sentence), width, most, Modifier::BOLD, out);
        for (at, todo) in status.todo.iter().enumerate().take(todo) {
            say(&format!("{}. {}", at + 1, printable(todo)), width, 2, Modifier::empty(), out);
        }
        if let Some(by_itself) = status.by_itself.as_ref().filter(|_| !small) {
            say(&printable(by_itself), width, 2, Modifier::empty(), out);
        }
    }

    /// The four lamps: in one line, or two and two with their reasons.
    fn lamps(&self, status: &Snapshot, width: usize, small: bool, out: &mut Vec<Line<'static>>) {
        let unknown = |name| Lamp { name, mark: Mark::Wait, says: String::new() };
        let all = [LampName::Mats, LampName::Time, LampName::Kept, LampName::Cloud];
        // Without news, or from an older version, nothing is known of them.
        let known = |name| status.lamps.iter().find(|lamp| lamp.name == name).filter(|_| self.silent.is_none());
        let lamps = all.map(|name| known(name).cloned().unwrap_or_else(|| unknown(name)));
        let mark = |lamp: &Lamp| {
            let text = format!("{} {}", lamp.mark.sign(), lamp.name.shown());
            Span::styled(text, self.mark_style(lamp.mark).add_modifier(Modifier::BOLD))
        };
        if small {
            let each = lamps.iter().flat_map(|lamp| [mark(lamp), Span::raw("  ")]);
            out.push(Line::from(each.collect::<Vec<_>>()));
            return;
        }
        let half = width / 2;
        out.push(Line::default());
        for pair in lamps.chunks(2) {
            let mut spans = Vec::new();
            for lamp in pair {
                let says = if lamp.says.is_empty() { lamp.mark.in_words().to_owned() } else { printable(&lamp.says) };
                let says = cut(&says, half.saturating_sub(wide("✓ Cloud  ") + 1));
                let gap = " ".repeat(half.saturating_sub(wide("✓ Cloud  ") + wide(&says)));
                let pad = " ".repeat(wide("Cloud") + 2 - wide(lamp.name.shown()));
                spans.extend([mark(lamp), Span::raw(pad + &says + &gap)]);
            }
            out.push(Line::from(spans));
        }
    }

    /// The problems, the worst first. With `room` lines at most half of them are used.
    fn problems(&self, status: &Snapshot, width: usize, room: usize, out: &mut Vec<Line<'static>>) {
        let severity =
            |problem: &Problem| ProblemCode::of_word(&problem.code).map_or(Severity::Warning, ProblemCode::severity);
        let mut problems: Vec<&Problem> = status.problems.iter().collect();
        problems.sort_by_key(|problem| std::cmp::Reverse(severity(problem)));
        let most = (room / 2).max(1);
        let shown = if problems.len() > most { most.saturating_sub(1) } else { problems.len() };
        for problem in problems.iter().take(shown) {
            let mark = match severity(problem) {
                Severity::Critical => Mark::No,
                Severity::Warning => Mark::Warn,
                Severity::Info => Mark::Wait,
            };
            let about =
                if problem.about.is_empty() { String::new() } else { format!("{}: ", printable(&problem.about)) };
            let text =
                format!("{about}{} (since {})", printable(&problem.message), self.times.time_of_day(problem.since));
            let sign = Span::styled(format!("{} ", mark.sign()), self.mark_style(mark));
            out.push(Line::from(vec![sign, Span::raw(cut(&text, width.saturating_sub(2)))]));
        }
        if shown < problems.len() {
            let more = problems.len() - shown;
            let all = if shown == 0 { String::new() } else { " more".to_owned() };
            let s = if more == 1 { "" } else { "s" };
            out.push(Line::raw(cut(&format!("△ {more}{all} problem{s}: see `passbridge status`"), width)));
        }
    }

    /// The way of the reads: each decoder, this box, the session and the cloud. A line is solid where
    /// reads flow and dotted where they do not.
    fn way(&self, status: &Snapshot, width: usize, out: &mut Vec<Line<'static>>) {
        let mut row = |mark: Mark, flows: bool, text: String| {
            let line = if flows { "━━" } else { "··" };
            let sign = Span::styled(mark.sign().to_string(), self.mark_style(mark));
            out.push(Line::from(vec![
                Span::raw(line),
                sign,
                Span::raw(" "),
                Span::raw(cut(&text, width.saturating_sub(4))),
            ]));
        };
        for decoder in &status.decoders {
            let (mark, flows) = match decoder.state {
                LinkState::Connected if decoder.last_read.is_some() => (Mark::Yes, true),
                LinkState::Connected => (Mark::Wait, true),
                LinkState::Connecting => (Mark::Wait, false),
                LinkState::Failed | LinkState::Idle => (Mark::No, false),
            };
            let link = glance::link_in_words(status, decoder, &self.times);
            let last =
                decoder.last_read.as_ref().map(|read| format!(", last {}", self.times.time_of_day(read.received)));
            let (name, reads) = (printable(&decoder.name), count(decoder.reads));
            row(mark, flows, format!("{name}: {link}, {reads} reads{}", last.unwrap_or_default()));
        }
        let kept = if status.ready { Mark::Yes } else { Mark::No };
        row(kept, status.ready, glance::counts(status));
        for upload in &status.uploads {
            let flows = matches!(upload.state, UploadState::Idle | UploadState::Sending);
            let session = match &upload.session {
                Some(session) => {
                    let alias = session.alias.as_deref().unwrap_or("without a name");
                    format!("session {} (…{})", printable(alias), printable(&session.token_tail))
                }
                None => "no session is known".to_owned(),
            };
            let mark = if upload.session.is_none() {
                Mark::Wait
            } else if flows {
                Mark::Yes
            } else {
                Mark::No
            };
            let last = upload.last_ok.map(|at| format!(", last {}", self.times.time_of_day(at))).unwrap_or_default();
            row(mark, flows, format!("{session}: {}{last}", glance::upload_in_words(status, upload)));
        }
        if status.uploads.is_empty() {
            row(Mark::Wait, false, "cloud: the reads stay on this box".to_owned());
        }
    }

    /// The newest reads, as far as there is room up to this line.
    fn reads(&self, news: &LiveNews, end: usize, out: &mut Vec<Line<'static>>) {
        if end <= out.len() + 1 || news.reads.is_empty() {
            return;
        }
        out.push(Line::styled("Last reads (the time of the decoder's own clock)", Modifier::DIM));
        for read in news.reads.iter().take(end.saturating_sub(out.len())) {
            let hits = read.hits.map(|hits| format!("  {hits} hits")).unwrap_or_default();
            let rssi = read.rssi.map(|rssi| format!("  {rssi} dBm")).unwrap_or_default();
            let (time, chip, decoder) =
                (printable(&read.decoder_time), printable(&read.chip), printable(&read.decoder));
            out.push(Line::raw(format!("{time}  {chip}  {decoder}{hits}{rssi}")));
        }
    }

    fn style(&self, colour: Color, block: bool) -> Style {
        match (self.colour, block) {
            (true, true) => Style::default().fg(colour).add_modifier(Modifier::REVERSED),
            (true, false) => Style::default().fg(colour),
            (false, true) => Modifier::REVERSED.into(),
            (false, false) => Style::default(),
        }
    }

    /// What needs a person is a full block; good news is quiet.
    fn state_style(&self, state: BoxState) -> Style {
        match state {
            BoxState::CannotKeep | BoxState::NotReading | BoxState::TimeWrong => self.style(Color::Red, true),
            BoxState::Hold => self.style(Color::Magenta, true),
            BoxState::NotUploading => self.style(Color::Yellow, true),
            BoxState::Ready | BoxState::Reading => self.style(Color::Green, false),
        }
    }

    fn mark_style(&self, mark: Mark) -> Style {
        match mark {
            Mark::Yes => self.style(Color::Green, false),
            Mark::Wait => Style::default(),
            Mark::No => self.style(Color::Red, false),
            Mark::Warn => self.style(Color::Yellow, false),
            Mark::Held => self.style(Color::Magenta, false),
        }
    }
}

/// The shape of a state.
fn sign(state: BoxState) -> char {
    match state {
        BoxState::CannotKeep => '!',
        BoxState::NotReading | BoxState::TimeWrong => Mark::No.sign(),
        BoxState::Hold => Mark::Held.sign(),
        BoxState::NotUploading => Mark::Warn.sign(),
        BoxState::Ready => Mark::Wait.sign(),
        BoxState::Reading => Mark::Yes.sign(),
    }
}

/// The columns that a text needs.
fn wide(text: &str) -> usize {
    Span::raw(text).width()
}

/// The text in at most `width` columns. A text that is cut ends with `…`.
fn cut(text: &str, width: usize) -> String {
    if wide(text) <= width {
        return text.to_owned();
    }
    let mut out = String::new();
    for char in text.chars() {
        if wide(&out) + wide(char.encode_utf8(&mut [0; 4])) + 1 > width {
            break;
        }
        out.push(char);
    }
    if width > 0 { out + "…" } else { out }
}

/// A line of the whole width.
fn bar(text: &str, width: usize, style: Style) -> Line<'static> {
    let text = cut(text, width);
    let rest = " ".repeat(width.saturating_sub(wide(&text)));
    Line::styled(text + &rest, style.add_modifier(Modifier::BOLD))
}

/// Writes the text into at most `most` lines.
fn say(text: &str, width: usize, most: usize, modifier: Modifier, out: &mut Vec<Line<'static>>) {
    out.extend(wrapped(text, width, most).into_iter().map(|line| Line::styled(line, modifier)));
}

/// The text in at most `most` lines, broken between words.
fn wrapped(text: &str, width: usize, most: usize) -> Vec<String> {
    let (mut lines, mut line) = (Vec::new(), String::new());
    for word in text.split(' ') {
        let fits = line.is_empty() || wide(&line) + 1 + wide(word) <= width;
        // The last line has the rest, and is cut.
        if !fits && lines.len() + 1 < most {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines.iter().map(|line| cut(line, width)).collect()
}

#[cfg(test)]
mod tests;
