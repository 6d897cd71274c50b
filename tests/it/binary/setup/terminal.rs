//! The questions of `setup`, answered at a terminal, and left with Ctrl-C at each of them.

use std::fs;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use passbridge::testing::sim::cloud::{DEVICE, Generation, KEY, SimCloud};
use passbridge::testing::sim::decoder::{Kind, SimConfig, SimDecoder, Wiring};
use regex::Regex;

use super::{Bench, cloud, mode};
use crate::support::child::free_port;
use crate::support::skip;
use crate::support::terminal::{self, Terminal};

const CTRL_C: &str = "\x03";
const DOWN: &str = "\x1b[B";
const ENTER: &str = "\r";
/// The page that shows a session.
const PAGE: &str = "docs/timer/set-up.md";
/// What stands before and behind the session there.
const BLOCK: (&str, &str) = ("<!-- session of setup -->\n```text\n", "```\n");

/// `passbridge setup` at a terminal. It is in another zone than the tests, so that a zone that is
/// asked for can be told from it.
fn at_a_terminal(bench: &Bench, cloud: Option<&SimCloud>, flags: &[&str]) -> Terminal {
    let mut command = bench.command(cloud, flags);
    command.env("TZ", "Europe/Madrid").env("PASSBRIDGE__STATUS__LISTEN", "127.0.0.1:0").current_dir(bench.0.path());
    Terminal::start(&command)
}

/// Work that waits for a screen must not keep the simulated cloud and decoder from answering.
async fn meanwhile<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

