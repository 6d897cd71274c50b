//! `simulate cloud`: the simulated cloud on the command line.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::commands::args::print;
use crate::config::failure::Failure;
use crate::sim::cloud::{
    Access, Answer, BindType, Chance, CloudFault, DEVICE, Dedup, Generation, HABITS, Habits, KEY, MAX_PASSINGS,
    MAX_SESSIONS, On, OtherCompany, Rebind, SimCloudConfig, StartWith, serve_forever,
};

/// Most devices that the command line names, and most keys.
const MOST: usize = 100;

/// Key of the second company, with every right. It is no secret, because it is valid only here.
const SECOND_KEY: &str = "ror-fedcba98765432100123";

/// Device of the second company.
const SECOND_DEVICE: &str = "65A20000000000000000000000000000000000000000000000000000000A115B";

#[derive(Debug, Args)]
pub(crate) struct CloudArgs {
    /// Where it listens.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8480")]
    listen: SocketAddr,
    /// Form of its answers.
    #[arg(long, value_enum, default_value_t = Answers::Legacy)]
    generation: Answers,
    /// Store twice what is sent twice.
    #[arg(long)]
    no_dedup: bool,
    /// Wait so many milliseconds before every answer.
    #[arg(long, value_name = "MS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=600_000))]
    latency: u64,
    /// Id of its device, and its alias; may be given several times.
    #[arg(long = "device", value_name = "ID[=ALIAS]", default_value = DEVICE, value_parser = device)]
    devices: Vec<(String, String)>,
    /// What a key may do; may be given several times. The cloud makes one key for each, and prints
    /// them.
    #[arg(long = "key", value_name = "RIGHTS", value_enum, default_value = "read-write")]
    keys: Vec<Rights>,
    /// Have a second company, too. Its key and its device belong to it alone.
    #[arg(long)]
    second_company: bool,
    /// Sessions of each device at the start; the last one is active. Without it there is one, or
    /// none with --no-session.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=MAX_SESSIONS as i64))]
    sessions: Option<u32>,
    /// Passings in the sessions of each device at the start, in equal shares.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=MAX_PASSINGS as i64))]
    passings: u32,
    /// Status of the answer to the bind of a serial number that is bound already.
    #[arg(long, value_name = "STATUS", value_enum, default_value_t = Bind::Conflict)]
    rebind: Bind,
    /// Whether a bind has a `type`. Those that do not fit are answered 400.
    #[arg(long, value_enum, default_value_t = TypeOfBind::Optional)]
    bind_type: TypeOfBind,
    /// Share of the requests with passings that go wrong, 0 to 1: errors and cut connections,
    /// before and after the passings were taken.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    faults: f64,
    /// Have no active session, so that one can be seen to be waited for.
    #[arg(long)]
    no_session: bool,
    /// What it does that no document says; may be given several times: lag=2s,
    /// words=inserts:throttled:lost@1/10, second-writer=above@1/5. --habits lists them.
    #[arg(long = "habit", value_name = "NAME[=VALUE][@WHEN]", value_parser = habit)]
    habit: Vec<String>,
    /// Show passings only so long after they were taken, up to 1m; the same as --habit lag=TIME.
    #[arg(long, value_name = "TIME", value_parser = lag)]
    lag: Option<String>,
    /// The same seed makes the same faults and habits.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// List all habits, and end.
    #[arg(long)]
    habits: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Answers {
    /// Bare objects, as of 2023.
    Legacy,
    /// An envelope, as of 2026.
    Openapi,
    /// An envelope whose body is JSON text, as a gateway that is set up wrongly answers.
    Gateway,
}

/// The access types of the documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Rights {
    /// READ: every GET.
    Read,
    /// WRITE: every POST and PATCH.
    Write,
    /// READ_WRITE: every GET, POST and PATCH.
    ReadWrite,
    /// WRITE with the right to unbind a device (DELETE).
    #[value(name = "write+unbind")]
    WriteUnbind,
    /// READ_WRITE with the right to unbind a device (DELETE).
    #[value(name = "read-write+unbind")]
    ReadWriteUnbind,
}

