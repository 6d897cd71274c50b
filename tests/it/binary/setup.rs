//! `setup` as a script runs it, with an answer for everything in its flags; `terminal` has the
//! questions.

mod terminal;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use passbridge::testing::sim::cloud::{
    Access, DEVICE, Generation, KEY, OtherCompany, Rebind, SimCloud, SimCloudConfig,
};
use passbridge::testing::sim::decoder::Kind;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::support::child::{binary, decoder, free_port};

/// Another key, and a device that the first key does not know.
const OTHER_KEY: &str = "ror-ffffffffffffffffffff";
const FOREIGN: &str = "65A2000000000000000000000000000000000000000000000000000000000001";
/// A decoder that nobody has to be.
const MAT: &str = "name=finish-mat,protocol=ipico,address=tcp://127.0.0.1:1,timezone=Europe/Madrid";

/// A directory with what `setup` writes.
struct Bench(TempDir);

impl Bench {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("etc/passbridge.toml")
    }

    fn key_file(&self) -> PathBuf {
        self.0.path().join("etc/api_key")
    }

    fn config(&self) -> String {
        fs::read_to_string(self.file()).unwrap()
    }

    fn is_untouched(&self) -> bool {
        !self.0.path().join("etc").exists()
    }

    /// `passbridge setup` with these flags and the address of the cloud.
    fn command(&self, cloud: Option<&SimCloud>, flags: &[&str]) -> Command {
        let mut command = binary(&["setup"]);
        command.arg("--config").arg(self.file()).arg("--data-dir").arg(self.0.path().join("data"));
        if let Some(cloud) = cloud {
            command.args(["--url", &cloud.url()]);
        }
        command.args(flags);
        command
    }

    /// Runs it with `key` on its standard input.
    async fn setup(&self, cloud: Option<&SimCloud>, key: &str, flags: &[&str]) -> Output {
        output(self.command(cloud, flags), key).await
    }
}

