//! `passbridge report`.

use std::io::IsTerminal;

use askama::Template;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::commands::args::{self, Paths, TimesIn, load_right};
use crate::commands::progress::PATIENCE;
use crate::config::failure::Failure;
use crate::history::report::{self, ReportError, ReportPage, ReportQuery, STYLE, span_of_day};
use crate::model::typed;
use crate::serve::control;

/// The form of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ReportForm {
    /// For a terminal.
    Text,
    /// A page that can be printed.
    Html,
    /// For programs, with times in UTC.
    Json,
}

/// `report`
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    #[command(flatten)]
    place: Paths,
    /// The day: today, or a date such as 2026-03-06.
    #[arg(long, value_name = "DAY", conflicts_with_all = ["from", "to"])]
    day: Option<String>,
    /// From this time on: 10:00, 2026-03-06, 2026-03-06T10:00 (in the zone of this box, or of --timezone)
    /// or 2026-03-06T10:00:00Z.
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Before this time. Without it until now.
    #[arg(long, value_name = "TIME", requires = "from")]
    to: Option<String>,
    #[command(flatten)]
    times: TimesIn,
    /// The form of the report.
    #[arg(long, value_enum, default_value_t = ReportForm::Text)]
    format: ReportForm,
    /// The same as --format json.
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

impl ReportArgs {
    /// The span that is asked for.
    fn span(&self, zone: &TimeZone, now: Timestamp) -> Result<(Timestamp, Timestamp), Failure> {
        let must = |flag: &str, text: &str, must: String| Failure::usage(format!("{flag} {text}: must be {must}"));
        if let Some(from_text) = &self.from {
            let from = typed::moment(from_text, zone, now).map_err(|why| must("--from", from_text, why))?;
            let to = match &self.to {
                Some(text) => typed::end_moment(text, Some(from), zone, now).map_err(|why| must("--to", text, why))?,
                None => now.max(from),
            };
            return match to > from {
                true => Ok((from, to)),
                false => Err(Failure::usage("--to must be later than --from")),
            };
        }
        let today = zone.to_datetime(now).date();
        let text = self.day.as_deref().unwrap_or("today");
        let day = if text == "today" { Some(today) } else { text.parse::<Date>().ok() };
        let span = day.and_then(|day| span_of_day(day, zone));
        span.ok_or_else(|| must("--day", text, format!("today or a date such as {today}")))
    }
}

/// Runs the command.
pub(crate) async fn run(args: ReportArgs) -> Result<(), Failure> {
    let config = load_right(&args.place, true)?;
    let now = Timestamp::now();
    let (from, to) = args.span(&args.times.zone(), now)?;
    // Beside a running daemon the last lines of the log may not be on the disk yet.
    let durable = control::durable(&config.data_dir).await?;
    let query = ReportQuery { name: config.name.clone(), from, to, made: now, durable, zones: config.zones() };
    let began = std::time::Instant::now();
    let target =
        if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(1_000), target);
    if let Ok(style) = ProgressStyle::with_template("reading the log: {percent} %") {
        bar.set_style(style);
    }
    let mut progress = |done: u64| {
        if began.elapsed() >= PATIENCE {
            bar.set_position(done);
        }
        true
    };
    let made = report::make(&config.data_dir, query, &mut progress);
    bar.finish_and_clear();
    let report = made.map_err(|error| match error {
        ReportError::NoJournal(_) => Failure::unavailable(error.to_string()),
        ReportError::Read(_) => Failure::io(error.to_string()),
    })?;
    let format = if args.json { ReportForm::Json } else { args.format };
    args::print(&match format {
        ReportForm::Text => report::text(&report, &args.times.shown()),
        ReportForm::Html => {
            let page = ReportPage::new(&report, &args.times.shown(), Some(STYLE));
            page.render().map_err(|error| Failure::io(error.to_string()))?
        }
        ReportForm::Json => {
            let json = serde_json::to_string(&report).map_err(|error| Failure::io(error.to_string()))?;
            format!("{json}\n")
        }
    })
}