/// A decoder that has something to say when it is asked.
async fn raceresult() -> (SimDecoder, String) {
    let wiring = Wiring::Listen(std::net::SocketAddr::from(([127, 0, 0, 1], 0)));
    let start = TimeZone::get("Europe/Madrid").unwrap().to_datetime(Timestamp::now());
    let sim = SimDecoder::start(SimConfig { start, ..SimConfig::new(Kind::RACE_RESULT, wiring) }).await.unwrap();
    sim.push(3);
    let address = sim.address().unwrap().to_string();
    (sim, address)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_of_setup_is_as_the_documents_show_it() {
    if !terminal::can_run() {
        return skip("a session of setup", "there is no setsid");
    }
    let cloud = cloud(Generation::OpenApi).await;
    cloud.open_session(DEVICE, "10 km");
    let (sim, address) = raceresult().await;
    let bench = Bench::new();
    let (typed, url) = (address.clone(), cloud.url());
    let setup = at_a_terminal(&bench, Some(&cloud), &[]);
    let (code, screen) = meanwhile(move || {
        setup.answer("API key of the RUFUS Cloud", &format!("{KEY}{ENTER}"));
        setup.answer("Device that gets the passings", ENTER);
        setup.answer("Where is the decoder", ENTER);
        setup.answer("Address, such as", &format!("{typed}{ENTER}"));
        setup.answer("Take it as RACE RESULT", "y");
        setup.answer("Its name", ENTER);
        setup.answer("Time zone that its clock is set to", ENTER);
        setup.answer("Where is the next decoder", ENTER);
        setup.answer("Write this?", ENTER);
        setup.end()
    })
    .await;
    assert_eq!(code, Some(0), "{screen}");
    assert!(!screen.contains(KEY), "{screen}");
    assert_eq!((mode(&bench.key_file()), fs::read_to_string(bench.key_file()).unwrap()), (0o600, format!("{KEY}\n")));
    for line in [
        "timezone = \"Europe/Madrid\"".to_owned(),
        format!("address = \"tcp://{address}\""),
        format!("url = \"{url}\""),
    ] {
        assert!(bench.config().contains(&line), "{}", bench.config());
    }
    assert_eq!((cloud.violations(), sim.forbidden()), (Vec::new(), Vec::new()));
    drop(sim);
    let shown = shown(&screen, &bench, &url, &address);
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let text = fs::read_to_string(&page).unwrap();
    let (before, rest) = text.split_once(BLOCK.0).unwrap_or_else(|| panic!("{PAGE} shows no session"));
    let (block, after) = rest.split_once(BLOCK.1).unwrap();
    if std::env::var_os("PASSBRIDGE_BLESS").is_some() {
        return fs::write(&page, format!("{before}{}{shown}{}{after}", BLOCK.0, BLOCK.1)).unwrap();
    }
    assert_eq!(block, shown, "{PAGE} shows another session; PASSBRIDGE_BLESS=1 writes this one there");
}

/// The screen as the documents show it: the same wherever and whenever the test runs.
fn shown(screen: &str, bench: &Bench, url: &str, address: &str) -> String {
    let replaced = screen
        .replace(&bench.0.path().display().to_string(), "/home/timer")
        .replace(url, "http://127.0.0.1:8480/v0")
        .replace(address, "127.0.0.1:3601");
    let patterns = [
        (r"(?m)^(ok  |warn) clock: .*$", "ok   clock: 2026-07-05 10:42:07 CEST, set from the network"),
        (r"(?m)^(ok  |warn) time finish-mat: .*$", "ok   time finish-mat: its clock and that of this box agree"),
        (r"(?m)^  because of .*$", "  because of 3 reads, 2 messages that only it sends (94 % of the bytes)"),
        (
            r"(?m)^  Its clock says .*$",
            "  Its clock says 2026-07-05T10:41:40.100, this box's 2026-07-05 10:41:40.137 CEST: 0.0 s behind",
        ),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?  ", "2026-07-05T10:41:38.478  "),
        (r"must show .* now", "must show 2026-07-05 10:42:07 CEST now"),
        (r"\d+(\.\d+)? [GMT]B free(: little for a race, free some)?", "25.4 GB free"),
        (r"(?m)^warn disk", "ok   disk"),
        (r"http://127\.0\.0\.1:0/", "http://127.0.0.1:8470/"),
    ];
    patterns
        .into_iter()
        .fold(replaced, |text, (pattern, with)| Regex::new(pattern).unwrap().replace_all(&text, with).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_at_any_question_leaves_what_was_there_and_a_usual_terminal() {
    if !terminal::can_run() {
        return skip("Ctrl-C at a question", "there is no setsid");
    }
    let cloud = cloud(Generation::Legacy).await;
    let (_sim, address) = raceresult().await;
    let key = format!("{KEY}{ENTER}");
    let address = format!("{address}{ENTER}");
    let serial = format!("S-1{ENTER}");
    // The first company has one device. Behind it comes the line for a new one.
    let new_device = format!("{DOWN}{ENTER}");
    let answers = [
        ("API key of the RUFUS Cloud", key.as_str()),
        ("Device that gets the passings", &new_device),
        ("Name of the new device", ENTER),
        ("Its serial number", &serial),
        ("Where is the decoder", ENTER),
        ("Address, such as", &address),
        ("Take it as RACE RESULT", "y"),
        ("Its name", ENTER),
        ("Time zone that its clock is set to", ENTER),
        ("Where is the next decoder", ENTER),
        ("Write this?", ""),
    ];
    let answers = answers.map(|(question, keys)| (question.to_owned(), keys.to_owned()));
    for last in 0..answers.len() {
        let bench = Bench::new();
        let setup = at_a_terminal(&bench, Some(&cloud), &[]);
        let answers = answers.clone();
        let (code, screen, usual) = meanwhile(move || {
            for (question, keys) in &answers[..last] {
                setup.answer(question, keys);
            }
            setup.answer(&answers[last].0, CTRL_C);
            setup.expect("Nothing was changed.");
            let usual = setup.is_usual();
            let (code, screen) = setup.end();
            (code, screen, usual)
        })
        .await;
        assert_eq!(code, Some(130), "{screen}");
        assert!(usual && bench.is_untouched() && cloud.devices().len() == 2, "{screen}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_key_and_an_address_where_nobody_is_are_asked_for_again() {
    if !terminal::can_run() {
        return skip("wrong answers at a terminal", "there is no setsid");
    }
    let cloud = cloud(Generation::Gateway).await;
    let bench = Bench::new();
    let setup = at_a_terminal(&bench, Some(&cloud), &["--no-check"]);
    let nobody = format!("127.0.0.1:{}", free_port());
    let (code, screen) = meanwhile(move || {
        setup.answer("API key of the RUFUS Cloud", &format!("two words{ENTER}"));
        setup.expect("That is more than one word");
        setup.answer("API key of the RUFUS Cloud", &format!("ror-00000000000000000000{ENTER}"));
        setup.expect("the API key is refused");
        setup.answer("API key of the RUFUS Cloud", &format!("{KEY}{ENTER}"));
        setup.answer("Device that gets the passings", &format!("{DOWN}{DOWN}{ENTER}"));
        setup.answer(
            "Id of the device",
            &format!("65A2000000000000000000000000000000000000000000000000000000000001{ENTER}"),
        );
        setup.expect("the cloud does not know this device");
        setup.answer("Id of the device", &format!("{DEVICE}{ENTER}"));
        setup.answer("Where is the decoder", ENTER);
        setup.answer("Address, such as", &format!("{nobody}{ENTER}"));
        setup.expect("nobody listens at that port");
        setup.answer("What now", &format!("{DOWN}{ENTER}"));
        setup.answer("What is it", ENTER);
        setup.answer("Its name", &format!("start{ENTER}"));
        setup.answer("Time zone that its clock is set to", &format!("Europe/Madrit{ENTER}"));
        setup.shows("did you mean");
        setup.type_in(ENTER);
        setup.answer("Where is the next decoder", ENTER);
        setup.answer("Write this?", "n");
        setup.end()
    })
    .await;
    assert_eq!(code, Some(0), "{screen}");
    assert!(screen.contains("Nothing was changed.") && bench.is_untouched(), "{screen}");
    assert!(!screen.contains(KEY), "{screen}");
}
