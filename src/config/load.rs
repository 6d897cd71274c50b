//! From the layers to a [`Config`]: what each key means, its default and what it may be.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::tz::TimeZone;
use url::Url;

use super::layers::{ConfigError, Layers, Section, our_variables};
use super::secret::{self, Found, NoKey};
use super::{
    Address, ClockLimits, CloudConfig, Config, DecoderConfig, KeepConfig, KeyHeader, LogConfig, LogFormat,
    PassingConfig, SessionMode, StatusConfig, TagCode, UploadConfig, value,
};
use crate::decoders::{REGISTRY, Spec};
use crate::model::clock;

const DATA_DIR: &str = "/var/lib/passbridge";
/// Timing points of one decoder with a device of their own. Each is a decoder to the journal, with its own memory of what
/// it read (7 MB when that is full).
const LOCATIONS: usize = 32;
/// More decoders than a box has ports, cables and people for.
const DECODERS: usize = 32;
const KEY_VARIABLE: &str = "PASSBRIDGE__CLOUD__API_KEY";

const ROOT: &[&str] = &["name", "data_dir", "decoder", "cloud", "upload", "passing", "keep", "status", "log", "clock"];
const DECODER: &[&str] = &["name", "protocol", "address", "timezone", "device_id", "rewind", "locations", "set"];
// `api_key` is known so that it can be refused with the reason.
const CLOUD: &[&str] = &["url", "device_id", "api_key_file", "header", "session", "api_key"];
const UPLOAD: &[&str] = &["batch_max", "linger", "min_interval", "retry_max", "timeout", "settle", "create_after"];
const PASSING: &[&str] = &["bibs", "tag", "dead_time"];
const KEEP: &[&str] = &["days", "max_bytes"];
const STATUS: &[&str] = &["listen", "token_file"];
const LOG: &[&str] = &["level", "format"];
const CLOCK: &[&str] = &["note", "wrong", "wrong_by_reads"];

/// Where the configuration comes from.
#[derive(Clone)]
pub struct LoadOptions {
    /// The TOML file.
    pub file: PathBuf,
    /// Flag `--data-dir`.
    pub data_dir: Option<PathBuf>,
    /// Flag `--listen`.
    pub listen: Option<String>,
    /// All environment variables; those beginning `PASSBRIDGE__` and systemd's `CREDENTIALS_DIRECTORY` count.
    pub environment: Vec<(OsString, OsString)>,
    /// No key is looked for, and `cloud` stays `None`; `status` is what can be had of it: for commands that need neither,
    /// and must not need the right to read a secret.
    pub keyless: bool,
}

impl LoadOptions {
    /// `file` with the environment of this process, without flags.
    pub fn new(file: impl Into<PathBuf>) -> Self {
        Self {
            file: file.into(),
            data_dir: None,
            listen: None,
            environment: std::env::vars_os().collect(),
            keyless: false,
        }
    }

    fn layers(&self) -> Result<(Layers, Option<String>), ConfigError> {
        let mut variables = our_variables(&self.environment)?;
        // Taken out before anything is merged, so that no message about a value can show it.
        let key = variables.remove(KEY_VARIABLE);
        let mut flags = Vec::new();
        if let Some(dir) = &self.data_dir {
            let text = dir.to_str().ok_or_else(|| ConfigError::new("flag --data-dir", "must be UTF-8 text"))?;
            flags.push(("data_dir", "--data-dir", text.to_owned()));
        }
        if let Some(listen) = &self.listen {
            flags.push(("status.listen", "--listen", listen.clone()));
        }
        Ok((Layers::read(&self.file, &variables, &flags)?, key))
    }
}

/// A configuration and what should be said about it.
pub struct Loaded {
    /// The configuration, right as a whole.
    pub config: Config,
    /// What works but should be changed: one line each, for `check`, the log and the board.
    pub warnings: Vec<String>,
    /// Where the API key was found, for people; `None` without `[cloud]`.
    pub key_from: Option<String>,
}