async fn output(mut command: Command, key: &str) -> Output {
    use std::io::Write;
    let key = key.to_owned();
    let spoken = tokio::task::spawn_blocking(move || {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // A command that ends before it reads the key closes the pipe.
        let _ = child.stdin.take().unwrap().write_all(key.as_bytes());
        child.wait_with_output().unwrap()
    });
    spoken.await.unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

fn is(output: &Output, code: i32, told: &str) {
    let said = said(output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(told), "{told:?} is not in: {said}");
    assert!(!said.contains(KEY) && !said.contains(OTHER_KEY), "the key is shown: {said}");
}

async fn cloud(generation: Generation) -> SimCloud {
    let others = vec![OtherCompany {
        keys: vec![(OTHER_KEY.to_owned(), Access::ReadWrite)],
        devices: vec![(FOREIGN.to_owned(), "theirs".to_owned())],
    }];
    SimCloud::start(SimCloudConfig { generation, others, ..SimCloudConfig::default() }).await.unwrap()
}

fn mode(file: &Path) -> u32 {
    fs::metadata(file).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn flags_alone_set_a_box_up_that_uploads() {
    let (sim, (_, address)) = decoder(Kind::RACE_RESULT, 1).await;
    for generation in [Generation::Legacy, Generation::OpenApi, Generation::Gateway] {
        let cloud = cloud(generation).await;
        cloud.open_session(DEVICE, "Race");
        let bench = Bench::new();
        let mat = format!("protocol=raceresult,address={address},timezone=UTC");
        // The port of the page may be taken on this machine.
        let mut command = bench.command(
            Some(&cloud),
            &["--key-stdin", "--device", DEVICE, "--decoder", &mat, "--name", "Ziel \"Süd\" 🏁"],
        );
        command.env("PASSBRIDGE__STATUS__LISTEN", "off");
        let done = output(command, &format!("{KEY}\n")).await;
        is(&done, 0, "ok   session");
        let config = bench.config();
        for line in ["name = 'Ziel \"Süd\" 🏁'", "protocol = \"raceresult\"", "api_key_file = \"api_key\""] {
            assert!(config.contains(line), "{config}");
        }
        assert!(config.contains(&format!("device_id = \"{DEVICE}\"")) && !config.contains(KEY), "{config}");
        assert_eq!((mode(&bench.key_file()), mode(&bench.file())), (0o600, 0o644));
        assert_eq!(fs::read_to_string(bench.key_file()).unwrap().trim(), KEY);
        assert_eq!(cloud.violations(), Vec::<String>::new(), "{generation:?}");
    }
    assert_eq!(sim.forbidden(), Vec::<String>::new());
}

#[tokio::test]
async fn without_a_terminal_all_answers_that_are_missing_are_named_at_once() {
    let bench = Bench::new();
    let done = bench.setup(None, "", &[]).await;
    is(&done, 64, "--key-file FILE, --key-stdin, or the environment variable PASSBRIDGE__CLOUD__API_KEY");
    is(&done, 64, "--device ID or --bind");
    is(&done, 64, "--decoder ADDRESS (or --no-decoder)");
    assert!(bench.is_untouched());
    // A key on the command line is no flag that there is.
    is(&bench.setup(None, "", &["--key", "x"]).await, 64, "unexpected argument");
}

#[tokio::test]
async fn the_key_comes_from_a_file_or_from_the_environment_too() {
    let cloud = cloud(Generation::Legacy).await;
    let flags = ["--device", DEVICE, "--decoder", MAT, "--no-check"];
    let bench = Bench::new();
    let file = bench.0.path().join("my key");
    fs::write(&file, format!("\u{feff}{KEY}\r\n")).unwrap();
    is(
        &bench.setup(Some(&cloud), "", &[&flags[..], &["--key-file", file.to_str().unwrap()]].concat()).await,
        0,
        "Wrote",
    );
    assert_eq!(fs::read_to_string(bench.key_file()).unwrap(), format!("{KEY}\n"));
    let bench = Bench::new();
    let mut command = bench.command(Some(&cloud), &flags);
    command.env("PASSBRIDGE__CLOUD__API_KEY", KEY);
    is(&output(command, "").await, 0, "Wrote");
    assert_eq!(fs::read_to_string(bench.key_file()).unwrap(), format!("{KEY}\n"));
    let bench = Bench::new();
    let none = bench.0.path().join("none");
    is(
        &bench.setup(Some(&cloud), "", &[&flags[..], &["--key-file", none.to_str().unwrap()]].concat()).await,
        74,
        "no such file",
    );
    is(
        &bench.setup(Some(&cloud), "two words", &[&flags[..], &["--key-stdin"]].concat()).await,
        65,
        "more than one word",
    );
    assert!(bench.is_untouched());
}

#[tokio::test]
async fn a_key_without_the_right_is_told_and_nothing_is_written() {
    let cloud = cloud(Generation::OpenApi).await;
    let flags = ["--key-stdin", "--device", DEVICE, "--decoder", MAT];
    let bench = Bench::new();
    is(&bench.setup(Some(&cloud), "ror-00000000000000000000", &flags).await, 77, "READ_WRITE");
    cloud.configure(|config| config.keys = vec![(KEY.to_owned(), Access::Write)]);
    is(&bench.setup(Some(&cloud), KEY, &flags).await, 77, "A key of the access type WRITE is refused here, too");
    cloud.configure(|config| config.keys = vec![(KEY.to_owned(), Access::Read)]);
    let bind = ["--key-stdin", "--bind", "--serial", "S-1", "--decoder", MAT];
    is(&bench.setup(Some(&cloud), KEY, &bind).await, 77, "READ_WRITE");
    assert!(bench.is_untouched());
    assert_eq!(cloud.devices().len(), 2);
    // What a key that may only read cannot do shows later, and that is said.
    is(
        &bench.setup(Some(&cloud), KEY, &[&flags[..], &["--no-check"]].concat()).await,
        0,
        "Whether it may also write shows",
    );
}

#[tokio::test]
async fn a_device_of_another_company_or_a_shortened_id_is_refused() {
    let cloud = cloud(Generation::Legacy).await;
    let bench = Bench::new();
    let flags = |device: &'static str| ["--key-stdin", "--device", device, "--decoder", MAT];
    is(&bench.setup(Some(&cloud), KEY, &flags(FOREIGN)).await, 64, "the cloud does not know this device");
    is(&bench.setup(Some(&cloud), KEY, &flags("65A1...115B")).await, 64, "is shortened");
    assert!(bench.is_untouched());
}

#[tokio::test]
async fn without_network_or_with_another_server_nothing_is_written_unless_that_is_meant() {
    let bench = Bench::new();
    let flags = ["--key-stdin", "--device", DEVICE, "--decoder", MAT];
    let nobody = format!("http://127.0.0.1:{}/v0", free_port());
    is(&bench.setup(None, KEY, &[&flags[..], &["--url", &nobody]].concat()).await, 69, "cannot be reached");
    is(
        &bench.setup(None, KEY, &[&flags[..], &["--url", "runonrufus.com"]].concat()).await,
        64,
        "https://api.runonrufus.com/v0",
    );
    assert!(bench.is_untouched());
    is(&bench.setup(None, KEY, &[&flags[..], &["--url", &nobody, "--offline"]].concat()).await, 0, "Wrote");
    assert!(bench.config().contains(&nobody));
    let probing = ["--key-stdin", "--offline", "--device", DEVICE, "--decoder", "127.0.0.1"];
    is(&Bench::new().setup(None, KEY, &probing).await, 64, "must name the protocol");
    let (mat, other) =
        ("name=m,protocol=ipico,address=tcp://10.0.0.1:10000", "name=m,protocol=ipico,address=tcp://10.0.0.2:10000");
    let namesakes = ["--no-cloud", "--offline", "--decoder", mat, "--decoder", other];
    let bench = Bench::new();
    is(&bench.setup(None, "", &namesakes).await, 64, "two --decoder are called m");
    assert!(bench.is_untouched());
}

#[tokio::test]
async fn a_box_is_bound_under_any_name_and_a_second_time_it_is_the_same_device() {
    for (generation, rebind) in [(Generation::Legacy, Rebind::Conflict), (Generation::OpenApi, Rebind::Success)] {
        let cloud = cloud(generation).await;
        cloud.configure(|config| config.rebind = rebind);
        let alias = "Ziel \"Süd\" 'A' 🏁";
        let flags = [
            "--key-stdin",
            "--bind",
            "--alias",
            alias,
            "--serial",
            "S-1",
            "--model",
            "box",
            "--decoder",
            MAT,
            "--no-check",
        ];
        let bench = Bench::new();
        is(&bench.setup(Some(&cloud), KEY, &flags).await, 0, "Bound a new device");
        let bound = cloud.devices().into_iter().find(|(_, name)| name == alias).unwrap().0;
        assert!(bench.config().contains(&format!("device_id = \"{bound}\"")), "{}", bench.config());
        let again = Bench::new();
        let done = again.setup(Some(&cloud), KEY, &flags).await;
        is(&done, 0, &bound);
        // A cloud that only says that all is well does not tell whether the name was taken.
        assert_eq!(said(&done).contains("was not given to it"), rebind == Rebind::Conflict, "{}", said(&done));
        assert!(again.config().contains(&bound));
        assert_eq!((cloud.devices().len(), cloud.violations()), (3, Vec::new()));
    }
}

#[tokio::test]
async fn a_file_that_is_there_keeps_its_comments_and_everything_that_was_not_answered() {
    let cloud = cloud(Generation::Legacy).await;
    let bench = Bench::new();
    let there = format!(
        "# my box\nname = \"start\"\n\n[[decoder]]\nname = \"a\" # the old mat\nprotocol = \"p3\"\naddress = \
         \"tcp://127.0.0.1:2\"\ntimezone = \"UTC\"\n\n[cloud]\nurl = \"{}\"\ndevice_id = \"OLD\" # of last year\napi_key_file \
         = \"../key\"\n\n[keep]\ndays = 7\n",
        cloud.url()
    );
    fs::create_dir(bench.0.path().join("etc")).unwrap();
    fs::write(bench.file(), &there).unwrap();
    fs::set_permissions(bench.file(), fs::Permissions::from_mode(0o640)).unwrap();
    let key = bench.0.path().join("key");
    fs::write(&key, "ror-00000000000000000000").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let mut command = binary(&["setup", "--key-stdin", "--device", DEVICE, "--decoder", MAT, "--no-check"]);
    command.arg("--config").arg(bench.file());
    is(&output(command, KEY).await, 0, "what you do not change stays as it is");
    let expected = there.replace("\"OLD\"", &format!("\"{DEVICE}\"")).replace(
        "\n[cloud]",
        "\n[[decoder]]\nname = \"finish-mat\"\nprotocol = \"ipico\"\naddress = \"tcp://127.0.0.1:1\"\ntimezone = \
         \"Europe/Madrid\"\n\n[cloud]",
    );
    assert_eq!(bench.config(), expected);
    assert_eq!((mode(&bench.file()), mode(&key)), (0o640, 0o640), "nobody outside of the group may read a key");
    assert_eq!(fs::read_to_string(&key).unwrap().trim(), KEY);
    // Nothing is missing now, and nothing changes.
    let mut command = binary(&["setup", "--no-check"]);
    command.arg("--config").arg(bench.file());
    is(&output(command, "").await, 0, "stays as it is");
    assert_eq!(bench.config(), expected);
}

#[tokio::test]
async fn a_file_with_a_mistake_is_named_with_its_line_and_stays() {
    let bench = Bench::new();
    fs::create_dir(bench.0.path().join("etc")).unwrap();
    for wrong in ["name = \"a\"\n[keep]\ndays = \"x\"\n", "name = \"a\"\n\n[keep\n"] {
        fs::write(bench.file(), wrong).unwrap();
        is(&bench.setup(None, "", &["--no-cloud", "--decoder", MAT]).await, 78, "passbridge.toml:3");
        assert_eq!(bench.config(), wrong);
    }
    // An answer that makes a right file wrong is refused, too.
    fs::write(bench.file(), "name = \"a\"\n").unwrap();
    let twice = ["--no-cloud", "--decoder", MAT, "--decoder", "name=b,protocol=ipico,address=tcp://127.0.0.1:1"];
    is(&bench.setup(None, "", &twice).await, 64, "is the address of decoder `finish-mat` already");
    assert_eq!(bench.config(), "name = \"a\"\n");
}

#[tokio::test]
async fn a_box_may_begin_without_cloud_and_without_decoders() {
    let bench = Bench::new();
    let mut command = bench.command(None, &["--no-cloud", "--no-decoder"]);
    command.env("PASSBRIDGE__STATUS__LISTEN", "off");
    is(&output(command, "").await, 0, "warn decoder: none yet");
    assert!(!bench.config().contains("[cloud]") && !bench.key_file().exists());
    // The cloud is checked although no decoder sends anything there yet.
    let (cloud, bench) = (cloud(Generation::OpenApi).await, Bench::new());
    let mut command = bench.command(Some(&cloud), &["--key-stdin", "--device", DEVICE, "--no-decoder"]);
    command.env("PASSBRIDGE__STATUS__LISTEN", "off");
    let done = output(command, KEY).await;
    is(&done, 0, "the key may read it");
    assert!(said(&done).contains("sudo passbridge session open --alias NAME"), "{}", said(&done));
}

#[tokio::test]
async fn a_name_that_is_no_line_is_refused() {
    let cloud = cloud(Generation::OpenApi).await;
    for flag in ["--alias", "--model", "--serial"] {
        let bench = Bench::new();
        let flags = ["--key-stdin", "--bind", "--no-decoder", flag, "two\nlines"];
        is(&bench.setup(Some(&cloud), KEY, &flags).await, 64, "must be one line");
        assert!(bench.is_untouched());
    }
}

#[tokio::test]
async fn what_is_at_an_address_is_found_out_or_told() {
    let (sim, (_, address)) = decoder(Kind::RACE_RESULT, 1).await;
    let bench = Bench::new();
    let flags = |address| ["--no-cloud", "--no-check", "--timezone", "Europe/Madrid", "--decoder", address];
    is(&bench.setup(None, "", &flags(&address)).await, 0, "RACE RESULT");
    let block = format!("protocol = \"raceresult\"\naddress = \"{address}\"\ntimezone = \"Europe/Madrid\"\n");
    assert!(bench.config().contains(&block), "{}", bench.config());
    assert_eq!(sim.forbidden(), Vec::<String>::new());

    let stranger = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tcp://{}", stranger.local_addr().unwrap());
    let speaking = tokio::spawn(async move {
        let (mut stream, _) = stranger.accept().await.unwrap();
        stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await.unwrap();
        stream
    });
    let bench = Bench::new();
    is(&bench.setup(None, "", &flags(&address)).await, 65, "name its protocol");
    drop(speaking.await.unwrap());
    let nobody = format!("tcp://127.0.0.1:{}", free_port());
    is(&bench.setup(None, "", &flags(&nobody)).await, 69, "nobody listens at that port");
    assert!(bench.is_untouched());
}

/// A `systemctl` that writes down what it is told, and has a unit that reads `config`.
fn systemctl(bench: &Bench, config: &Path) -> PathBuf {
    let bin = bench.0.path().join("bin");
    fs::create_dir(&bin).unwrap();
    let script = format!(
        "#!/bin/sh\necho \"$*\" >> {}\n[ \"$1\" = cat ] && echo 'ExecStart=/usr/bin/passbridge run --config {}'\nexit 0\n",
        bench.0.path().join("told").display(),
        config.display()
    );
    fs::write(bin.join("systemctl"), script).unwrap();
    fs::set_permissions(bin.join("systemctl"), fs::Permissions::from_mode(0o755)).unwrap();
    bin
}

#[tokio::test]
async fn the_service_is_started_if_it_is_that_of_this_configuration() {
    let bench = Bench::new();
    let flags = ["--no-cloud", "--no-check", "--decoder", MAT, "--start"];
    is(&bench.setup(None, "", &flags).await, 69, "there is no service passbridge.service here");
    let bin = systemctl(&bench, &bench.file());
    let mut command = bench.command(None, &flags);
    command.env("PATH", &bin);
    is(&output(command, "").await, 0, "passbridge runs");
    let told = fs::read_to_string(bench.0.path().join("told")).unwrap();
    assert_eq!(told, "cat passbridge.service\nenable passbridge.service\nrestart passbridge.service\n");
    let bench = Bench::new();
    let bin = systemctl(&bench, Path::new("/etc/passbridge/passbridge.toml"));
    let mut command = bench.command(None, &flags);
    command.env("PATH", &bin);
    is(&output(command, "").await, 69, "reads another configuration");
    assert_eq!(fs::read_to_string(bench.0.path().join("told")).unwrap(), "cat passbridge.service\n");
}

#[tokio::test]
async fn a_place_that_cannot_be_written_is_told_before_anything_is_asked() {
    let bench = Bench::new();
    fs::write(bench.0.path().join("etc"), "a file").unwrap();
    is(&bench.setup(None, "", &["--no-cloud", "--no-decoder"]).await, 77, "run it with sudo");
}

#[tokio::test]
async fn the_key_is_in_no_argument_of_any_process() {
    // The help has no flag that takes one.
    let help = said(&output(binary(&["setup", "--help"]), "").await);
    assert!(help.contains("--key-file") && help.contains("--key-stdin"), "{help}");
    assert!(!help.contains("--key ") && !help.contains("--api-key"), "{help}");
}
