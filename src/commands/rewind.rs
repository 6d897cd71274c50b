//! `rewind`: asks a decoder to send stored reads again, through the daemon that has the link to it.

use std::io;

use clap::Args;
use jiff::Timestamp;
use serde_json::Value;

use crate::commands::args::{Paths, TimesIn, load_right, print, running_box};
use crate::commands::progress::Progress;
use crate::config::failure::Failure;
use crate::decoders::Range;
use crate::export;
use crate::model::chip::Label;
use crate::model::typed;
use crate::serve::control::{self, ControlError, ControlRequest};

#[derive(Debug, Args)]
pub(crate) struct RewindArgs {
    #[command(flatten)]
    place: Paths,
    /// The decoder, by its configured name.
    #[arg(long, value_name = "NAME")]
    decoder: String,
    /// Only this location or decoder id, if one connection carries several.
    #[arg(long, value_name = "UNIT")]
    unit: Option<String>,
    /// Another file or session than the current one, as the decoder names it; without --from and
    /// --to all of it.
    #[arg(long, value_name = "FILE")]
    file: Option<String>,
    /// First number of the decoder's own count, or a time such as 10:00 or 2026-03-06T10:00.
    #[arg(long, value_name = "N|TIME", required_unless_present = "file")]
    from: Option<String>,
    /// Last number, at most a million further; or a time, without one: now.
    #[arg(long, value_name = "N|TIME", requires = "from")]
    to: Option<String>,
    #[command(flatten)]
    times: TimesIn,
    /// The answer as JSON.
    #[arg(long)]
    json: bool,
}

impl RewindArgs {
    fn range(&self, numbers: Option<(u64, u64)>) -> Result<Range, Failure> {
        // If the decoder names its files by number, the journal has the number too.
        let file = self.file.as_deref().map(|file| match file.parse() {
            Ok(number) => Label::Number(number),
            Err(_) => Label::Text(file.into()),
        });
        let (from, to) = numbers.unwrap_or(Range::WHOLE);
        let range = Range { unit: self.unit.as_deref().map(Into::into), file, from, to };
        range.check().map_err(Failure::usage)?;
        Ok(range)
    }

    /// The first and the last number to ask for. `None` means all of a file.
    async fn numbers(&self) -> Result<Option<(u64, u64)>, Failure> {
        let Some(from) = &self.from else { return Ok(None) };
        let to = self.to.as_deref();
        if let Ok(from) = from.parse() {
            let to = to.ok_or_else(|| Failure::usage("--to is missing: the last number that is asked for"))?;
            let must = |_| Failure::usage(format!("--to {to}: must be a number, as --from is one"));
            return Ok(Some((from, to.parse().map_err(must)?)));
        }
        let zone = self.times.zone();
        let now = Timestamp::now();
        let moment = |what: &str, text: &str| {
            let must = |must: String| {
                Failure::usage(format!("{what} {text}: must be a number of the decoder's count, or {must}"))
            };
            typed::moment(text, &zone, now).map_err(must)
        };
        let from = moment("--from", from)?;
        let end = |to| {
            let must = |must| Failure::usage(format!("--to {to}: must be {must}"));
            typed::end_moment(to, Some(from), &zone, now).map_err(must)
        };
        let window = (from, to.map_or(Ok(now), end)?);
        self.numbers_between(window).await.map(Some)
    }

    /// A decoder is asked by its own numbers. So the reads that this box has from that time show
    /// which numbers the decoder gave then. The link asks for those between them that are missing.
    async fn numbers_between(&self, (from, to): (Timestamp, Timestamp)) -> Result<(u64, u64), Failure> {
        let config = load_right(&self.place, true)?;
        let durable = control::durable(&config.data_dir).await?;
        let decoder = Some(self.decoder.clone());
        let query = export::Query { from: Some(from), to: Some(to), decoder, durable, told: None };
        let mut positions = Positions::default();
        let reading = export::Reading::new(&config);
        let looking = Progress::new("looking for the numbers of that time");
        looking
            .during(|| export::export(&config.data_dir, &reading, export::Format::Jsonl, &query, &mut positions))
            .map_err(|error| Failure::io(error.to_string()))?;
        let shown = self.times.shown();
        positions.range.ok_or_else(|| {
            Failure::usage(format!(
                "this box has no read of {} with a number from {} to {}, so it does not know which numbers the decoder gave \
                 then: ask by number (--from N --to N)",
                self.decoder,
                shown.second(from),
                shown.second(to)
            ))
        })
    }
}

/// The lowest and the highest position among exported reads. Only one line is in memory at a time.
#[derive(Default)]
struct Positions {
    line: Vec<u8>,
    range: Option<(u64, u64)>,
}

impl Positions {
    fn take(&mut self) {
        #[derive(serde::Deserialize)]
        struct Exported {
            kind: String,
            position: Option<u64>,
        }
        if let Ok(Exported { kind, position: Some(at) }) = serde_json::from_slice(&self.line)
            && kind == "read"
        {
            let (low, high) = self.range.unwrap_or((at, at));
            self.range = Some((low.min(at), high.max(at)));
        }
        self.line.clear();
    }
}

impl io::Write for Positions {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                self.take();
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(crate) async fn run(args: RewindArgs) -> Result<(), Failure> {
    let numbers = args.numbers().await?;
    let range = args.range(numbers)?;
    let data_dir = running_box(&args.place);
    let decoder = args.decoder;
    let answer = match control::ask(&data_dir, ControlRequest::Rewind { decoder: decoder.clone(), range }).await {
        Err(error @ ControlError::NotRunning(_)) => {
            return Err(Failure::unavailable(format!(
                "{error}. Then ask again: only the daemon speaks to the decoders"
            )));
        }
        answer => answer?,
    };
    if args.json {
        print(&format!("{answer}\n"))?;
    }
    let text = |field: &str| answer.get(field).and_then(Value::as_str).unwrap_or_default();
    let failure = match text("answer") {
        "asked" if args.json => return Ok(()),
        "asked" => {
            let what = match numbers {
                Some((from, to)) => format!("reads {from} to {to}"),
                None => "all reads of the file".to_owned(),
            };
            return print(&format!(
                "asked {decoder} for {what}. New ones are uploaded, known ones are not sent twice. Watch: passbridge status\n"
            ));
        }
        "unknown" => Failure::usage(format!("{decoder}: {}", text("why"))),
        _ => Failure::unavailable(format!("{decoder}: {}", text("why"))),
    };
    Err(if args.json { failure.already_told() } else { failure })
}