impl Config {
    /// Merges the layers and judges every key.
    ///
    /// # Errors
    /// The first mistake found, as one line.
    pub fn load(options: &LoadOptions) -> Result<Loaded, ConfigError> {
        let (layers, key) = options.layers()?;
        let root = layers.root(ROOT)?;
        let mut warnings = Vec::new();
        let credentials = variable(&options.environment, "CREDENTIALS_DIRECTORY");
        let decoders = read_decoders(&root)?;
        for decoder in &decoders {
            let told = decoder.protocol.warnings(&decoder.set);
            warnings.extend(told.map(|warning| format!("decoder `{}`: {warning}", decoder.name)));
        }
        let keys = Keys { variable: key.as_deref(), credentials: credentials.as_deref() };
        let (cloud, status) = match options.keyless {
            true => {
                let none = StatusConfig { listen: None, token: None };
                (None, read_status(&root, credentials.as_deref(), &mut Vec::new()).unwrap_or(none))
            }
            false => {
                let credential = credentials.as_deref();
                (read_cloud(&root, &decoders, &keys, &mut warnings)?, read_status(&root, credential, &mut warnings)?)
            }
        };
        let (cloud, key_from) = cloud.map_or((None, None), |(cloud, from)| (Some(cloud), Some(from)));
        if cloud.is_none() && key.is_some() && !options.keyless {
            warnings.push(format!("{KEY_VARIABLE} is set but [cloud] is not: reads are kept and nothing is uploaded"));
        }
        let config = Self {
            name: root.parse("name", value::name)?.unwrap_or_else(|| "passbridge".to_owned()),
            data_dir: root.path("data_dir")?.unwrap_or_else(|| PathBuf::from(DATA_DIR)),
            decoders,
            cloud,
            upload: read_upload(&root)?,
            passing: read_passing(&root)?,
            keep: read_keep(&root)?,
            status,
            log: read_log(&root)?,
        };
        Ok(Loaded { config, warnings, key_from })
    }
}

fn variable(environment: &[(OsString, OsString)], name: &str) -> Option<PathBuf> {
    environment.iter().find(|(variable, _)| variable == name).map(|(_, value)| PathBuf::from(value))
}

fn read_decoders(root: &Section<'_>) -> Result<Vec<DecoderConfig>, ConfigError> {
    let sections = root.sections("decoder", DECODER)?;
    if sections.is_empty() {
        return Err(root.missing("decoder", "at least one [[decoder]] section with name, protocol and address"));
    }
    if sections.len() > DECODERS {
        return Err(root.wrong("decoder", format!("must be at most {DECODERS} decoders")));
    }
    let clock = read_clock(root)?;
    let mut decoders: Vec<DecoderConfig> = Vec::with_capacity(sections.len());
    for section in sections {
        let decoder = DecoderConfig { clock, ..read_decoder(&section)? };
        if decoders.iter().any(|other| other.name == decoder.name) {
            return Err(section.wrong("name", "must be unique, and another decoder has this name already"));
        }
        // Port 0 is whatever port is free, so twice 0 is not twice the same.
        let any_port = matches!(decoder.address, Address::Listen(address) if address.port() == 0);
        let same = |other: &&DecoderConfig| !any_port && same_place(&other.address, &decoder.address);
        if let Some(other) = decoders.iter().find(same) {
            let why = format!("is the address of decoder `{}` already; every read would come twice", other.name);
            return Err(section.wrong("address", why));
        }
        decoders.push(decoder);
    }
    Ok(decoders)
}

fn same_place(a: &Address, b: &Address) -> bool {
    match (a, b) {
        (Address::Serial { path: a, .. }, Address::Serial { path: b, .. }) => a == b,
        _ => a == b,
    }
}

fn read_decoder(section: &Section<'_>) -> Result<DecoderConfig, ConfigError> {
    let name = section.parse("name", value::decoder_name)?;
    let name = name.ok_or_else(|| section.missing("name", "a unique name such as \"finish-mat\""))?;
    let protocol = section.parse("protocol", protocol)?;
    let protocol = protocol.ok_or_else(|| section.missing("protocol", format!("one of {}", protocol_names())))?;
    let address = section.parse("address", str::parse::<Address>)?;
    let address = address.ok_or_else(|| {
        section.missing(
            "address",
            format!("such as \"tcp://192.168.1.50:{}\" or \"serial:///dev/ttyUSB0?baud=9600\"", protocol.port),
        )
    })?;
    let set = section.texts("set")?;
    (protocol.make)(&set).map_err(|error| {
        // An option may be a decoder's password.
        let value = if error.key.contains("pass") { "(hidden)".to_owned() } else { format!("{:?}", error.value) };
        let allowed = format!("`{}` = {value} does not fit {}: {}", error.key, protocol.name, error.allowed);
        section.wrong_inside("set", &error.key, allowed)
    })?;
    let zone = section.parse("timezone", zone)?;
    Ok(DecoderConfig {
        name,
        protocol,
        address,
        zone_given: zone.is_some(),
        timezone: zone.unwrap_or(TimeZone::UTC),
        clock: ClockLimits::default(),
        device_id: section.parse("device_id", device_id)?,
        rewind: section.flag("rewind")?.unwrap_or(true),
        locations: read_locations(section, protocol)?,
        set,
    })
}

