//! What a timer sees when the configuration is wrong, through the real binary: one clear line and
//! exit code 78.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::skip;
use passbridge::testing::config::KeyHeader;
use passbridge::testing::config::{Address, Config, LoadOptions, NotifyConfig, SessionMode, TagCode};
use passbridge::testing::decoders::REGISTRY;
use passbridge::testing::sim::cloud::DEVICE;
use secrecy::ExposeSecret;
use tempfile::TempDir;

const EXAMPLE: &str = include_str!("../../config/passbridge.toml");
const KEY: &str = "ror-0123456789abcdef0123";

/// A right configuration that uses every section. `DIR` stands for the directory it is in.
const RIGHT: &str = r#"name = "finish"
data_dir = "DIR/data"

[[decoder]]
name = "mat"
protocol = "ipico"
address = "tcp://127.0.0.1:10000"
timezone = "Europe/Madrid"
rewind = true

[cloud]
url = "https://127.0.0.1:1/v0"
device_id = "65A1"
api_key_file = "DIR/api_key"
header = "both"
session = "active"

[upload]
batch_max = 100
linger = "200ms"
min_interval = "250ms"
retry_max = "60s"
timeout = "30s"

[passing]
bibs = "DIR/bibs.csv"
tag = "raw"
dead_time = "0s"

[keep]
days = 30
max_bytes = "2GB"

[status]
listen = "127.0.0.1:0"

[log]
level = "info"
format = "auto"
"#;

struct Site {
    dir: TempDir,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("bibs.csv"), "chip,bib\nMC00978,17\n").unwrap();
        for secret in ["api_key", "token"] {
            write_secret(&dir.path().join(secret), KEY, 0o640);
        }
        let this = Self { dir };
        this.write(RIGHT);
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, text: &str) {
        let text = text.replace("DIR", self.dir.path().to_str().unwrap());
        fs::write(self.path("passbridge.toml"), text).unwrap();
    }

    /// `passbridge check` with nothing in the environment but `variables`.
    fn check(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Seen {
        let output = Command::new(env!("CARGO_BIN_EXE_passbridge"))
            .arg("check")
            .arg("--config")
            .arg(self.path("passbridge.toml"))
            .args(arguments)
            .env_clear()
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        Seen::new(&output)
    }

    fn load(&self, variables: &[(&str, &str)]) -> Result<passbridge::testing::config::Loaded, String> {
        let options = LoadOptions {
            environment: variables.iter().map(|(name, value)| (name.into(), value.into())).collect(),
            ..LoadOptions::new(self.path("passbridge.toml"))
        };
        Config::load(&options).map_err(|error| error.to_string())
    }
}

struct Seen {
    code: i32,
    text: String,
}

impl Seen {
    fn new(output: &Output) -> Self {
        let text = [&output.stdout[..], &output.stderr[..]].concat();
        let seen = Self { code: output.status.code().unwrap(), text: String::from_utf8(text).unwrap() };
        assert!(!seen.text.contains(KEY), "the key is shown: {}", seen.text);
        seen
    }

    /// One red line that holds all of `parts`, and exit code 78.
    fn is_one_line_with(&self, parts: &[&str]) {
        let red: Vec<&str> = self.text.lines().filter(|line| line.starts_with("FAIL")).collect();
        assert_eq!((self.code, red.len()), (78, 1), "{}", self.text);
        for part in parts {
            assert!(red[0].contains(part), "`{part}` is not in: {}", red[0]);
        }
    }
}