impl Rights {
    fn access(self) -> Access {
        match self {
            Self::Read => Access::Read,
            Self::Write => Access::Write,
            Self::ReadWrite => Access::ReadWrite,
            Self::WriteUnbind => Access::WriteUnbind,
            Self::ReadWriteUnbind => Access::ReadWriteUnbind,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Read => "READ",
            Self::Write => "WRITE",
            Self::ReadWrite => "READ_WRITE",
            Self::WriteUnbind => "WRITE, may unbind",
            Self::ReadWriteUnbind => "READ_WRITE, may unbind",
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Bind {
    /// 409 with the id that the device has.
    #[value(name = "409")]
    Conflict,
    /// 200 with the id that the device has.
    #[value(name = "200")]
    Success,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum TypeOfBind {
    /// With or without.
    Optional,
    /// Only with it.
    Required,
    /// Only without it.
    Refused,
}

fn device(text: &str) -> Result<(String, String), String> {
    let (id, alias) = text.split_once('=').unwrap_or((text, "simulated"));
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
        return Err("the id must be of letters, digits, `-`, `_` and `.`".to_owned());
    }
    Ok((id.to_owned(), alias.to_owned()))
}

fn habit(text: &str) -> Result<String, String> {
    Habits::new(0).take(text).map(|()| text.to_owned())
}

fn lag(text: &str) -> Result<String, String> {
    habit(&format!("lag={text}"))
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "must be a number from 0 to 1".to_owned())
}

/// Lists every habit with what it does.
fn habits() -> String {
    let mut text = "\
Each may be given with --habit NAME[=VALUE][@WHEN]. Those marked @ show always, or only when WHEN says: 1/10 (one such
request in ten, by --seed), 5s (from the first one on for 5 s), 20+5s (from the one after twenty on for 5 s).
"
    .to_owned();
    for habit in HABITS {
        let value = if habit.value.is_empty() { String::new() } else { format!("={}", habit.value) };
        let when = if habit.timed { " @" } else { "" };
        text.push_str(&format!("\n{}{value}{when}\n", habit.name));
        let mut line = String::from("   ");
        for word in habit.says.split(' ') {
            if line.len() + 1 + word.len() > 120 {
                text.push_str(&line);
                text.push('\n');
                line = String::from("   ");
            }
            line.push(' ');
            line.push_str(word);
        }
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// Runs until it is interrupted.
pub(super) async fn run(args: CloudArgs) -> Result<(), Failure> {
    if args.habits {
        return print(&habits());
    }
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    let habits = Habits::of(seed, args.lag.iter().chain(&args.habit)).map_err(Failure::usage)?;
    let told = (!args.habit.is_empty() || args.lag.is_some()).then(|| format!("habits: {habits}\n"));
    let (config, start) = (config(&args, habits), start(&args)?);
    if let Some(told) = told {
        print(&told)?;
    }
    let paste = |url: &str| to_paste(url, &args.keys, &args.devices[0].0, args.second_company);
    let say = |line: String| {
        // If the reader of these lines is gone, the cloud continues.
        let _ = print(&format!("{line}\n"));
        // The lines are shown only once the cloud listens, because a key without a cloud helps
        // nobody.
        if let Some(url) = line.strip_prefix("simulated cloud at ") {
            let _ = print(&paste(url));
        }
    };
    let faults = [Answer::Status(500), Answer::Cut]
        .into_iter()
        .flat_map(|answer| [CloudFault::before(answer.clone()), CloudFault::after(answer)])
        .collect();
    let chance = Chance { on: On::Insert, seed, odds: args.faults, faults };
    let chance = (args.faults > 0.0).then_some(chance);
    let serving = serve_forever(args.listen, config, &start, chance, say).await;
    serving.map_err(|error| Failure::unavailable(format!("cannot listen on {}: {error}", args.listen)))
}

fn config(args: &CloudArgs, habits: Habits) -> SimCloudConfig {
    let second = OtherCompany {
        keys: vec![(SECOND_KEY.to_owned(), Access::ReadWriteUnbind)],
        devices: vec![(SECOND_DEVICE.to_owned(), "second company".to_owned())],
    };
    SimCloudConfig {
        generation: match args.generation {
            Answers::Legacy => Generation::Legacy,
            Answers::Openapi => Generation::OpenApi,
            Answers::Gateway => Generation::Gateway,
        },
        dedup: if args.no_dedup { Dedup::None } else { Dedup::Number },
        keys: args.keys.iter().enumerate().map(|(index, rights)| (key(index), rights.access())).collect(),
        devices: args.devices.clone(),
        others: if args.second_company { vec![second] } else { Vec::new() },
        rebind: match args.rebind {
            Bind::Conflict => Rebind::Conflict,
            Bind::Success => Rebind::Success,
        },
        bind_type: match args.bind_type {
            TypeOfBind::Optional => BindType::Optional,
            TypeOfBind::Required => BindType::Required,
            TypeOfBind::Refused => BindType::Refused,
        },
        latency: Duration::from_millis(args.latency),
        habits,
        ..SimCloudConfig::default()
    }
}

/// What the cloud holds at the start, if it can hold so much.
fn start(args: &CloudArgs) -> Result<StartWith, Failure> {
    let usual = if args.no_session { 0 } else { 1 };
    let (sessions, passings) = (args.sessions.unwrap_or(usual) as usize, args.passings as usize);
    let devices = args.devices.len() + usize::from(args.second_company);
    if args.devices.len() > MOST || args.keys.len() > MOST {
        return Err(Failure::usage(format!("at most {MOST} of --device and of --key")));
    }
    let ids: HashSet<&str> = args.devices.iter().map(|(id, _)| id.as_str()).collect();
    if ids.len() < args.devices.len() || args.second_company && ids.contains(SECOND_DEVICE) {
        return Err(Failure::usage("each --device needs an id of its own"));
    }
    if passings > 0 && sessions == 0 {
        return Err(Failure::usage("passings are in sessions: say --sessions N with --passings"));
    }
    if devices * sessions > MAX_SESSIONS {
        let each = MAX_SESSIONS / devices;
        return Err(Failure::usage(format!("the cloud holds {MAX_SESSIONS} sessions: --sessions {each} at most")));
    }
    if devices * passings > MAX_PASSINGS {
        let each = MAX_PASSINGS / devices;
        return Err(Failure::usage(format!("the cloud holds {MAX_PASSINGS} passings: --passings {each} at most")));
    }
    Ok(StartWith { alias: "simulated".to_owned(), sessions, passings, active: !args.no_session })
}

/// The key with this index: [`KEY`], and those that count on from it.
fn key(index: usize) -> String {
    let (head, last) = KEY.split_at(KEY.len() - 4);
    let last = usize::from_str_radix(last, 16).unwrap_or_default();
    format!("{head}{:04x}", last + index)
}

/// The configuration with which a box uploads to this cloud. The key is never in the configuration.
fn to_paste(url: &str, rights: &[Rights], device: &str, second_company: bool) -> String {
    let line = |(index, rights): (usize, &Rights)| format!("API key {} ({})\n", key(index), rights.name());
    let mut text: String = rights.iter().enumerate().map(line).collect();
    if second_company {
        text.push_str(&format!("API key {SECOND_KEY} (second company, {})\n", Rights::ReadWriteUnbind.name()));
    }
    text.push_str(&format!(
        "Put these lines into the configuration, in place of its [cloud]:\n\n\
         [cloud]\n\
         url = \"{url}\"\n\
         device_id = \"{device}\"\n\
         api_key_file = \"simulated_key\"\n\n\
         and the key into that file, beside the configuration:\n\n    \
         echo {KEY} > simulated_key\n\n"
    ));
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: CloudArgs,
    }

    fn args(line: &str) -> CloudArgs {
        Line::try_parse_from(["cloud"].into_iter().chain(line.split_whitespace())).unwrap().args
    }

    #[test]
    fn the_block_to_paste_is_a_right_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let block = to_paste("http://127.0.0.1:8480", &[Rights::ReadWrite, Rights::Read], DEVICE, true);
        let (keys, rest) = block.split_once("Put these").unwrap();
        assert_eq!(keys.lines().count(), 3, "{keys}");
        let (_, rest) = rest.split_once("\n\n").unwrap();
        let (lines, rest) = rest.split_once("\n\n").unwrap();
        let key = rest.lines().find_map(|line| line.trim().strip_prefix("echo ")?.strip_suffix(" > simulated_key"));
        std::fs::write(dir.path().join("simulated_key"), key.unwrap()).unwrap();
        let file = dir.path().join("passbridge.toml");
        let decoder = "[[decoder]]\nname = \"mat\"\nprotocol = \"llrp\"\naddress = \"tcp://127.0.0.1:1\"\n";
        std::fs::write(&file, format!("{decoder}{lines}\n")).unwrap();
        let options = crate::config::LoadOptions { environment: Vec::new(), ..crate::config::LoadOptions::new(file) };
        let cloud = crate::config::Config::load(&options).unwrap().config.cloud.unwrap();
        assert_eq!((cloud.url.as_str(), cloud.device_id.as_deref()), ("http://127.0.0.1:8480/", Some(DEVICE)));
    }

    #[tokio::test]
    async fn a_simulated_cloud_that_cannot_listen_shows_no_key() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut said = String::new();
        let say = |line: String| said.push_str(&line);
        let (config, start) = (SimCloudConfig::default(), start(&args("")).unwrap());
        let serving = serve_forever(taken.local_addr().unwrap(), config, &start, None, say).await;
        assert!(serving.is_err() && said.is_empty(), "nothing is said before it listens, so no key is: {said}");
    }

