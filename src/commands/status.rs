//! `passbridge status`: the running box at one glance, as text, as JSON, as one word for scripts, or
//! on the whole screen.

mod live;

use clap::Args;

use self::live::AskedBox;
use crate::commands::args::{Paths, TimesIn, load_keyless, print, running_box};
use crate::commands::invite;
use crate::config::failure::Failure;
use crate::status::{Snapshot, glance};

/// `status`
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    place: Paths,
    #[command(flatten)]
    times: TimesIn,
    /// As JSON, the same as /api/status.
    #[arg(long)]
    json: bool,
    /// Print the state of the box as one word, such as `reading`, for scripts and boxes without a
    /// screen. The exit code is that of the state.
    #[arg(long, conflicts_with = "json")]
    state: bool,
    /// Show the box on the whole screen and renew it once a second. `q` ends it.
    #[arg(long, conflicts_with_all = ["json", "state"])]
    watch: bool,
    /// Show a QR code. The phone that scans it is logged in to the page of this box.
    #[arg(long, conflicts_with_all = ["state", "watch"])]
    qr: bool,
}

/// Runs the command.
///
/// # Errors
/// The exit code is 0 only while the box is `reading` or `ready`. Otherwise it is the code of the
/// state: 10 not-uploading, 11 hold, 12 time-wrong, 13 not-reading, 14 cannot-keep. 69: passbridge
/// does not run, and `--state` prints no word. `--watch` ends with 0, whatever the state is. 64:
/// `--watch` without a terminal.
pub(crate) async fn run(args: StatusArgs) -> Result<(), Failure> {
    if args.qr {
        return invite::show(&args.place, &args.times.shown(), args.json).await;
    }
    let source = match &args.place.data_dir {
        Some(dir) => AskedBox::DataDir(dir.clone()),
        None => match load_keyless(&args.place) {
            Ok(config) => AskedBox::Configured(Box::new(config)),
            Err(_) => AskedBox::DataDir(running_box(&args.place)),
        },
    };
    if args.watch {
        return live::run(source, args.times.shown()).await;
    }
    let status = source.status().await?;
    let text = status.to_string();
    // A status without a sentence is from an older version, so its state is not known.
    let status = serde_json::from_value::<Snapshot>(status).ok().filter(|status| !status.sentence.is_empty());
    if args.json {
        print(&format!("{text}\n"))?;
    } else if let Some(status) = &status {
        match args.state {
            true => print(&format!("{}\n", status.state.word()))?,
            false => print(&glance::text(status, &args.times.shown()))?,
        }
    }
    match status.map(|status| status.state.exit_code()) {
        Some(0) => Ok(()),
        Some(code) => Err(Failure::state(code)),
        None if args.json => Ok(()),
        None => Err(Failure::unavailable("the passbridge that runs is of another version: restart it, or use --json")),
    }
}