/// `[clock]`
fn read_clock(root: &Section<'_>) -> Result<ClockLimits, ConfigError> {
    let default = ClockLimits::default();
    let Some(section) = root.section("clock", CLOCK)? else { return Ok(default) };
    let limits = ClockLimits {
        note: read_duration(&section, "note", 100, 3_600_000)?.unwrap_or(default.note),
        wrong: read_duration(&section, "wrong", 100, 3_600_000)?.unwrap_or(default.wrong),
        wrong_by_reads: read_duration(&section, "wrong_by_reads", 100, 3_600_000)?.unwrap_or(default.wrong_by_reads),
    };
    if limits.note > limits.wrong {
        return Err(section.wrong("note", "must not be more than `wrong`: a clock is noted before it counts as wrong"));
    }
    Ok(limits)
}

/// `[decoder.locations]`: `"name as sent" = "device"`.
fn read_locations(section: &Section<'_>, protocol: &Spec) -> Result<BTreeMap<String, String>, ConfigError> {
    let locations = section.texts("locations")?;
    if !locations.is_empty() && !protocol.locations {
        let those: Vec<_> = REGISTRY.iter().filter(|spec| spec.locations).map(|spec| spec.name).collect();
        let why = format!("{} sends no names of timing points ({} do): use device_id", protocol.name, those.join(", "));
        return Err(section.wrong_secret("locations", why));
    }
    if locations.len() > LOCATIONS {
        return Err(section.wrong_secret("locations", format!("must be at most {LOCATIONS} locations")));
    }
    for (location, device) in &locations {
        value::name(location)
            .map_err(|must| format!("the name of a timing point, exactly as it is sent, {must}"))
            .and_then(|_| match secret::looks_like_key(device) {
                true => Err("must be the device's id, and this looks like the API key".to_owned()),
                false => device_id(device),
            })
            .map_err(|must| section.wrong_inside("locations", location, must))?;
    }
    Ok(locations)
}

fn protocol_names() -> String {
    REGISTRY.iter().map(|spec| spec.name).collect::<Vec<_>>().join(", ")
}

/// The registry line of a protocol, or what names there are.
pub(crate) fn protocol(name: &str) -> Result<&'static Spec, String> {
    crate::decoders::spec(name).ok_or_else(|| format!("must be one of {}", protocol_names()))
}

/// A zone of the IANA database, or what is expected.
pub(crate) fn zone(name: &str) -> Result<TimeZone, String> {
    clock::zone(name).ok_or_else(|| {
        "must be a zone of the IANA database such as \"Europe/Madrid\" or \"UTC\" (the zone the decoder's clock is set to)".to_owned()
    })
}

fn device_id(text: &str) -> Result<String, String> {
    // It becomes a part of a URL's path. Opaque otherwise: the cloud's samples are 64 hex digits.
    let fits = !text.is_empty()
        && text.len() <= 256
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b));
    if fits {
        Ok(text.to_owned())
    } else {
        Err("must be the device's id as the RUFUS Cloud shows it: letters and digits".to_owned())
    }
}

struct Keys<'a> {
    variable: Option<&'a str>,
    credentials: Option<&'a Path>,
}

fn read_cloud(
    root: &Section<'_>,
    decoders: &[DecoderConfig],
    keys: &Keys<'_>,
    warnings: &mut Vec<String>,
) -> Result<Option<(CloudConfig, String)>, ConfigError> {
    let Some(section) = root.section("cloud", CLOUD)? else {
        let has_device = |decoder: &&DecoderConfig| decoder.device_id.is_some() || !decoder.locations.is_empty();
        if let Some(decoder) = decoders.iter().find(has_device) {
            let needed = format!(
                "decoder `{}` has a device_id, so a [cloud] section with url must say where it is",
                decoder.name
            );
            return Err(root.missing("cloud", needed));
        }
        return Ok(None);
    };
    if section.has("api_key") {
        let why = format!(
            "the key must not be in this file, which gets copied and shown: put it alone into a file of mode 640 and set api_key_file, or set {KEY_VARIABLE}"
        );
        return Err(section.wrong_secret("api_key", why));
    }
    let url = read_url(&section, warnings)?;
    let device = section.parse("device_id", device_id)?;
    if let (None, Some(decoder)) = (&device, decoders.iter().find(|decoder| decoder.device_id.is_none())) {
        let needed = format!("the device that passings go to; decoder `{}` names none of its own", decoder.name);
        return Err(section.missing("device_id", needed));
    }
    let header = section.parse("header", |text| match text {
        "x-api-key" => Ok(KeyHeader::XApiKey),
        "api_key" => Ok(KeyHeader::ApiKey),
        "both" => Ok(KeyHeader::Both),
        _ => Err("must be \"x-api-key\", \"api_key\" or \"both\"".to_owned()),
    })?;
    let session = section.parse("session", |text| match text {
        "active" => Ok(SessionMode::Active),
        "create" => Ok(SessionMode::Create),
        _ => {
            Err("must be \"active\" (follow the active session) or \"create\" (open one when there is none)".to_owned())
        }
    })?;
    let key = read_key(&section, keys)?;
    warnings.extend(key.warning);
    let cloud = CloudConfig {
        url,
        device_id: device,
        api_key: key.secret,
        api_key_file: key.file,
        header: header.unwrap_or(KeyHeader::Both),
        session: session.unwrap_or(SessionMode::Active),
    };
    Ok(Some((cloud, key.from)))
}

