//! `correct`: moves the times of reads whose decoder had a wrong clock or zone, and sends passings
//! again that went up with a wrong time, if somebody asks for it. It works through the daemon, or on
//! the journal if no daemon runs.

mod list;
mod survey;

use std::collections::BTreeSet;
use std::io::{BufRead, IsTerminal};

use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use crate::commands::args::{self, Paths, TimesIn, load_right, print};
use crate::commands::export::is_known;
use crate::commands::progress::Progress;
use crate::config::Config;
use crate::config::failure::Failure;
use crate::daemon::{self, logging};
use crate::export::{ExportError, Query, Reading};
use crate::journal::SendAgainOrder;
use crate::model::chip::Seq;
use crate::model::correction::Correction;
use crate::model::typed;
use crate::serve::control::{self, ControlError, ControlRequest};
use crate::status::Board;
use list::{Form, List};
use survey::{Scope, Survey};

#[derive(Debug, Args)]
pub(crate) struct CorrectArgs {
    #[command(flatten)]
    place: Paths,
    /// The decoder, by its configured name, with all its locations; or only NAME/LOCATION.
    #[arg(long, value_name = "NAME", required_unless_present_any = ["list", "send_again"])]
    decoder: Option<String>,
    /// From this time on, by the times as they are now (those of `export`): 10:00, 2026-03-06,
    /// 2026-03-06T10:00 or 2026-03-06T10:00:00Z.
    #[arg(long, value_name = "TIME", requires = "shift")]
    from: Option<String>,
    /// Before this time; without it up to the last read that is kept.
    #[arg(long, value_name = "TIME", requires = "from")]
    to: Option<String>,
    /// By how much the times are moved: +1h, -1h, 1h30m, -2.5s. The right time is the time now plus
    /// this. Corrections of one read add up.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, requires = "from", requires = "decoder", value_parser = shift)]
    shift: Option<i64>,
    #[command(flatten)]
    times: TimesIn,
    /// Only passings that have a number already. For the case that `timezone` was corrected and the
    /// box restarted before: then what waits is right.
    #[arg(long, requires = "shift")]
    sent: bool,
    /// Send the passings again that are in the cloud with a time that is not right: under new
    /// numbers, with the right time. The old ones stay there until somebody removes them. Without
    /// --shift: those of all corrections so far.
    #[arg(long)]
    send_again: bool,
    /// List what is in the cloud with a time that is not right, and what was sent again, and change
    /// nothing.
    #[arg(long, conflicts_with_all = ["shift", "send_again", "dry_run"])]
    list: bool,
    /// Only show what would be done.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// A JSON object for each passing that is in the cloud, and the summary as the last line.
    #[arg(long)]
    json: bool,
    /// A table of the passings that are in the cloud.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

/// A shift in milliseconds: a sign, and times with their units.
fn shift(text: &str) -> Result<i64, String> {
    let must = || {
        "must be a time with its unit, and a minus if the right time is earlier, such as +1h, -1h, 1h30m or -2.5s"
            .to_owned()
    };
    let (sign, rest) = match text.strip_prefix(['-', '−']) {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let longest = std::time::Duration::from_secs(10 * 366 * 86_400);
    let mut sum = 0i64;
    let mut rest = rest.trim();
    if rest.is_empty() {
        return Err(must());
    }
    while !rest.is_empty() {
        let unit = rest.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(must)?;
        let end = rest[unit..].find(|c: char| !c.is_ascii_alphabetic()).map_or(rest.len(), |length| unit + length);
        let part = crate::config::duration(&rest[..end], &(std::time::Duration::ZERO..=longest)).map_err(|_| must())?;
        sum = sum.saturating_add(i64::try_from(part.as_millis()).map_err(|_| must())?);
        rest = rest[end..].trim_start();
    }
    match sum {
        0 => Err("a shift of nothing corrects nothing".to_owned()),
        ms if u128::from(ms.unsigned_abs()) > longest.as_millis() => Err(must()),
        ms => Ok(sign * ms),
    }
}

/// What the command works with.
struct Work {
    args: CorrectArgs,
    config: Config,
    reading: Reading,
    durable: u64,
}

pub(crate) async fn run(args: CorrectArgs) -> Result<(), Failure> {
    let config = load_right(&args.place, true)?;
    // Beside a running daemon the last lines of the log may not be on the disk yet.
    let durable = control::durable(&config.data_dir).await?;
    // People read the times in the zone in which they type them.
    let here = (!args.json && !args.csv).then(TimeZone::system);
    let reading = Reading::new(&config).showing(args.times.timezone.clone().or(here), false);
    if let Some(name) = &args.decoder {
        is_known(name, &config, &reading, &Query { decoder: Some(name.clone()), durable, ..Query::default() })?;
    }
    let work = Work { args, config, reading, durable };
    match work.args.shift {
        Some(shift_ms) => work.correct(shift_ms).await,
        None if work.args.list => work.list(&Scope::Listed, None),
        None if work.args.send_again => work.send_again(&Scope::Wrong, None).await,
        None => Err(Failure::usage("--shift is missing: by how much the times are moved, such as --shift +1h")),
    }
}

impl Work {
    /// Corrects, after somebody has agreed.
    async fn correct(mut self, shift_ms: i64) -> Result<(), Failure> {
        let name = self.args.decoder.clone().unwrap_or_default();
        let window = self.window()?;
        // What a program reads is listed once: at the end, or now if nothing follows.
        let form = if self.args.dry_run || self.form() == Form::Text { self.form() } else { Form::Counted };
        let survey = self.survey(&Scope::Window { window, shift_ms, sent: self.args.sent }, form)?;
        if survey.ranges.is_empty() {
            let text =
                format!("this box has no read of {name} from that time: `export` with the same times shows none");
            return Err(Failure::usage(text));
        }
        self.tell(&survey.in_words(&name, shift_ms))?;
        if self.args.dry_run {
            self.end(&survey, None, false)?;
            return self.tell("nothing was changed (--dry-run)\n");
        }
        let also = match self.args.send_again {
            true => format!(", and send {} passings again under new numbers", survey.wrong()),
            false => String::new(),
        };
        if !self.agreed(&format!("Move the times of {} reads of {name}{also}?", survey.reads()))? {
            return self.tell("nothing was changed\n");
        }
        let zone = self.reading.zones.of(&name).iana_name().map(Into::into);
        let correction =
            Correction { ranges: survey.ranges.clone(), shift_ms, zone, by: args::who().into(), oldest: 0 };
        let ranges = survey.ranges.clone();
        let request = ControlRequest::Correct { decoder: name.clone(), correction: correction.clone() };
        let entry = match control::ask(&self.config.data_dir, request).await {
            Err(ControlError::NotRunning(_)) => self.correct_here(&name, correction).await?,
            answer => answer?.get("entry").and_then(Value::as_u64).unwrap_or(0),
        };
        self.tell(&format!(
            "corrected (entry {entry} of the log). Reads that arrive from now on are not moved: set the clock of {name}, or its \
             `timezone`\n"
        ))?;
        self.durable = self.durable.max(entry);
        match self.args.send_again {
            true => self.send_again(&Scope::Of(ranges), Some(entry)).await,
            false => self.list(&Scope::Of(ranges), Some(entry)),
        }
    }

    /// The times between which reads are corrected. Without an end it is open.
    fn window(&self) -> Result<(Timestamp, Option<Timestamp>), Failure> {
        let zone = self.args.times.zone();
        let now = Timestamp::now();
        let moment = |flag: &str, text: &str| {
            let must = |must: String| Failure::usage(format!("{flag} {text}: must be {must}"));
            typed::moment(text, &zone, now).map_err(must)
        };
        let from = moment("--from", self.args.from.as_deref().unwrap_or_default())?;
        let end = |to: &str| {
            let must = |must: String| Failure::usage(format!("--to {to}: must be {must}"));
            typed::end_moment(to, Some(from), &zone, now).map_err(must)
        };
        let to = self.args.to.as_deref().map(end).transpose()?;
        if to.is_some_and(|to| to <= from) {
            return Err(Failure::usage("--to must be later than --from"));
        }
        Ok((from, to))
    }

    /// Lists the passings in the cloud whose time is not right.
    fn list(&self, scope: &Scope, entry: Option<u64>) -> Result<(), Failure> {
        let form = if entry.is_some() && self.form() == Form::Text { Form::Counted } else { self.form() };
        let survey = self.survey(scope, form)?;
        self.tell(&survey.of_the_cloud(self.args.list))?;
        self.end(&survey, entry, false)?;
        if survey.wrong() == 0 {
            return Ok(());
        }
        let whose = self.args.decoder.as_ref().map_or(String::new(), |name| format!(" --decoder {name}"));
        self.tell(&format!(
            "what is in the cloud stays as it is. Correct it there by hand, or send it again under new numbers: passbridge \
             correct{whose} --send-again\n"
        ))
    }

    /// Orders that the passings are sent again whose time is not right.
    async fn send_again(&self, scope: &Scope, entry: Option<u64>) -> Result<(), Failure> {
        let survey = self.survey(scope, self.form())?;
        self.tell(&survey.of_the_cloud(false))?;
        if survey.wrong() == 0 || self.args.dry_run {
            self.end(&survey, entry, false)?;
            let none = survey.wrong() == 0;
            return self.tell(if none {
                "there is nothing to send again\n"
            } else {
                "nothing was changed (--dry-run)\n"
            });
        }
        // With --shift somebody agreed already, to both.
        let question = format!("Send {} passings again under new numbers?", survey.wrong());
        if self.args.shift.is_none() && !self.agreed(&question)? {
            return self.tell("nothing was changed\n");
        }
        let (from, through) = (Seq(survey.first_wrong), Seq(survey.last_wrong));
        let order = SendAgainOrder { decoder: self.args.decoder.as_deref().map(Into::into), from, through };
        let devices: BTreeSet<&str> = survey.devices().collect();
        self.order(devices.into_iter().collect(), &order).await?;
        self.end(&survey, entry, true)?;
        self.tell(
            "they go up under new numbers, with the right time. Their old passings stay in the cloud, because no call deletes \
             a passing: remove them there by hand. Which new number replaces which old one: passbridge correct --list, and \
             `replaces` in the export\n",
        )
    }

    /// Gives the order for each device, to the daemon or to the journal. A device that nothing is
    /// uploaded to any more is told.
    async fn order(&self, devices: Vec<&str>, order: &SendAgainOrder) -> Result<(), Failure> {
        let mut last = Ok(());
        let mut ordered = 0;
        for (at, device) in devices.iter().enumerate() {
            let request = ControlRequest::SendAgain { device: (*device).to_owned(), order: order.clone() };
            match control::ask(&self.config.data_dir, request).await {
                Err(ControlError::NotRunning(_)) => return self.order_here(&devices[at..], order).await,
                Err(error @ (ControlError::NoAnswer { .. } | ControlError::NotDone(_))) => {
                    self.tell(&format!("not sent again, of device {device}: {error}\n"))?;
                    last = Err(error.into());
                }
                answer => {
                    answer?;
                    ordered += 1;
                }
            }
        }
        if ordered > 0 { Ok(()) } else { last }
    }

    async fn correct_here(&self, name: &str, correction: Correction) -> Result<u64, Failure> {
        let journal = daemon::open_journal(&self.config, &Board::new(&self.config.name))?;
        // The queue may have to be rebuilt first.
        let done = Progress::new("correcting").over(journal.correct(name, correction)).await;
        journal.close().await;
        Ok(done.map_err(|error| Failure::unavailable(error.to_string()))?.get().0)
    }

    async fn order_here(&self, devices: &[&str], order: &SendAgainOrder) -> Result<(), Failure> {
        // Without the key the configuration would name no device. Whether the key is right does not
        // matter here.
        let config = Config::load_what_is_right(&self.args.place.options())?.config;
        let ours = config.devices();
        let (here, elsewhere): (Vec<&str>, Vec<&str>) = devices.iter().partition(|device| ours.contains_key(**device));
        for device in &elsewhere {
            self.tell(&format!("device {device} is not in the configuration: nothing of it is sent again\n"))?;
        }
        if here.is_empty() {
            return Err(Failure::usage("no device of these passings is in the configuration"));
        }
        let journal = daemon::open_journal(&self.config, &Board::new(&self.config.name))?;
        let mut done = Ok(());
        for device in here {
            done = done.and(journal.order_again(device, order.clone()).await.map(|_| ()));
        }
        journal.close().await;
        done.map_err(|error| Failure::unavailable(error.to_string()))?;
        self.tell("passbridge does not run: they go up when it runs again\n")
    }

    fn survey(&self, scope: &Scope, form: Form) -> Result<Survey, Failure> {
        let mut list = List::new(form, &self.reading).map_err(|error| Failure::output(&error))?;
        let source = survey::Source {
            data_dir: &self.config.data_dir,
            reading: &self.reading,
            durable: self.durable,
            decoder: self.args.decoder.as_deref(),
        };
        let reading = Progress::new("reading the log");
        let surveyed = reading.during_rows(|| survey::survey(&source, scope, &mut list));
        let mut survey = surveyed.map_err(|error| match error {
            ExportError::NoJournal(_) => Failure::unavailable(error.to_string()),
            ExportError::Read(_) | ExportError::Write(_) => Failure::io(error.to_string()),
        })?;
        survey.rows = list.finish().map_err(|error| Failure::output(&error))?;
        if survey.ranges.len() > survey::RANGES_MAX {
            return Err(Failure::usage(format!(
                "the reads of that time lie in more than {} pieces of the log, among reads of other times: correct a longer time \
                 at once, or a shorter one",
                survey::RANGES_MAX
            )));
        }
        Ok(survey)
    }

    fn form(&self) -> Form {
        match (self.args.json, self.args.csv) {
            (true, _) => Form::Json,
            (_, true) => Form::Csv,
            _ => Form::Text,
        }
    }

    /// The summary at the end of the lines of JSON.
    fn end(&self, survey: &Survey, entry: Option<u64>, ordered: bool) -> Result<(), Failure> {
        if !self.args.json {
            return Ok(());
        }
        let mut summary = survey.as_json();
        summary["decoder"] = json!(self.args.decoder);
        summary["shift_ms"] = json!(self.args.shift);
        summary["entry"] = json!(entry);
        summary["sent_again"] = json!(ordered);
        print(&format!("{summary}\n"))
    }

    /// Tells a person what happens. Beside lines of JSON or a table it is written to standard error.
    fn tell(&self, text: &str) -> Result<(), Failure> {
        match self.form() {
            Form::Text | Form::Counted => print(text),
            Form::Json | Form::Csv => {
                text.lines().for_each(logging::say);
                Ok(())
            }
        }
    }

    /// Whether somebody agrees. Without a terminal, `--yes` must say so.
    fn agreed(&self, question: &str) -> Result<bool, Failure> {
        if self.args.yes {
            return Ok(true);
        }
        if !std::io::stdin().is_terminal() {
            return Err(Failure::usage("nobody can be asked here: add --yes, or --dry-run to see what would be done"));
        }
        self.tell(&format!("{question} [y/N] \n"))?;
        let mut answer = String::new();
        let read = std::io::stdin().lock().read_line(&mut answer);
        read.map_err(|error| Failure::io(format!("the answer cannot be read: {error}")))?;
        Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shift_has_a_sign_and_units_and_is_not_nothing() {
        for (text, ms) in [
            ("+1h", 3_600_000),
            ("-1h", -3_600_000),
            ("−1h", -3_600_000),
            ("1h30m", 5_400_000),
            ("1h 0m 2.5s", 3_602_500),
            ("-24h", -86_400_000),
            ("500ms", 500),
        ] {
            assert_eq!(shift(text), Ok(ms), "{text}");
        }
        for wrong in ["", "-", "1", "h", "1 hour", "one", "1h30", "--1h", "1h-30m", "9999999h", "é", "1hé"] {
            assert!(shift(wrong).unwrap_err().contains("such as +1h"), "{wrong}");
        }
        for nothing in ["0s", "-0h", "0.1ms"] {
            assert!(shift(nothing).unwrap_err().contains("corrects nothing"), "{nothing}");
        }
    }
}
