//! `seen`: acknowledges a loss that happened, so that it is not shown any more.

use clap::Args;
use serde_json::Value;

use crate::commands::args::{Paths, print, running_box, who};
use crate::config::failure::Failure;
use crate::model::text::printable;
use crate::serve::control::{self, ControlRequest};
use crate::status::ProblemCode;

/// `seen`
#[derive(Debug, Args)]
pub(crate) struct SeenArgs {
    #[command(flatten)]
    place: Paths,
    /// The problem, by its code, such as log_lost.
    #[arg(value_name = "CODE")]
    code: String,
    /// What it is about, as the status shows it, if several have this code.
    #[arg(value_name = "ABOUT")]
    about: Option<String>,
    /// The answer as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: SeenArgs) -> Result<(), Failure> {
    match ProblemCode::of_word(&args.code) {
        Some(code) if code.is_loss() => {}
        _ => {
            let all: Vec<&str> =
                ProblemCode::ALL.iter().filter(|code| code.is_loss()).map(|code| code.word()).collect();
            let text = format!("{} is no loss that somebody can acknowledge: these are {}", args.code, all.join(", "));
            return Err(Failure::usage(text));
        }
    }
    let data_dir = running_box(&args.place);
    let about = match args.about {
        Some(about) => about,
        None => {
            let status = control::ask(&data_dir, ControlRequest::Status).await?;
            only_one(&args.code, &status)?
        }
    };
    let request = ControlRequest::Seen { code: args.code.clone(), about: about.clone(), by: who() };
    let answer = control::ask(&data_dir, request).await?;
    if args.json {
        return print(&format!("{answer}\n"));
    }
    print(&format!("seen: {} {}\n", args.code, printable(&about)))
}

/// What the only problem of this code is about.
fn only_one(code: &str, status: &Value) -> Result<String, Failure> {
    let problems = status.get("problems").and_then(Value::as_array).into_iter().flatten();
    let text = |problem: &Value, name: &str| problem.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut abouts: Vec<String> = problems.filter(|it| text(it, "code") == code).map(|it| text(it, "about")).collect();
    match abouts.len() {
        0 => Err(Failure::usage(format!("{code} is not shown now"))),
        1 => Ok(abouts.remove(0)),
        _ => Err(Failure::usage(format!("{code} is shown of several: say which of them: {}", abouts.join(", ")))),
    }
}