fn write_secret(path: &Path, text: &str, mode: u32) {
    fs::write(path, format!("{text}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_right_configuration_passes() {
    let seen = Site::new().check(&[], &[]);
    assert_eq!(seen.code, 0, "{}", seen.text);
    assert!(!seen.text.contains("FAIL") && seen.text.contains("ok   key: the API key comes from"), "{}", seen.text);
}

#[test]
fn every_wrong_value_is_named_with_its_line_its_key_and_what_is_allowed() {
    // What is written instead of what, and what the one line must say.
    let cases: &[(&str, &str, &[&str])] = &[
        ("name = \"finish\"", "name = \"\"", &[":1:", "name = \"\"", "printable"]),
        ("name = \"finish\"", "name = 7", &[":1:", "name = 7", "quotes"]),
        ("name = \"mat\"", "name = \"a\\tb\"", &[":5:", "decoder[0].name", "printable"]),
        ("\"ipico\"", "\"ipicoo\"", &[":6:", "decoder[0].protocol = \"ipicoo\"", "must be one of"]),
        ("tcp://127.0.0.1:10000", "tcp://127.0.0.1", &[":7:", "decoder[0].address", "port is missing"]),
        ("tcp://127.0.0.1:10000", "usb://x:1", &[":7:", "`usb://` is unknown", "serial:///dev/ttyUSB0"]),
        ("tcp://127.0.0.1:10000", "serial:///dev/x?baud=7", &[":7:", "baud=7", "9600"]),
        ("Europe/Madrid", "Europe/Madird", &[":8:", "timezone = \"Europe/Madird\"", "IANA"]),
        ("Europe/Madrid", "+01:00", &[":8:", "timezone", "Europe/Madrid"]),
        ("rewind = true", "rewind = \"yes\"", &[":9:", "rewind = \"yes\"", "true or false"]),
        ("rewind = true", "rewind = true\nset = { spede = \"9\" }", &[":10:", "decoder[0].set.spede", "ipico"]),
        ("https://127.0.0.1:1/v0", "api.runonrufus.com", &[":12:", "cloud.url", "https://api.runonrufus.com/v0"]),
        ("https://127.0.0.1:1/v0", "ftp://x/v0", &[":12:", "cloud.url = \"ftp://x/v0\"", "https"]),
        ("https://127.0.0.1:1/v0", "https://x/v0?k=1", &[":12:", "cloud.url"]),
        ("device_id = \"65A1\"", "device_id = \"65 A1\"", &[":13:", "cloud.device_id = \"65 A1\""]),
        ("device_id = \"65A1\"\n", "", &[":11:", "cloud.device_id is missing", "decoder `mat`"]),
        ("header = \"both\"", "header = \"x_api_key\"", &[":15:", "cloud.header", "\"x-api-key\""]),
        ("session = \"active\"", "session = \"any\"", &[":16:", "cloud.session = \"any\"", "\"create\""]),
        ("batch_max = 100", "batch_max = 0", &[":19:", "upload.batch_max = 0", "from 1 to 500"]),
        ("batch_max = 100", "batch_max = 501", &[":19:", "upload.batch_max = 501", "from 1 to 500"]),
        ("batch_max = 100", "batch_max = -1", &[":19:", "upload.batch_max = -1"]),
        ("batch_max = 100", "batch_max = 1.5", &[":19:", "upload.batch_max = 1.5", "whole number"]),
        ("batch_max = 100", "batch_max = \"100\"", &[":19:", "whole number"]),
        ("\"200ms\"", "\"200\"", &[":20:", "upload.linger = \"200\"", "\"200ms\""]),
        ("\"200ms\"", "200", &[":20:", "upload.linger = 200", "quotes"]),
        ("\"200ms\"", "\"11s\"", &[":20:", "upload.linger", "from 0s to 10s"]),
        ("\"250ms\"", "\"fast\"", &[":21:", "upload.min_interval = \"fast\""]),
        ("\"60s\"", "\"10ms\"", &[":22:", "upload.retry_max", "from 1s to 1h"]),
        ("\"30s\"", "\"1h\"", &[":23:", "upload.timeout", "from 1s to 5m"]),
        ("DIR/bibs.csv", "DIR/none.csv", &[":26:", "passing.bibs", "none.csv"]),
        ("tag = \"raw\"", "tag = \"epc\"", &[":27:", "passing.tag = \"epc\"", "\"rufus\""]),
        ("tag = \"raw\"", "zeros = \"no\"", &[":27:", "passing.zeros = \"no\"", "\"ignore\"", "\"count\""]),
        ("\"0s\"", "\"-1s\"", &[":28:", "passing.dead_time = \"-1s\""]),
        ("days = 30", "days = \"30\"", &[":31:", "keep.days"]),
        ("\"2GB\"", "\"2 giga\"", &[":32:", "keep.max_bytes = \"2 giga\"", "GB"]),
        ("127.0.0.1:0", "localhost", &[":35:", "status.listen = \"localhost\"", "127.0.0.1:8470"]),
        ("127.0.0.1:0", "0.0.0.0:8470", &[":35:", "status.listen = \"0.0.0.0:8470\"", "token_file"]),
        ("level = \"info\"", "level = \"verbose\"", &[":38:", "log.level = \"verbose\"", "debug"]),
        ("format = \"auto\"", "format = \"xml\"", &[":39:", "log.format = \"xml\"", "\"json\""]),
        ("[log]", "[[log]]", &[":37:", "log", "[log]"]),
        ("[[decoder]]", "[decoder]", &[":4:", "decoder", "[[decoder]]"]),
        ("name = \"finish\"", "name = finish", &[":1:", "write it as name = \"finish\""]),
        ("name = \"finish\"", "name = “finish”", &[":1:", "straight quote", "write it as name = \"finish\""]),
        ("name = \"finish\"", "name = \"finish\",", &[":1:", "take the comma away"]),
        ("dead_time = \"0s\"", "dead_time = 5s", &[":28:", "write it as dead_time = \"5s\""]),
        ("dead_time = \"0s\"", "dead_time = 5", &[":28:", "write it as dead_time = \"5s\""]),
        ("[keep]", "[keep", &[":30:", "write it as [keep]"]),
        (
            "batch_max = 100",
            "batch_max = 99999999999999999999",
            &[":19:", "upload.batch_max = 99999999999999999999", "from 1 to 500"],
        ),
        (
            "batch_max = 100",
            "batch_max = -99999999999999999999",
            &[":19:", "upload.batch_max = -99999999999999999999", "from 1 to 500"],
        ),
        ("batch_max = 100", "batch_max = 1e2", &[":19:", "upload.batch_max = 1e2", "whole number from 1 to 500"]),
        ("batch_max = 100", "batch_max = 100.0", &[":19:", "upload.batch_max = 100.0", "whole number from 1 to 500"]),
        (
            "batch_max = 100",
            "batch_max = \"yes\"",
            &[":19:", "upload.batch_max = \"yes\"", "whole number from 1 to 500"],
        ),
        ("batch_max = 100", "batch_max = true", &[":19:", "upload.batch_max = true", "whole number from 1 to 500"]),
        ("days = 30", "days = 4294967296", &[":31:", "keep.days = 4294967296", "from 0 to 36500"]),
        ("days = 30", "days = 0xFFFFFFFFFFFFFFFFF", &[":31:", "keep.days = 0xFFFFFFFFFFFFFFFFF", "from 0 to 36500"]),
        ("device_id = \"65A1\"", "device_id = \"65A1...115B\"", &[":13:", "cloud.device_id", "Copy the whole id"]),
        ("device_id = \"65A1\"", "device_id = \"65A1…115B\"", &[":13:", "cloud.device_id", "Copy the whole id"]),
        ("Europe/Madrid", "Europe/Madird", &[":8:", "did you mean \"Europe/Madrid\"?"]),
        ("Europe/Madrid", "Madrid", &[":8:", "did you mean \"Europe/Madrid\"?"]),
        ("\"ipico\"", "\"ipicoo\"", &[":6:", "did you mean \"ipico\"?"]),
        ("[keep]", "[kep]", &[":30:", "unknown key `kep`; did you mean \"keep\"?"]),
        ("linger", "lingre", &[":20:", "unknown key `upload.lingre`; did you mean \"linger\"?"]),
        (
            "name = \"finish\"",
            "name = \"finish\"\n\"cloud.url\" = \"http://127.0.0.1\"",
            &[":2:", "unknown key `cloud.url`"],
        ),
        ("[keep]", "[upload]", &[":30:", "[upload] is here twice (first in line 18)"]),
    ];
    let site = Site::new();
    for (right, wrong, parts) in cases {
        assert!(RIGHT.contains(right), "{right}");
        site.write(&RIGHT.replacen(right, wrong, 1));
        site.check(&[], &[]).is_one_line_with(&[parts, &["passbridge.toml"][..]].concat());
    }
}

#[test]
fn an_unknown_key_is_an_error_in_every_section() {
    let site = Site::new();
    for (section, key) in [
        ("name = \"finish\"", "colour"),
        ("[[decoder]]", "decoder[0].colour"),
        ("[cloud]", "cloud.colour"),
        ("[upload]", "upload.colour"),
        ("[passing]", "passing.colour"),
        ("[keep]", "keep.colour"),
        ("[status]", "status.colour"),
        ("[log]", "log.colour"),
    ] {
        site.write(&RIGHT.replacen(section, &format!("{section}\ncolour = \"red\""), 1));
        site.check(&[], &[]).is_one_line_with(&["passbridge.toml:", &format!("unknown key `{key}`"), "allowed here: "]);
    }
    site.write(&format!("{RIGHT}\n[uplaod]\nlinger = \"1s\"\n"));
    site.check(&[], &[]).is_one_line_with(&[":41:", "unknown key `uplaod`", "upload"]);
}

/// Whom the box tells, and a mat that must not be silent. It begins in line 41.
const MORE: &str = r#"
[notify]
on_state = "/usr/local/bin/siren"
webhook = "https://hooks.example.org/T0/secret"
led = "ACT"

[[expect]]
decoder = "mat"
from = "09:00"
to = "13:00"
quiet = "10m"
"#;

#[test]
fn every_wrong_value_about_telling_and_about_silent_mats_is_named() {
    let cases: &[(&str, &str, &[&str])] = &[
        ("[notify]", "[notify]\ncolour = 1", &[":42:", "unknown key `notify.colour`"]),
        ("\"/usr/local/bin/siren\"", "\"siren\"", &[":42:", "notify.on_state = \"siren\"", "full path"]),
        ("led = \"ACT\"", "led = \"../x\"", &[":44:", "notify.led = \"../x\"", "/sys/class/leds"]),
        ("https://hooks.example.org", "http://hooks.example.org", &[":43:", "notify.webhook", "must be https"]),
        ("https://hooks.example.org", "https://me:secret@hooks.example.org", &[":43:", "notify.webhook", "password"]),
        ("https://hooks.example.org", "hooks.example.org", &[":43:", "notify.webhook", "https://example.org/hook"]),
        ("\"https://hooks.example.org/T0/secret\"", "[\"https://x/secret\"]", &[":43:", "notify.webhook", "quotes"]),
        ("[[expect]]", "[[expect]]\ncolour = 1", &[":47:", "unknown key `expect[0].colour`"]),
        ("[[expect]]", "[expect]", &[":46:", "[[expect]]"]),
        ("decoder = \"mat\"", "decoder = \"mta\"", &[":47:", "expect[0].decoder = \"mta\"", "did you mean \"mat\"?"]),
        ("decoder = \"mat\"\n", "", &[":46:", "expect[0].decoder is missing"]),
        ("from = \"09:00\"", "from = \"9 am\"", &[":48:", "expect[0].from = \"9 am\"", "2026-12-06 09:00"]),
        ("from = \"09:00\"", "from = \"2026-12-06 09:00\"", &[":49:", "expect[0].to", "written like `from`"]),
        ("to = \"13:00\"", "to = \"09:00\"", &[":49:", "expect[0].to = \"09:00\"", "not be the same"]),
        ("to = \"13:00\"\n", "", &[":46:", "expect[0].to is missing"]),
        ("\"10m\"", "10", &[":50:", "write it as quiet = \"10m\""]),
        ("\"10m\"", "\"1s\"", &[":50:", "expect[0].quiet = \"1s\"", "from 10s to 24h"]),
    ];
    let site = Site::new();
    for (right, wrong, parts) in cases {
        assert!(MORE.contains(right), "{right}");
        site.write(&format!("{RIGHT}{}", MORE.replacen(right, wrong, 1)));
        let seen = site.check(&[], &[]);
        seen.is_one_line_with(&[parts, &["passbridge.toml"][..]].concat());
        assert!(!seen.text.contains("secret"), "the address of a webhook is a secret: {}", seen.text);
    }
    // Without quotes it is no TOML any more. The line says so and does not repeat the address.
    site.write(&format!("{RIGHT}{}", MORE.replacen("\"https://hooks.example.org/T0/secret\"", "https://x/secret", 1)));
    let seen = site.check(&[], &[]);
    seen.is_one_line_with(&[":43:"]);
    assert!(!seen.text.contains("secret"), "{}", seen.text);
}

#[test]
fn a_mistake_in_one_of_them_stops_only_that_one() {
    let site = Site::new();
    let broken = MORE.replacen("\"ACT\"", "7", 1).replacen("\"10m\"", "\"soon\"", 1);
    let second = "[[expect]]\ndecoder = \"mat\"\nfrom = \"22:00\"\nto = \"02:00\"\n";
    site.write(&format!("{RIGHT}{broken}\n{second}"));
    let options = LoadOptions { environment: Vec::new(), ..LoadOptions::new(site.path("passbridge.toml")) };
    let config = Config::load_what_is_right(&options).unwrap().config;
    assert_eq!(
        (config.decoders.len(), config.cloud.is_some(), config.expect.len(), config.faults.len()),
        (1, true, 1, 2)
    );
    assert_eq!(config.notify, NotifyConfig::default());
    site.write(&format!("{RIGHT}{MORE}"));
    let config = site.load(&[]).unwrap().config;
    assert_eq!((config.expect.len(), config.expect[0].quiet.as_secs()), (1, 600));
    assert!(!format!("{config:?}").contains("secret"), "the address of a webhook is in no debug output");
    let refused = site.load(&[("PASSBRIDGE__EXPECT__QUIET", "1m")]).err().unwrap();
    assert!(refused.contains("PASSBRIDGE__EXPECT__QUIET") && refused.contains("file only"), "{refused}");
}

#[test]
fn the_block_about_silent_mats_in_the_example_is_right() {
    let site = Site::new();
    let block =
        EXAMPLE.lines().skip_while(|line| *line != "#   [[expect]]").take_while(|line| line.starts_with("#   "));
    let block: String = block.map(|line| format!("{}\n", &line[4..])).collect();
    assert!(block.contains("quiet"), "{block}");
    site.write(&format!("{}\n{block}", RIGHT.replacen("name = \"mat\"", "name = \"finish-mat\"", 1)));
    assert_eq!(site.load(&[]).unwrap().config.expect.len(), 1);
}

#[test]
fn two_decoders_need_two_names_and_two_addresses() {
    let site = Site::new();
    let second = |name: &str, address: &str| {
        format!("{RIGHT}\n[[decoder]]\nname = \"{name}\"\nprotocol = \"ipico\"\naddress = \"{address}\"\n")
    };
    site.write(&second("mat", "tcp://127.0.0.1:10001"));
    site.check(&[], &[]).is_one_line_with(&[":42:", "decoder[1].name = \"mat\"", "unique"]);
    site.write(&second("spare", "tcp://127.0.0.1:10000"));
    site.check(&[], &[]).is_one_line_with(&[":44:", "decoder[1].address", "decoder `mat`"]);
    site.write(&second("spare", "tcp://127.0.0.1:10001"));
    assert_eq!(site.check(&[], &[]).code, 0);
    site.write(&format!("{RIGHT}\n[log2]\n"));
    site.check(&[], &[]).is_one_line_with(&["unknown key `log2`"]);
    site.write("name = \"finish\"\n");
    site.check(&[], &[]).is_one_line_with(&["decoder is missing", "[[decoder]]"]);
}

#[test]
fn locations_have_names_as_they_are_sent_and_devices_and_only_where_locations_are_sent() {
    let site = Site::new();
    let table = |protocol: &str, lines: &str| {
        let right = RIGHT.replace("\"ipico\"", &format!("\"{protocol}\""));
        right.replace("rewind = true", &format!("rewind = true\n[decoder.locations]\n{lines}"))
    };
    site.write(&table("mylaps", "\"10 km / Água.Sul\" = \"65A2\"\nStart = \"65A1\""));
    let config = site.load(&[]).unwrap().config;
    let routes: Vec<_> = config.routes().map(|route| (route.source.to_string(), route.device.unwrap())).collect();
    let source = |source: &str| source.to_owned();
    assert_eq!(
        routes,
        [(source("mat"), "65A1"), (source("mat/10 km / Água.Sul"), "65A2"), (source("mat/Start"), "65A1")],
        "names keep their case, blanks and dots"
    );
    assert!(site.check(&[], &[]).text.contains("location mat/Start: goes to device 65A1"));
    for (protocol, lines, parts) in [
        ("mylaps", "Start = \"65 A2\"", &[":11:", "decoder[0].locations.Start", "letters and digits"][..]),
        ("mylaps", "Start = 65E2", &[":11:", "decoder[0].locations.Start", "write it as Start = \"65E2\""]),
        ("mylaps", "Start = 6500", &[":11:", "decoder[0].locations.Start", "write it as Start = \"6500\""]),
        ("mylaps", "Start = true", &[":11:", "write it as Start = \"true\""]),
        ("mylaps", "Start = 2026-11-29", &[":11:", "write it as Start = \"2026-11-29\""]),
        ("mylaps", "10.5 = \"65A2\"", &[":11:", "decoder[0].locations.10", "a name with a point"]),
        ("mylaps", "\"\" = \"65A2\"", &["decoder[0].locations", "exactly as it is sent"]),
        ("mylaps", "Start = [1]", &[":11:", "decoder[0].locations.Start", "text"]),
        ("mylaps", &format!("Start = \"{KEY}\""), &[":11:", "decoder[0].locations.Start", "looks like the API key"]),
        ("ipico", "Start = \"65A2\"", &[":10:", "decoder[0].locations", "chronotrack, mylaps", "device_id"]),
    ] {
        site.write(&table(protocol, lines));
        site.check(&[], &[]).is_one_line_with(parts);
    }
    let many: String = (0..33).map(|at| format!("L{at} = \"65A1\"\n")).collect();
    site.write(&table("mylaps", &many));
    site.check(&[], &[]).is_one_line_with(&["decoder[0].locations", "at most 32"]);
    site.write(&RIGHT.replace("\"mat\"", "\"mat/Start\""));
    site.check(&[], &[]).is_one_line_with(&[":5:", "decoder[0].name = \"mat/Start\"", "no `/`"]);
}

#[test]
fn the_key_comes_from_a_file_the_environment_or_systemd_and_never_from_the_configuration() {
    let site = Site::new();
    let key = |variables: &[(&str, &str)]| {
        let loaded = site.load(variables)?;
        let key = loaded.config.cloud.unwrap().api_key.unwrap().expose_secret().to_owned();
        Ok::<_, String>((key, loaded.key_from.unwrap()))
    };
    assert_eq!(key(&[]).unwrap(), (KEY.to_owned(), site.path("api_key").display().to_string()), "the line end is off");
    let variable = ("PASSBRIDGE__CLOUD__API_KEY", "from-environment");
    assert_eq!(key(&[variable]).unwrap().0, "from-environment");
    fs::create_dir(site.path("credentials")).unwrap();
    write_secret(&site.path("credentials/api_key"), "from-systemd", 0o400);
    let directory = site.path("credentials");
    let credentials = ("CREDENTIALS_DIRECTORY", directory.to_str().unwrap());
    assert_eq!(key(&[credentials]).unwrap().0, KEY, "a file that is named and can be read goes first");
    site.write(&RIGHT.replace("api_key_file = \"DIR/api_key\"\n", ""));
    assert_eq!(key(&[credentials]).unwrap(), ("from-systemd".to_owned(), "systemd's credential api_key".to_owned()));
    write_secret(&site.path("credentials/api_key"), "", 0o400);
    let error = key(&[credentials]).unwrap_err();
    assert!(error.contains("cloud.api_key_file is missing") && error.contains("PASSBRIDGE__CLOUD__API_KEY"), "{error}");

    site.write(&RIGHT.replace("api_key_file = \"DIR/api_key\"", &format!("api_key = \"{KEY}\"")));
    site.check(&[], &[]).is_one_line_with(&[":14:", "cloud.api_key: the key must not be in this file", "api_key_file"]);
    site.write(&RIGHT.replace("DIR/api_key", KEY));
    site.check(&[], &[]).is_one_line_with(&[":14:", "cloud.api_key_file", "holds the key itself"]);
    site.write(&RIGHT.replace("https://127.0.0.1:1", &format!("https://user:{KEY}@127.0.0.1:1")));
    site.check(&[], &[]).is_one_line_with(&[":12:", "cloud.url", "without a user or password"]);
}

#[test]
fn the_token_of_the_page_comes_from_its_file_or_from_systemd() {
    let site = Site::new();
    let directory = site.path("credentials");
    fs::create_dir(&directory).unwrap();
    write_secret(&directory.join("token"), "from-systemd", 0o400);
    let credentials = ("CREDENTIALS_DIRECTORY", directory.to_str().unwrap());
    let token = |more: &str, variables: &[(&str, &str)]| {
        let beyond = format!("listen = \"0.0.0.0:8470\"\n{more}");
        site.write(&RIGHT.replace("listen = \"127.0.0.1:0\"\n", &beyond));
        let loaded = site.load(variables)?;
        Ok::<_, String>(loaded.config.status.token.unwrap().expose_secret().to_owned())
    };
    assert!(token("", &[]).unwrap_err().contains("token_file"), "beyond this box there is no page without one");
    assert_eq!(token("", &[credentials]).unwrap(), "from-systemd");
    write_secret(&site.path("token"), "from-file", 0o400);
    let file = format!("token_file = \"{}\"\n", site.path("token").display());
    assert_eq!(token(&file, &[credentials]).unwrap(), "from-file", "a file that is named and can be read goes first");
    fs::remove_file(site.path("token")).unwrap();
    assert_eq!(token(&file, &[credentials]).unwrap(), "from-systemd", "the service may not read the file");
    write_secret(&directory.join("token"), "\n", 0o400);
    assert!(token(&file, &[credentials]).unwrap_err().contains("status.token_file"));
    // A box without a token: systemd hands over what the unit sets where there is no file.
    site.write(RIGHT);
    let status = site.load(&[credentials]).unwrap().config.status;
    assert!(status.token.is_none() && status.token_file.is_none());
}

#[test]
fn a_key_file_that_is_no_use_is_named_with_the_reason() {
    let site = Site::new();
    let file = site.path("api_key");
    for (text, reason) in
        [("", "is empty"), ("\n \n", "is empty"), ("two words", "more than one word"), ("ключ", "plain")]
    {
        fs::write(&file, text).unwrap();
        site.check(&[], &[]).is_one_line_with(&[":14:", "cloud.api_key_file", reason]);
    }
    fs::write(&file, [0xff, 0xfe]).unwrap();
    site.check(&[], &[]).is_one_line_with(&["cloud.api_key_file", "no text"]);
    fs::write(&file, "x".repeat(100_000)).unwrap();
    site.check(&[], &[]).is_one_line_with(&["cloud.api_key_file", "too long"]);
    fs::remove_file(&file).unwrap();
    site.check(&[], &[]).is_one_line_with(&["cloud.api_key_file", "no such file"]);
    fs::create_dir(&file).unwrap();
    site.check(&[], &[]).is_one_line_with(&["cloud.api_key_file", "directory"]);
    let variable = ("PASSBRIDGE__CLOUD__API_KEY", "");
    site.check(&[], &[variable]).is_one_line_with(&["environment PASSBRIDGE__CLOUD__API_KEY", "is empty"]);
}

#[test]
fn a_key_file_that_everyone_can_read_is_a_warning_and_works() {
    let site = Site::new();
    write_secret(&site.path("api_key"), KEY, 0o644);
    let seen = site.check(&[], &[]);
    assert_eq!(seen.code, 0, "{}", seen.text);
    let warning = seen.text.lines().find(|line| line.starts_with("warn") && line.contains("api_key")).unwrap();
    assert!(warning.contains("644") && warning.contains("chmod 640"), "{warning}");
    write_secret(&site.path("api_key"), KEY, 0o640);
    assert!(!site.check(&[], &[]).text.contains("chmod"));
}

#[test]
fn files_that_are_not_there_or_no_text_are_said_to_be_so() {
    let site = Site::new();
    let config = site.path("passbridge.toml");
    fs::write(&config, b"name = \"a\"\nx = \"\xff\"\n").unwrap();
    site.check(&[], &[]).is_one_line_with(&["passbridge.toml:2:", "UTF-8"]);
    fs::remove_file(&config).unwrap();
    site.check(&[], &[]).is_one_line_with(&["passbridge.toml", "no such configuration file", "--config"]);
    fs::create_dir(&config).unwrap();
    site.check(&[], &[]).is_one_line_with(&["passbridge.toml", "directory"]);
}

#[test]
fn the_environment_goes_before_the_file_and_a_flag_before_both() {
    let site = Site::new();
    let variables =
        [("PASSBRIDGE__UPLOAD__BATCH_MAX", "7"), ("PASSBRIDGE__NAME", "42"), ("PASSBRIDGE__KEEP__DAYS", "3")];
    let config = site.load(&variables).unwrap().config;
    assert_eq!((config.upload.batch_max, config.name.as_str(), config.keep.days), (7, "42", 3));
    assert_eq!(config.upload.linger.as_millis(), 200, "the file still counts for the rest");

    site.check(&[], &[("PASSBRIDGE__UPLOAD__BATCH_MAX", "900")]).is_one_line_with(&[
        "environment PASSBRIDGE__UPLOAD__BATCH_MAX",
        "upload.batch_max = \"900\"",
        "from 1 to 500",
    ]);
    let unknown = site.check(&[], &[("PASSBRIDGE__UPLOAD__BATCHMAX", "9")]);
    unknown.is_one_line_with(&["environment PASSBRIDGE__UPLOAD__BATCHMAX", "unknown key `upload.batchmax`"]);
    for name in [
        "PASSBRIDGE__DECODER__0__NAME",
        "PASSBRIDGE__DECODER",
        "PASSBRIDGE__DECODER[0]__ADDRESS",
        "PASSBRIDGE__DECODER[-1]__ADDRESS",
        "PASSBRIDGE__DECODER.ADDRESS",
        "PASSBRIDGE__CLOUD.URL",
        "passbridge__decoder[0]__address",
    ] {
        let decoder = site.check(&[], &[(name, "tcp://127.0.0.9:9")]);
        decoder.is_one_line_with(&[&format!("environment {}", name.to_uppercase()), "not taken"]);
    }

    let options = LoadOptions {
        data_dir: Some("/flag".into()),
        environment: vec![("PASSBRIDGE__DATA_DIR".into(), "/environment".into())],
        ..LoadOptions::new(site.path("passbridge.toml"))
    };
    assert_eq!(Config::load(&options).unwrap().config.data_dir, Path::new("/flag"));
    let options = LoadOptions { listen: Some("nowhere".to_owned()), environment: Vec::new(), ..options };
    let error = Config::load(&options).err().unwrap().to_string();
    assert!(error.starts_with("flag --listen: status.listen = \"nowhere\""), "{error}");
}

#[test]
fn a_port_in_use_is_one_red_line_and_exit_78() {
    let site = Site::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (right, wrong) in
        [("127.0.0.1:0", address.clone()), ("tcp://127.0.0.1:10000", format!("tcp-listen://{address}"))]
    {
        site.write(&RIGHT.replace(right, &wrong));
        let seen = site.check(&[], &[]);
        let red: Vec<&str> = seen.text.lines().filter(|line| line.starts_with("FAIL")).collect();
        assert_eq!((seen.code, red.len()), (78, 1), "{}", seen.text);
        assert!(red[0].contains(&address) && red[0].contains("in use"), "{}", red[0]);
    }
}

#[test]
fn a_page_beyond_the_box_needs_a_token() {
    let site = Site::new();
    site.write(&RIGHT.replace("\"127.0.0.1:0\"", "\"0.0.0.0:0\"\ntoken_file = \"token\""));
    let config = site.load(&[]).unwrap().config;
    assert_eq!(config.status.token.unwrap().expose_secret(), KEY, "the file is found beside the configuration");
    site.write(&RIGHT.replace("\"127.0.0.1:0\"", "\"0.0.0.0:0\"\ntoken_file = \"none\""));
    site.check(&[], &[]).is_one_line_with(&[":36:", "status.token_file = \"none\"", "no such file"]);
    site.write(&RIGHT.replace("\"127.0.0.1:0\"", "\"off\""));
    assert_eq!(site.load(&[]).unwrap().config.status.listen, None);
}

#[test]
fn without_a_cloud_reads_are_kept_and_no_key_is_wanted() {
    let site = Site::new();
    let (start, rest) = RIGHT.split_once("[cloud]").unwrap();
    let (_, rest) = rest.split_once("[upload]").unwrap();
    site.write(&format!("{start}[upload]{rest}"));
    fs::remove_file(site.path("api_key")).unwrap();
    let seen = site.check(&["--connect"], &[]);
    assert!(seen.text.contains("nothing is uploaded"), "{}", seen.text);
    assert!(site.load(&[]).unwrap().config.cloud.is_none());
    site.write(&format!("{}[upload]{rest}", start.replace("rewind = true", "device_id = \"65A1\"")));
    site.check(&[], &[]).is_one_line_with(&["cloud is missing", "decoder `mat`"]);
}

#[test]
fn http_beyond_this_box_is_warned_of() {
    let site = Site::new();
    let warnings = |url: &str| {
        site.write(&RIGHT.replace("https://127.0.0.1:1/v0", url).replace("65A1", DEVICE));
        site.load(&[]).unwrap().warnings
    };
    assert!(warnings("http://api.runonrufus.com/v0")[0].contains("not https"));
    assert!(warnings("http://127.0.0.1:8480/v0").is_empty());
    assert!(warnings("http://localhost:8480").is_empty());
    assert!(warnings("http://[::1]:8480").is_empty());
}

#[test]
fn an_id_of_a_device_that_is_not_like_those_of_the_cloud_is_warned_of() {
    let site = Site::new();
    let warnings = |device: &str, place: &str| {
        let text = RIGHT.replace("65A1", DEVICE);
        site.write(&match place {
            "cloud" => RIGHT.replace("65A1", device),
            _ => text.replace("rewind = true", &format!("device_id = \"{device}\"")),
        });
        site.load(&[]).unwrap().warnings
    };
    for (place, named) in [("cloud", "cloud.device_id"), ("decoder", "decoder `mat`: device_id")] {
        for (device, said) in [("65A1000", "has 7"), (&DEVICE[1..], "has 63"), (&DEVICE.replace('A', "G"), "others")] {
            let warned = warnings(device, place);
            assert_eq!(warned.len(), 1, "{warned:?}");
            assert!(warned[0].contains(named) && warned[0].contains(said), "{warned:?}");
        }
        for device in [DEVICE, &DEVICE.to_lowercase()] {
            assert_eq!(warnings(device, place), [""; 0]);
        }
    }
}

#[test]
fn an_option_of_a_decoder_whose_meaning_was_not_clear_works_and_is_warned_of() {
    let site = Site::new();
    let set = |option: &str| {
        let decoder = "protocol = \"chronotrack\"\nset.time_format = ";
        site.write(&RIGHT.replace("protocol = \"ipico\"", &format!("{decoder}\"{option}\"")).replace("65A1", DEVICE));
        site.load(&[]).unwrap().warnings
    };
    let warned = set("unix");
    assert!(warned.len() == 1, "{warned:?}");
    for part in ["decoder `mat`", "`time_format` = `unix`", "`unix-utc`", "`unix-local`"] {
        assert!(warned[0].contains(part), "{part}: {warned:?}");
    }
    assert!(set("unix-local").is_empty() && set("unix-utc").is_empty() && set("iso").is_empty());
}

#[test]
fn an_option_of_a_decoder_that_has_no_effect_is_an_error() {
    let site = Site::new();
    let decoder = "protocol = \"lines\"\nset.pattern = '^(?<chip>\\w+),(?<epoch>\\S+)$'\nset.time_format = \"%T\"";
    site.write(&RIGHT.replace("protocol = \"ipico\"", decoder));
    site.check(&[], &[]).is_one_line_with(&["time_format", "has no effect", "no group `time`"]);
}

#[test]
fn a_zone_that_only_this_program_knows_is_taken() {
    let site = Site::new();
    for zone in ["US/Central", "GB", "Asia/Calcutta", "Europe/Kiev"] {
        site.write(&RIGHT.replace("Europe/Madrid", zone));
        assert_eq!(site.load(&[]).unwrap().config.decoders[0].timezone.iana_name(), Some(zone));
    }
    site.write(&RIGHT.replace("Europe/Madrid", "Europe/Nowhere"));
    site.check(&[], &[]).is_one_line_with(&["timezone", "Europe/Nowhere"]);
}

#[test]
fn check_as_json_says_the_same() {
    let site = Site::new();
    site.write(&RIGHT.replace("batch_max = 100", "batch_max = 0"));
    let seen = site.check(&["--json"], &[]);
    let lines: serde_json::Value = serde_json::from_str(&seen.text).unwrap();
    assert_eq!((seen.code, lines[0]["verdict"].as_str()), (78, Some("fail")));
    assert!(lines[0]["text"].as_str().unwrap().contains("from 1 to 500"));
}

#[test]
fn what_cannot_be_reached_is_red_and_exit_69() {
    let site = Site::new();
    // A port that was free a moment ago and that nobody listens on.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    site.write(&RIGHT.replace("127.0.0.1:10000", &free.to_string()));
    let seen = site.check(&["--connect"], &[]);
    assert_eq!(seen.code, 69, "{}", seen.text);
    let line = seen.text.lines().find(|line| line.starts_with("FAIL decoder mat:")).unwrap();
    let port = free.port();
    assert!(
        line.contains(&format!("the box at 127.0.0.1 is on, but nothing listens at port {port}: is the port right?")),
        "{line}"
    );
    assert!(line.contains("passbridge probe tcp://127.0.0.1)"), "{line}");
    let red = |what: &str| seen.text.lines().any(|line| line.starts_with(&format!("FAIL {what}")));
    assert!(red("decoder mat:") && red("device 65A1:"), "{}", seen.text);
}

#[tokio::test]
async fn check_tells_device_and_session_of_a_cloud_that_answers() {
    use passbridge::testing::sim::cloud::{DEVICE, SimCloud, SimCloudConfig};
    let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
    let decoder = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let site = std::sync::Arc::new(Site::new());
    let right = RIGHT
        .replace("https://127.0.0.1:1/v0", &cloud.url())
        .replace("65A1", DEVICE)
        .replace("127.0.0.1:10000", &decoder.local_addr().unwrap().to_string());
    site.write(&right);
    let check = async || {
        let site = std::sync::Arc::clone(&site);
        tokio::task::spawn_blocking(move || site.check(&["--connect"], &[])).await.unwrap()
    };
    let seen = check().await;
    assert_eq!(seen.code, 0, "{}", seen.text);
    assert!(seen.text.contains("warn session") && seen.text.contains("none is active"), "{}", seen.text);
    cloud.open_session(DEVICE, "10K");
    let seen = check().await;
    assert!(seen.text.contains("ok   session") && seen.text.contains("10K is active"), "{}", seen.text);
    fs::write(site.path("api_key"), "wrong").unwrap();
    let seen = check().await;
    assert!(seen.code == 78 && seen.text.contains("FAIL device"), "{}", seen.text);
}

/// The example with its files beside it, so that every key can be on.
fn example(site: &Site, text: &str) {
    let text = text.replace("/etc/passbridge/", "DIR/").replace("/var/lib/passbridge", "DIR/data");
    site.write(&text);
}

#[test]
fn the_shipped_example_is_right_as_it_is() {
    let site = Site::new();
    example(&site, EXAMPLE);
    let config = site.load(&[("PASSBRIDGE__CLOUD__API_KEY", KEY)]).unwrap().config;
    assert_eq!(config.decoders[0].address, Address::Tcp { host: "192.168.1.50".to_owned(), port: 10000 });
    assert_eq!(config.decoders[0].timezone.iana_name(), Some("Europe/Madrid"));
    let cloud = config.cloud.unwrap();
    assert_eq!((cloud.url.as_str(), cloud.session), ("https://api.runonrufus.com/v0", SessionMode::Active));
}

#[test]
fn every_key_of_the_example_that_is_off_may_be_on_and_shows_its_default() {
    let site = Site::new();
    let is_key = |line: &str| {
        let rest = line.strip_prefix("# ").unwrap_or_default();
        let (key, value) = rest.split_once(" = ").unwrap_or_default();
        let key_like = !key.is_empty() && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        key_like && !value.is_empty() || rest.starts_with('[')
    };
    let keys: Vec<&str> = EXAMPLE.lines().filter(|line| is_key(line)).collect();
    assert!(keys.len() >= 20, "{keys:?}");
    for key in &keys {
        example(&site, &EXAMPLE.replacen(key, &key[2..], 1));
        site.load(&[("PASSBRIDGE__CLOUD__API_KEY", KEY)]).unwrap_or_else(|error| panic!("{key}: {error}"));
    }
    let all: String =
        EXAMPLE.lines().map(|line| format!("{}\n", if is_key(line) { &line[2..] } else { line })).collect();
    example(&site, &all);
    let on = site.load(&[]).unwrap().config;
    example(&site, EXAMPLE);
    let off = site.load(&[("PASSBRIDGE__CLOUD__API_KEY", KEY)]).unwrap().config;
    assert_eq!(format!("{:?}", on.upload), format!("{:?}", off.upload));
    assert_eq!(format!("{:?}", on.keep), format!("{:?}", off.keep));
    assert_eq!(format!("{:?}", on.log), format!("{:?}", off.log));
    assert_eq!((on.passing.tag, on.passing.dead_time), (TagCode::Raw, off.passing.dead_time));
    assert_eq!(on.passing.zeros, off.passing.zeros);
    assert_eq!((on.status.listen, on.decoders[0].rewind), (off.status.listen, off.decoders[0].rewind));
    assert_eq!((on.cloud.as_ref().unwrap().header, off.cloud.unwrap().header), (KeyHeader::Both, KeyHeader::Both));
}

#[test]
fn the_key_is_in_no_debug_output() {
    let site = Site::new();
    let config = site.load(&[]).unwrap().config;
    assert!(!format!("{config:?}").contains(KEY));
}

#[test]
fn a_wrong_command_line_ends_with_64_and_help_with_0() {
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_passbridge")).args(arguments).output().unwrap();
        Seen::new(&output)
    };
    for wrong in [
        &[][..],
        &["race"],
        &["run", "--fast"],
        &["decode"],
        &["decode", "--protocol", "morse"],
        &["decode", "--protocol", "ipico", "--timezone", "Mars/Olympus"],
        &["decode", "--protocol", "ipico", "--set", "spede=9"],
        &["export", "--format", "xml"],
        &["simulate", "decoder", "--protocol", "ipico", "--rate", "NaN"],
    ] {
        let seen = run(wrong);
        assert_eq!(seen.code, 64, "{wrong:?}: {}", seen.text);
    }
    assert!(run(&["decode", "--protocol", "morse"]).text.contains("ipico"));
    assert_eq!(run(&["--help"]).code, 0);
    assert_eq!(run(&["-V"]).text.trim(), concat!("passbridge ", env!("CARGO_PKG_VERSION")));
    // A commit or what the packager said, and what an older version could not read.
    let seen = run(&["--version"]).text;
    let lines: Vec<&str> = seen.lines().collect();
    let [version, commit, format] = lines[..] else { panic!("{seen}") };
    assert_eq!(version, concat!("passbridge ", env!("CARGO_PKG_VERSION")));
    assert!(commit.strip_prefix("commit ").is_some_and(|commit| commit.len() >= 7), "{seen}");
    assert_eq!(format, "log format 2 (reads 1 to 2)");
}

#[test]
fn a_check_as_the_service_says_what_is_missing_for_it() {
    let run = |arguments: &[&str]| {
        Seen::new(&Command::new(env!("CARGO_BIN_EXE_passbridge")).args(arguments).output().unwrap())
    };
    // The unit says which configuration it is.
    let seen = run(&["check", "--service", "--config", "/etc/other.toml"]);
    assert_eq!(seen.code, 64, "{}", seen.text);
    if Path::new("/run/systemd/system").is_dir() {
        eprintln!("SKIPPED: systemd runs here, and the check would really be made");
        return;
    }
    let seen = run(&["check", "--service"]);
    assert_eq!(seen.code, 69, "{}", seen.text);
    assert!(seen.text.contains("needs systemd") && seen.text.contains("check --user USER"), "{}", seen.text);
}

#[test]
fn a_status_without_a_daemon_says_so_with_69() {
    let site = Site::new();
    let output = Command::new(env!("CARGO_BIN_EXE_passbridge"))
        .args(["status", "--config"])
        .arg(site.path("passbridge.toml"))
        .output()
        .unwrap();
    let seen = Seen::new(&output);
    assert_eq!((seen.code, seen.text.lines().count()), (69, 1), "{}", seen.text);
    assert!(seen.text.contains("does not run"), "{}", seen.text);
    // Whoever may not read the key may still ask for the status.
    fs::remove_file(site.path("api_key")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_passbridge"))
        .args(["status", "--config"])
        .arg(site.path("passbridge.toml"))
        .output()
        .unwrap();
    assert_eq!(Seen::new(&output).code, 69);
}

/// systemd looks a name up when the service starts, and drops it silently while the kernel module
/// is not loaded.
#[test]
fn the_unit_lets_the_service_use_a_serial_adapter_that_is_plugged_in_after_its_start() {
    let unit = include_str!("../../systemd/passbridge.service");
    for (number, what) in [(188, "ttyUSB"), (166, "ttyACM"), (204, "ttyAMA"), (4, "ttyS")] {
        assert!(unit.lines().any(|line| line == format!("DeviceAllow=char-{number} rw")), "{what} by number");
    }
}

/// A failure of the one that takes files over from the boot partition must not keep the box from reading.
#[test]
fn the_service_waits_for_the_boot_partition_and_does_not_need_it() {
    let import = include_str!("../../systemd/passbridge-import-boot.service");
    let service = include_str!("../../systemd/passbridge.service");
    assert!(import.lines().any(|line| line == "Before=passbridge.service"));
    assert!(import.lines().any(|line| line.starts_with("TimeoutStartSec=")), "the wait has an end");
    for need in ["Requires=", "BindsTo=", "Requisite=", "RequiredBy="] {
        assert!(!service.contains(need) && !import.contains(need), "{need}");
    }
}

/// `StateDirectory=` requires the mount of a disk that `/etc/fstab` names there: without that disk nothing would start. And
/// as the only place that the service may write, the directory would be a mount point itself, as if the disk were there.
#[test]
fn the_service_starts_without_the_disk_of_its_reads() {
    let service = include_str!("../../systemd/passbridge.service");
    assert!(!service.lines().any(|line| line.starts_with("StateDirectory=")));
    for needed in ["After=var-lib-passbridge.mount", "ReadWritePaths=/var/lib"] {
        assert!(service.lines().any(|line| line == needed), "{needed}");
    }
}

#[test]
fn systemd_accepts_the_unit() {
    let Ok(version) = Command::new("systemd-analyze").arg("--version").output() else {
        skip("systemd_accepts_the_unit", "systemd-analyze is not on this machine");
        return;
    };
    assert!(version.status.success());
    let dir = tempfile::tempdir().unwrap();
    for (name, unit) in [
        ("passbridge.service", include_str!("../../systemd/passbridge.service")),
        ("passbridge-import-boot.service", include_str!("../../systemd/passbridge-import-boot.service")),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, unit.replace("/usr/bin/passbridge", env!("CARGO_BIN_EXE_passbridge"))).unwrap();
        let verified = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path).output().unwrap();
        let said = String::from_utf8_lossy(&verified.stderr);
        assert!(verified.status.success() && !said.contains(name), "{said}");
    }
    // What docs/timer/notify.md adds for a LED does not weaken the rest.
    let with_led =
        [include_str!("../../systemd/passbridge.service"), include_str!("../../systemd/passbridge-led.conf")];
    let path = dir.path().join("with-led.service");
    fs::write(&path, with_led.concat().replace("/usr/bin/passbridge", env!("CARGO_BIN_EXE_passbridge"))).unwrap();
    let verified = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path).output().unwrap();
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success() && !said.contains("with-led"), "{said}");
    let secure = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--threshold=15"])
        .arg(&path)
        .output()
        .unwrap();
    assert!(secure.status.success(), "{}", String::from_utf8_lossy(&secure.stdout));
}

