//! `marker`: puts a marker with the time of the box, such as the gun.

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::commands::args::{Paths, TimesIn, print, running_box, who};
use crate::commands::here::on_the_journal;
use crate::config::failure::Failure;
use crate::model::source;
use crate::serve::control::{self, ControlError, ControlRequest};
use crate::serve::ops::{BOX, MARKER_MAX, marker_text};

/// `marker`
#[derive(Debug, Args)]
pub(crate) struct MarkerArgs {
    #[command(flatten)]
    place: Paths,
    /// What it marks, at most 64 characters.
    #[arg(value_name = "TEXT", default_value = "gun")]
    text: String,
    /// The decoder that it belongs to, by its configured name, or NAME/LOCATION; without it the box.
    #[arg(long, value_name = "NAME")]
    decoder: Option<String>,
    #[command(flatten)]
    times: TimesIn,
    /// The answer as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: MarkerArgs) -> Result<(), Failure> {
    let text = marker_text(&args.text)
        .ok_or_else(|| Failure::usage(format!("TEXT must have 1 to {MARKER_MAX} characters")))?;
    let request = ControlRequest::Marker { text: text.clone(), decoder: args.decoder.clone(), by: who() };
    let answer = match control::ask(&running_box(&args.place), request).await {
        Err(ControlError::NotRunning(_)) => here(&args, &text).await?,
        answer => answer?,
    };
    if args.json {
        return print(&format!("{answer}\n"));
    }
    let at: Option<Timestamp> = answer.get("at").and_then(|at| at.as_str()?.parse().ok());
    let at = at.map_or(String::new(), |at| format!(" at {}", args.times.shown().milli(at)));
    let entry = answer.get("seq").and_then(Value::as_u64).unwrap_or(0);
    print(&format!(
        "marker \"{text}\"{at}, by the clock of this box (entry {entry}). It is no passing and is not sent\n"
    ))
}

/// Without a daemon, in the journal itself.
async fn here(args: &MarkerArgs, text: &str) -> Result<Value, Failure> {
    on_the_journal(&args.place, async |config, journal| {
        if let Some(name) = &args.decoder
            && !config.decoders.iter().any(|decoder| decoder.name == source::decoder(name))
        {
            return Err(Failure::usage(format!("the configuration has no decoder {name}")));
        }
        let subject = args.decoder.as_deref().unwrap_or(BOX);
        let closed = |error: crate::journal::JournalError| Failure::io(error.to_string());
        let marked = journal.mark_by_hand(subject, text).await.map_err(closed)?.get();
        let outcome = format!("entry {}", marked.seq.0);
        let what = format!("put a marker \"{text}\"");
        journal.note_action(&what, &who(), &outcome).await.map_err(closed)?;
        Ok(json!({ "seq": marked.seq.0, "at": marked.at }))
    })
    .await
}