fn read_key(section: &Section<'_>, keys: &Keys<'_>) -> Result<Found, ConfigError> {
    let file = section.path("api_key_file")?;
    secret::api_key(keys.variable, file.as_deref(), keys.credentials).map_err(|why| match why {
        NoKey::Environment(what) => {
            ConfigError::new(format!("environment {KEY_VARIABLE}"), format!("the value {what}"))
        }
        NoKey::File(path, why) if section.has("api_key_file") => section.wrong(
            "api_key_file",
            format!("{why} ({}); it must be a file with the key of the RUFUS Cloud in it", path.display()),
        ),
        NoKey::File(path, why) => {
            section.missing("api_key_file", format!("and the key's usual file {} is no use: {why}", path.display()))
        }
        NoKey::Nowhere => {
            let usual = secret::USUAL_KEY_FILE;
            section.missing(
                "api_key_file",
                format!(
                    "put the key of the RUFUS Cloud into {usual}, or name another file here, or set {KEY_VARIABLE}"
                ),
            )
        }
    })
}

fn read_url(section: &Section<'_>, warnings: &mut Vec<String>) -> Result<Url, ConfigError> {
    let must = "must be an address such as \"https://api.runonrufus.com/v0\"";
    let parse = |text: &str| {
        let url = Url::parse(text).map_err(|error| format!("{must} ({error})"))?;
        let plain = url.query().is_none() && url.fragment().is_none();
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() || !plain {
            return Err(format!("{must}: https (or http), a host, a path, nothing after it"));
        }
        Ok(url)
    };
    let mut url = match section.parse("url", parse) {
        // `https://user:password@host` may be a secret even where the rest is wrong.
        Err(_) if section.text_has("url", '@') => {
            Err(section.wrong_secret("url", format!("{must}, without a user or password in it")))
        }
        Ok(Some(url)) if !url.username().is_empty() || url.password().is_some() => {
            Err(section.wrong_secret("url", format!("{must}, without a user or password in it")))
        }
        Ok(Some(url)) => Ok(url),
        Ok(None) => Err(section.missing("url", must)),
        Err(error) => Err(error),
    }?;
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    let loopback = match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    };
    if url.scheme() == "http" && !loopback {
        warnings.push(format!("cloud.url {url} is not https: the API key goes over the network for everyone to read"));
    }
    Ok(url)
}

fn read_duration(section: &Section<'_>, key: &str, low_ms: u64, high_ms: u64) -> Result<Option<Duration>, ConfigError> {
    let allowed = Duration::from_millis(low_ms)..=Duration::from_millis(high_ms);
    section.parse(key, |text| value::duration(text, &allowed))
}

fn read_upload(root: &Section<'_>) -> Result<UploadConfig, ConfigError> {
    let section = root.section_or_empty("upload", UPLOAD)?;
    let default = UploadConfig::default();
    Ok(UploadConfig {
        batch_max: section.number("batch_max", 1..=500)?.map_or(default.batch_max, |number| number as usize),
        linger: read_duration(&section, "linger", 0, 10_000)?.unwrap_or(default.linger),
        min_interval: read_duration(&section, "min_interval", 0, 60_000)?.unwrap_or(default.min_interval),
        retry_max: read_duration(&section, "retry_max", 1000, 3_600_000)?.unwrap_or(default.retry_max),
        timeout: read_duration(&section, "timeout", 1000, 300_000)?.unwrap_or(default.timeout),
        settle: read_duration(&section, "settle", 1000, 600_000)?.unwrap_or(default.settle),
        create_after: read_duration(&section, "create_after", 30_000, 3_600_000)?.unwrap_or(default.create_after),
    })
}