#[test]
fn the_configuration_in_the_readme_loads() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let (_, rest) = readme.split_once("```toml\n").expect("the README shows a configuration");
    let (shown, _) = rest.split_once("```").unwrap();
    let site = Site::new();
    site.write(shown);
    let loaded = site.load(&[("PASSBRIDGE__CLOUD__API_KEY", "ror-0")]).unwrap();
    assert_eq!(loaded.config.decoders.len(), 1);
    assert!(loaded.config.cloud.is_some());
}

/// One for each protocol at least, as a timer copies it.
#[test]
fn every_decoder_block_in_the_readme_loads() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/timer/decoders.md")).unwrap();
    let blocks = readme.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let decoders: String = blocks.filter(|block| block.starts_with("[[decoder]]")).collect();
    let site = Site::new();
    for options in [false, true] {
        // The options that are off are right, too.
        let text = if options { decoders.replace("\n# set.", "\nset.") } else { decoders.clone() };
        site.write(&format!("name = \"finish\"\ndata_dir = \"DIR/data\"\n\n{text}"));
        let shown: Vec<&str> =
            site.load(&[]).unwrap().config.decoders.iter().map(|decoder| decoder.protocol.name).collect();
        for spec in REGISTRY {
            assert!(shown.contains(&spec.name), "{} has no block", spec.name);
            let row = format!("\n| `{}` |", spec.name);
            assert!(readme.contains(&row), "{} has no row in the table of decoders", spec.name);
        }
    }
}
