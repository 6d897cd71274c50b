//! `rewind`: have a decoder give stored reads again, through the daemon that holds the link to it.

use clap::Args;
use serde_json::Value;

use crate::commands::args::{Paths, load_keyless, print};
use crate::config::failure::Failure;
use crate::decoders::Range;
use crate::model::chip::Label;
use crate::serve::control::{self, ControlError, ControlRequest};

#[derive(Debug, Args)]
pub(crate) struct RewindArgs {
    #[command(flatten)]
    place: Paths,
    /// The decoder, by its configured name.
    #[arg(long, value_name = "NAME")]
    decoder: String,
    /// Where several are behind one link: the location (ChronoTrack) or the decoder's id, as the reads have it.
    #[arg(long, value_name = "UNIT")]
    unit: Option<String>,
    /// Another file or session than the current one, as the decoder names it; without --from and --to all of it.
    #[arg(long, value_name = "FILE")]
    file: Option<String>,
    /// First number of the decoder's own count.
    #[arg(long, value_name = "N", requires = "to", required_unless_present = "file")]
    from: Option<u64>,
    /// Last number, at most a million further.
    #[arg(long, value_name = "N", requires = "from")]
    to: Option<u64>,
    /// The answer as JSON.
    #[arg(long)]
    json: bool,
}

impl RewindArgs {
    fn range(&self) -> Result<Range, Failure> {
        // A file that is a number to the decoder is one to the journal.
        let file = self.file.as_deref().map(|file| match file.parse() {
            Ok(number) => Label::Number(number),
            Err(_) => Label::Text(file.into()),
        });
        let (from, to) = self.from.zip(self.to).unwrap_or(Range::WHOLE);
        let range = Range { unit: self.unit.as_deref().map(Into::into), file, from, to };
        range.check().map_err(Failure::usage)?;
        Ok(range)
    }
}

pub(crate) async fn run(args: RewindArgs) -> Result<(), Failure> {
    let range = args.range()?;
    let data_dir = match &args.place.data_dir {
        Some(dir) => dir.clone(),
        None => load_keyless(&args.place)?.data_dir,
    };
    let decoder = args.decoder;
    let answer = match control::ask(&data_dir, ControlRequest::Rewind { decoder: decoder.clone(), range }).await {
        Err(error @ ControlError::NotRunning(_)) => {
            return Err(Failure::unavailable(format!(
                "{error}: only the daemon speaks to the decoders; start it (systemctl start passbridge) and ask again"
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
            return print(&format!(
                "{decoder} is being asked; what comes is kept, and what is not here yet is sent. `passbridge status` shows it\n"
            ));
        }
        "unknown" => Failure::usage(format!("{decoder}: {}", text("why"))),
        _ => Failure::unavailable(format!("{decoder}: {}", text("why"))),
    };
    Err(if args.json { failure.already_told() } else { failure })
}