fn read_passing(root: &Section<'_>) -> Result<PassingConfig, ConfigError> {
    let section = root.section_or_empty("passing", PASSING)?;
    let default = PassingConfig::default();
    let bibs = section.path("bibs")?;
    // The daemon reports a broken list and goes on with the last good one; a wrong name is a mistake of the file here.
    if let Some(path) = &bibs
        && let Err(error) = std::fs::File::open(path)
    {
        return Err(section.wrong("bibs", format!("must be a CSV file chip,bib that can be read: {error}")));
    }
    let tag = section.parse("tag", |text| match text {
        "raw" => Ok(TagCode::Raw),
        "rufus" => Ok(TagCode::Rufus),
        _ => Err("must be \"raw\" (the chip code as sent) or \"rufus\" (open RUFUS tags)".to_owned()),
    })?;
    Ok(PassingConfig {
        bibs,
        tag: tag.unwrap_or(default.tag),
        dead_time: read_duration(&section, "dead_time", 0, 86_400_000)?.unwrap_or(default.dead_time),
    })
}

fn read_keep(root: &Section<'_>) -> Result<KeepConfig, ConfigError> {
    let section = root.section_or_empty("keep", KEEP)?;
    let default = KeepConfig::default();
    Ok(KeepConfig {
        days: section.number("days", 0..=36_500)?.map_or(default.days, |days| days as u32),
        max_bytes: section.parse("max_bytes", |text| value::size(text, 1_000_000))?.unwrap_or(default.max_bytes),
    })
}

/// `[status]`. The token is in `token_file`, else in systemd's credential `token`: a file that only root may read is handed to
/// the service that way.
fn read_status(
    root: &Section<'_>,
    credentials: Option<&Path>,
    warnings: &mut Vec<String>,
) -> Result<StatusConfig, ConfigError> {
    let section = root.section_or_empty("status", STATUS)?;
    let listen = section.parse("listen", |text| match text {
        "off" => Ok(None),
        _ => value::listen_address(text).map(Some).map_err(|must| format!("{must}, or \"off\"")),
    })?;
    let listen = listen.unwrap_or(StatusConfig::default().listen);
    let handed = || secret::from_file(&credentials?.join("token")).ok().map(|found| found.secret);
    let token = match section.path("token_file")? {
        None => handed(),
        Some(path) => match (secret::from_file(&path), handed()) {
            (Ok(found), _) => {
                warnings.extend(found.warning);
                Some(found.secret)
            }
            (Err(_), Some(token)) => Some(token),
            (Err(why), None) => return Err(section.wrong("token_file", format!("{why} ({})", path.display()))),
        },
    };
    let beyond = |address: SocketAddr| !address.ip().is_loopback();
    if token.is_none() && listen.is_some_and(beyond) {
        let why = "is beyond this box, so token_file must name a file with the token that clients show; else listen on 127.0.0.1";
        return Err(section.wrong("listen", why));
    }
    Ok(StatusConfig { listen, token })
}

fn read_log(root: &Section<'_>) -> Result<LogConfig, ConfigError> {
    let section = root.section_or_empty("log", LOG)?;
    let default = LogConfig::default();
    let format = section.parse("format", |text| match text {
        "auto" => Ok(LogFormat::Auto),
        "human" => Ok(LogFormat::Human),
        "plain" => Ok(LogFormat::Plain),
        "json" => Ok(LogFormat::Json),
        _ => Err("must be \"auto\", \"human\", \"plain\" or \"json\"".to_owned()),
    })?;
    Ok(LogConfig {
        level: section.parse("level", super::value::level)?.unwrap_or(default.level),
        format: format.unwrap_or(default.format),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_shows_every_key_there_is() {
        let example = include_str!("../../config/passbridge.toml");
        let keys = [DECODER, CLOUD, UPLOAD, PASSING, KEEP, STATUS, LOG].concat();
        for key in keys.iter().filter(|key| !matches!(**key, "api_key" | "set" | "locations")) {
            let shown = |line: &str| line.trim_start_matches("# ").starts_with(&format!("{key} = "));
            assert!(example.lines().any(shown), "{key}");
        }
        for section in ROOT.iter().filter(|key| !matches!(**key, "name" | "data_dir")) {
            assert!(example.contains(&format!("[{section}]")), "{section}");
        }
        for protocol in REGISTRY {
            assert!(example.contains(protocol.name), "{}", protocol.name);
        }
    }
}