    #[test]
    fn keys_devices_and_companies_are_as_the_line_says_and_without_a_word_as_ever() {
        let usual = config(&args(""), Habits::new(0));
        assert_eq!(usual.keys, [(KEY.to_owned(), Access::ReadWrite)]);
        assert_eq!(usual.devices, [(DEVICE.to_owned(), "simulated".to_owned())]);
        assert!(usual.others.is_empty());
        let line = "--key read --key write+unbind --device A=mat --device B --second-company --rebind 200 \
                    --bind-type refused --generation openapi";
        let said = config(&args(line), Habits::new(0));
        let other_key = "ror-0123456789abcdef0124".to_owned();
        assert_eq!(said.keys, [(KEY.to_owned(), Access::Read), (other_key, Access::WriteUnbind)]);
        let devices = [("A", "mat"), ("B", "simulated")].map(|(id, alias)| (id.to_owned(), alias.to_owned()));
        assert_eq!(said.devices, devices);
        assert_eq!((said.others.len(), said.rebind, said.bind_type), (1, Rebind::Success, BindType::Refused));
        assert_eq!(said.generation, Generation::OpenApi);
    }

    #[test]
    fn the_cloud_begins_with_so_many_sessions_and_passings_and_refuses_what_it_cannot_hold() {
        let begun = |line: &str| start(&args(line)).map(|start| (start.sessions, start.passings, start.active));
        assert_eq!(begun("").unwrap(), (1, 0, true));
        assert_eq!(begun("--no-session").unwrap(), (0, 0, false));
        assert_eq!(begun("--sessions 3 --passings 1000000").unwrap(), (3, 1_000_000, true));
        assert_eq!(begun("--sessions 3 --no-session").unwrap(), (3, 0, false));
        for (line, why) in [
            ("--no-session --passings 1", "--sessions N"),
            ("--device A --device B --sessions 5001", "--sessions 5000 at most"),
            ("--device A --second-company --passings 4000001", "--passings 4000000 at most"),
            ("--device A --device A=finish", "of its own"),
        ] {
            let error = begun(line).unwrap_err().to_string();
            assert!(error.contains(why), "{line}: {error}");
        }
        for wrong in ["--device A/B", "--device =A", "--key all", "--rebind 500", "--sessions 10001"] {
            assert!(Line::try_parse_from(["cloud"].into_iter().chain(wrong.split(' '))).is_err(), "{wrong}");
        }
    }

    #[test]
    fn habits_are_typed_as_they_are_listed_and_each_is_listed_within_the_width_of_a_page() {
        assert_eq!(lag("2s"), Ok("lag=2s".to_owned()));
        assert!(habit("second-writer=above@1/5").is_ok());
        assert!(habit("lag=2").is_err() && habit("hello").is_err());
        assert!(share("1.5").is_err() && share("x").is_err());
        let listed = habits();
        assert!(listed.lines().all(|line| line.len() <= 120), "{listed}");
        for one in HABITS {
            assert!(listed.contains(&format!("\n{}", one.name)), "{}", one.name);
        }
    }
}
