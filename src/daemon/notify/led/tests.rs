//! A LED that is a folder with the files of the kernel.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;

const TRIGGERS: &str = "none kbd-scrolllock [mmc0] timer heartbeat";

/// A machine with the LED `ACT`, which shows the traffic of the card.
struct Machine(TempDir);

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("sys/class/leds/ACT")).unwrap();
        let machine = Self(dir);
        for (file, text) in [("trigger", TRIGGERS), ("brightness", "0"), ("max_brightness", "255\n")] {
            fs::write(machine.file(file), text).unwrap();
        }
        for file in ["delay_on", "delay_off"] {
            fs::write(machine.file(file), "500").unwrap();
        }
        machine
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join("sys/class/leds/ACT").join(name)
    }

    /// What was written last, which is the first line of a file.
    fn is(&self, file: &str) -> String {
        fs::read_to_string(self.file(file)).unwrap().lines().next().unwrap().to_owned()
    }

    fn led(&self) -> Led {
        Led { folder: self.file(""), before: None }
    }

    /// What the kernel shows after this trigger was set.
    fn set(&self, trigger: &str) {
        fs::write(self.file("trigger"), TRIGGERS.replace("[mmc0]", "mmc0").replace(trigger, &format!("[{trigger}]")))
            .unwrap();
    }
}

#[test]
fn each_state_has_one_of_three_patterns() {
    for state in BoxState::ALL {
        let expected = match state.word() {
            "ready" | "reading" => Pattern::Steady,
            "not-uploading" | "hold" => Pattern::Slow,
            _ => Pattern::Fast,
        };
        assert_eq!(Pattern::of(state), expected, "{state:?}");
    }
}

#[test]
fn it_blinks_or_is_on_and_at_the_end_it_is_as_it_was() {
    let machine = Machine::new();
    let mut led = machine.led();
    led.show(Pattern::Fast).unwrap();
    assert_eq!(machine.is("trigger"), "timer");
    assert_eq!((machine.is("delay_on"), machine.is("delay_off")), ("100".to_owned(), "100".to_owned()));
    machine.set("timer");
    led.show(Pattern::Slow).unwrap();
    assert_eq!(machine.is("trigger"), "none kbd-scrolllock mmc0 [timer] heartbeat", "it is not set a second time");
    assert_eq!((machine.is("delay_on"), machine.is("delay_off")), ("1000".to_owned(), "1000".to_owned()));
    led.show(Pattern::Steady).unwrap();
    assert_eq!(machine.is("trigger"), "none");
    assert_eq!(machine.is("brightness"), "255");
    led.restore().unwrap();
    assert_eq!(machine.is("trigger"), "mmc0");
}

#[test]
fn a_led_that_a_killed_passbridge_left_blinking_is_off_at_the_end() {
    let machine = Machine::new();
    machine.set("timer");
    let mut led = machine.led();
    led.show(Pattern::Fast).unwrap();
    led.restore().unwrap();
    assert_eq!(machine.is("trigger"), "none");
    assert_eq!(machine.is("brightness"), "0");
}

/// Waits until something is so, while the state is told again and again, as the box does.
async fn until(what: &str, news: &watch::Sender<Option<StateNews>>, is_so: impl Fn() -> bool) {
    let begin = std::time::Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < Duration::from_secs(60), "{what}");
        news.send_modify(|_| {});
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_led_that_is_not_there_is_a_problem_that_names_the_others_and_is_over_when_it_comes() {
    let machine = Machine::new();
    fs::rename(machine.file(""), machine.0.path().join("sys/class/leds/led0")).unwrap();
    let (news, told) = watch::channel(Some(StateNews::example(BoxState::NotReading, "No mat reads.")));
    let (board, stop) = (Board::new("finish"), CancellationToken::new());
    let (root, shown, stopping) = (machine.0.path().to_owned(), board.clone(), stop.clone());
    let telling = tokio::spawn(async move { tell(&root, "ACT", &shown, told, stopping).await });
    until("it is a problem", &news, || !board.snapshot().problems.is_empty()).await;
    let problem = board.snapshot().problems.remove(0);
    assert_eq!(problem.code, "led_failed");
    assert!(problem.message.ends_with("this box has no LED of that name. It has led0"), "{}", problem.message);
    fs::rename(machine.0.path().join("sys/class/leds/led0"), machine.file("")).unwrap();
    until("it is over", &news, || board.snapshot().problems.is_empty()).await;
    assert_eq!(machine.is("delay_on"), "100");
    stop.cancel();
    telling.await.unwrap();
    assert_eq!(machine.is("trigger"), "mmc0", "at a stop it is as it was");
}

#[test]
fn each_reason_says_what_to_do() {
    let there = ["ACT".to_owned(), "PWR".to_owned()];
    for (kind, says) in [
        (io::ErrorKind::PermissionDenied, "rule of udev"),
        (io::ErrorKind::ReadOnlyFilesystem, "drop-in of the unit"),
        (io::ErrorKind::InvalidInput, "no trigger `timer`"),
        (io::ErrorKind::NotFound, "it cannot be changed"),
        (io::ErrorKind::TimedOut, "it cannot be changed"),
    ] {
        let told = message("ACT", &kind.into(), &there);
        assert!(told.starts_with("the LED `ACT` does not show the state: ") && told.contains(says), "{told}");
    }
    assert!(message("ACT", &io::ErrorKind::NotFound.into(), &[]).ends_with("no LED that a program can use"));
}

#[test]
fn a_led_without_rights_is_an_error_and_is_not_changed() {
    if rustix::process::geteuid().is_root() {
        return; // root may write everything; `each_reason_says_what_to_do` has the message
    }
    let machine = Machine::new();
    fs::set_permissions(machine.file("trigger"), fs::Permissions::from_mode(0o444)).unwrap();
    let error = machine.led().show(Pattern::Fast).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
}
