//! Makes a [`Config`] from the layers: what each key means, its default, and what is allowed.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::tz::TimeZone;
use url::Url;

use super::device::{device_id, unusual_devices};
use super::expect::read_expect;
use super::layers::{ConfigError, Layers, Section, our_variables, read_text};
use super::nearest::did_you_mean;
use super::notify::{NotifyConfig, read_notify};
use super::secret::{self, Found, NoKey};
use super::settings::Terms;
use super::{
    Address, ChipZeros, ClockLimits, CloudConfig, Config, DecoderConfig, Fault, KeepConfig, KeyHeader, LeftOut,
    LogConfig, LogFormat, Part, PassingConfig, SessionMode, StatusConfig, TagCode, UploadConfig, value,
};
use crate::decoders::{REGISTRY, Spec};
use crate::model::{clock, source};

const NAME: &str = "passbridge";
pub(super) const DATA_DIR: &str = "/var/lib/passbridge";
/// Most locations of one decoder that have a device of their own. The journal treats each like a
/// decoder, with its own memory of what it read (7 MB when that is full).
const LOCATIONS: usize = 32;
/// More decoders than a box has ports, cables and people for.
const DECODERS: usize = 32;
pub(super) const KEY_VARIABLE: &str = "PASSBRIDGE__CLOUD__API_KEY";

const ROOT: &[&str] = &[
    "name", "data_dir", "decoder", "cloud", "upload", "passing", "keep", "status", "log", "clock", "notify", "expect",
];
const DECODER: &[&str] = &["name", "protocol", "address", "timezone", "device_id", "rewind", "locations", "set"];
// `api_key` is a known key so that it can be refused with the reason.
const CLOUD: &[&str] = &["url", "device_id", "api_key_file", "header", "session", "api_key"];
const UPLOAD: &[&str] = &["batch_max", "linger", "min_interval", "retry_max", "timeout", "settle", "create_after"];
const PASSING: &[&str] = &["bibs", "tag", "zeros", "dead_time"];
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
    /// All environment variables. Only `PASSBRIDGE__…` and systemd's `CREDENTIALS_DIRECTORY` count.
    pub environment: Vec<(OsString, OsString)>,
    /// No key is looked for, `cloud` stays `None`, and mistakes in `status` are ignored. This is
    /// for commands that need neither and must not need the right to read a secret.
    pub keyless: bool,
    /// The content of `file`, for a text that is checked before it is written there. `None`: the
    /// file is read.
    pub text: Option<String>,
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
            text: None,
        }
    }

    fn layers(&self) -> Result<(Layers, Option<String>), ConfigError> {
        let mut variables = our_variables(&self.environment)?;
        // The key is removed before anything is merged, so that no message about a value can show
        // it.
        let key = variables.remove(KEY_VARIABLE);
        let mut flags = Vec::new();
        if let Some(dir) = &self.data_dir {
            let text = dir.to_str().ok_or_else(|| ConfigError::new("flag --data-dir", "must be UTF-8 text"))?;
            flags.push(("data_dir", "--data-dir", text.to_owned()));
        }
        if let Some(listen) = &self.listen {
            flags.push(("status.listen", "--listen", listen.clone()));
        }
        let text = match &self.text {
            Some(text) => text.clone(),
            None => read_text(&self.file)?,
        };
        Ok((Layers::read(&self.file, &text, &variables, &flags)?, key))
    }
}

/// A configuration, and what people should be told about it.
pub struct Loaded {
    /// The configuration, right as a whole.
    pub config: Config,
    /// What works but should be changed, one line each, for `check`, the log and the board.
    pub warnings: Vec<String>,
    /// Where the API key was found, in words. `None` without `[cloud]` or without a key.
    pub key_from: Option<String>,
}

/// The mistakes that were found while the rest was read.
#[derive(Default)]
struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, part: Part, about: &str, error: ConfigError) {
        self.0.push(Fault { part, about: about.to_owned(), error });
    }

    /// The value that was read, or what replaces it until the mistake is corrected.
    fn or<T>(&mut self, part: Part, read: Result<T, ConfigError>, instead: impl FnOnce() -> T) -> T {
        read.unwrap_or_else(|error| {
            self.add(part, "", error);
            instead()
        })
    }

    fn hold_the_upload(&self) -> bool {
        self.0.iter().any(|fault| fault.part == Part::Upload)
    }
}

impl Config {
    /// Merges the layers and checks every key.
    ///
    /// # Errors
    /// The first mistake found, as one line.
    pub fn load(options: &LoadOptions) -> Result<Loaded, ConfigError> {
        let loaded = Self::load_what_is_right(options)?;
        match loaded.config.faults.first() {
            Some(fault) => Err(fault.error.clone()),
            None => Ok(loaded),
        }
    }

    /// Like [`Config::load`], for the box that reads its decoders whatever else is wrong. Each
    /// mistake is one of [`Config::faults`], and the part that it is about waits. What replaces a
    /// wrong value never does harm: no upload with settings that nobody meant, no read that is
    /// removed too early, no page that is open to everybody.
    ///
    /// # Errors
    /// The file cannot be understood at all, or it does not say where reads are to be kept.
    pub fn load_what_is_right(options: &LoadOptions) -> Result<Loaded, ConfigError> {
        let (mut layers, key) = options.layers()?;
        let mut faults = Faults::default();
        for refused in std::mem::take(&mut layers.refused) {
            faults.add(Part::Other, "", refused);
        }
        let (root, strangers) = layers.root(ROOT);
        for stranger in strangers {
            // It may be a section with its name misspelt, and it is not known which one was meant.
            faults.add(Part::Upload, "", stranger);
        }
        let mut warnings = Vec::new();
        let credentials = variable(&options.environment, "CREDENTIALS_DIRECTORY");
        let (decoders, left_out) = read_decoders(&root, &mut faults);
        for decoder in &decoders {
            let told = decoder.protocol.warnings(&decoder.set);
            warnings.extend(told.map(|warning| format!("decoder `{}`: {warning}", decoder.name)));
        }
        let keys = Keys { variable: key.as_deref(), credentials: credentials.as_deref() };
        let credential = credentials.as_deref();
        let (mut cloud, status) = match options.keyless {
            true => (None, read_status(&root, credential, &mut Faults::default(), &mut Vec::new())),
            false => (
                read_cloud(&root, (&decoders, &left_out), &keys, &mut faults, &mut warnings),
                read_status(&root, credential, &mut faults, &mut warnings),
            ),
        };
        let upload = faults.or(Part::Upload, read_upload(&root), UploadConfig::default);
        let passing = read_passing(&root, &mut faults);
        if faults.hold_the_upload() {
            cloud = None;
        }
        let (cloud, key_from) = cloud.map_or((None, None), |(cloud, from)| (Some(cloud), from));
        if cloud.is_none() && key.is_some() && !options.keyless && !root.has("cloud") {
            warnings.push(format!("{KEY_VARIABLE} is set but [cloud] is not: reads are kept and nothing is uploaded"));
        }
        if let Some(cloud) = &cloud {
            warnings.extend(unusual_devices(cloud, &decoders));
        }
        let notify = faults.or(Part::Notify, read_notify(&root), NotifyConfig::default);
        let (expect, wrong) = read_expect(&root, &sources(&decoders, &left_out));
        wrong.into_iter().for_each(|error| faults.add(Part::Expect, "", error));
        let name = root.parse("name", value::name).map(|name| name.unwrap_or_else(|| NAME.to_owned()));
        let config = Self {
            name: faults.or(Part::Other, name, || NAME.to_owned()),
            data_dir: root.path("data_dir")?.unwrap_or_else(|| PathBuf::from(DATA_DIR)),
            decoders,
            cloud,
            upload,
            passing,
            keep: faults.or(Part::Keep, read_keep(&root), KeepConfig::everything),
            status,
            log: faults.or(Part::Other, read_log(&root), LogConfig::default),
            notify,
            expect,
            left_out,
            faults: faults.0,
        };
        Ok(Loaded { config, warnings, key_from })
    }
}

pub(super) fn variable(environment: &[(OsString, OsString)], name: &str) -> Option<PathBuf> {
    environment.iter().find(|(variable, _)| variable == name).map(|(_, value)| PathBuf::from(value))
}

fn read_decoders(root: &Section<'_>, faults: &mut Faults) -> (Vec<DecoderConfig>, Vec<LeftOut>) {
    let (mut decoders, mut left_out): (Vec<DecoderConfig>, Vec<LeftOut>) = (Vec::new(), Vec::new());
    let mut sections = match root.sections("decoder", DECODER) {
        Ok(sections) => sections,
        Err(error) => {
            faults.add(Part::Decoder, "", error);
            return (decoders, left_out);
        }
    };
    if sections.is_empty() {
        let error = root.missing("decoder", "at least one [[decoder]] section with name, protocol and address");
        faults.add(Part::NoDecoder, "", error);
    }
    if sections.len() > DECODERS {
        let error =
            root.wrong("decoder", format!("must be at most {DECODERS} decoders; those after them are not read"));
        faults.add(Part::Decoder, "", error);
        sections.truncate(DECODERS);
    }
    let clock = faults.or(Part::Other, read_clock(root), ClockLimits::default);
    for section in sections {
        let read =
            read_decoder(&section, clock).and_then(|decoder| has_a_place_of_its_own(&section, decoder, &decoders));
        match read {
            Ok(decoder) => decoders.push(decoder),
            Err(error) => {
                let taken =
                    |name: &str| decoders.iter().any(|it| it.name == name) || left_out.iter().any(|it| it.name == name);
                let one = read_left_out(&section, taken);
                faults.add(Part::Decoder, &one.name, error);
                left_out.push(one);
            }
        }
    }
    (decoders, left_out)
}

/// The names of all decoders and of their locations, also of those whose section is wrong.
fn sources(decoders: &[DecoderConfig], left_out: &[LeftOut]) -> Vec<String> {
    let of = |name: &str, locations: Option<&BTreeMap<String, String>>| {
        let located = locations.into_iter().flatten().map(|(location, _)| source::name(name, location).into());
        std::iter::once(name.to_owned()).chain(located).collect::<Vec<_>>()
    };
    let read = decoders.iter().flat_map(|decoder| of(&decoder.name, Some(&decoder.locations)));
    let named = left_out.iter().filter(|decoder| decoder.named);
    read.chain(named.flat_map(|decoder| of(&decoder.name, decoder.terms.as_ref().map(|terms| &terms.locations))))
        .collect()
}

/// Checks that no other decoder has its name or its address.
fn has_a_place_of_its_own(
    section: &Section<'_>,
    decoder: DecoderConfig,
    others: &[DecoderConfig],
) -> Result<DecoderConfig, ConfigError> {
    if others.iter().any(|other| other.name == decoder.name) {
        return Err(section.wrong("name", "must be unique, and another decoder has this name already"));
    }
    let address = &decoder.address;
    // Port 0 means any free port, so two decoders with port 0 do not have the same port.
    let any_port = matches!(address, Address::Listen(address) if address.port() == 0);
    let same = |other: &&DecoderConfig| !any_port && same_place(&other.address, address);
    if let Some(other) = others.iter().find(same) {
        let why = format!("is the address of decoder `{}` already; every read would come twice", other.name);
        return Err(section.wrong("address", why));
    }
    Ok(decoder)
}

/// What is known about a decoder whose section is wrong.
fn read_left_out(section: &Section<'_>, taken: impl Fn(&str) -> bool) -> LeftOut {
    let terms = || {
        Some(Terms {
            timezone: section.parse("timezone", zone).ok()?.unwrap_or(TimeZone::UTC),
            device_id: section.parse("device_id", device_id).ok()?,
            locations: read_locations(section, None).ok()?,
        })
    };
    match section.parse("name", value::decoder_name) {
        Ok(Some(name)) if !taken(&name) => LeftOut { name, named: true, terms: terms() },
        _ => LeftOut { name: section.path_text().to_owned(), named: false, terms: None },
    }
}

fn same_place(a: &Address, b: &Address) -> bool {
    match (a, b) {
        (Address::Serial { path: a, .. }, Address::Serial { path: b, .. }) => a == b,
        _ => a == b,
    }
}

fn read_decoder(section: &Section<'_>, clock: ClockLimits) -> Result<DecoderConfig, ConfigError> {
    section.only_known()?;
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
    let set = section.options("set")?;
    (protocol.make)(&set).map_err(|error| {
        // An option may be the password of a decoder.
        let value = if error.key.contains("pass") { "(hidden)".to_owned() } else { format!("{:?}", error.value) };
        let allowed = format!("`{}` = {value} does not fit {}: {}", error.key, protocol.name, error.allowed);
        section.wrong_inside("set", &error.key, allowed)
    })?;
    let timezone = section.parse("timezone", zone)?;
    // An option can say that the times are UTC.
    let utc = |value: &String| matches!(value.as_str(), "utc" | "unix") || value.ends_with("-utc");
    Ok(DecoderConfig {
        name,
        protocol,
        address,
        zone_given: timezone.is_some() || set.values().any(utc),
        timezone: timezone.unwrap_or(TimeZone::UTC),
        clock,
        device_id: section.parse("device_id", device_id)?,
        rewind: section.flag("rewind")?.unwrap_or(true),
        locations: read_locations(section, Some(protocol))?,
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

/// `[decoder.locations]`: `"name as sent" = "device"`. Without a protocol it is not known whether
/// the decoder sends location names.
fn read_locations(section: &Section<'_>, protocol: Option<&Spec>) -> Result<BTreeMap<String, String>, ConfigError> {
    let locations = section.texts("locations")?;
    if let Some(protocol) = protocol.filter(|protocol| !locations.is_empty() && !protocol.locations) {
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

/// The registry line of a protocol, or an error with the names that there are.
pub(crate) fn protocol(name: &str) -> Result<&'static Spec, String> {
    crate::decoders::spec(name).ok_or_else(|| {
        let meant = did_you_mean(name, REGISTRY.iter().map(|spec| spec.name));
        format!("must be one of {}{meant}", protocol_names())
    })
}

/// A zone of the IANA database, or an error that says what is expected.
pub(crate) fn zone(name: &str) -> Result<TimeZone, String> {
    clock::zone(name).ok_or_else(|| {
        let names: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
        let meant = did_you_mean(name, names.iter().map(String::as_str));
        format!("must be a zone of the IANA database such as \"Europe/Madrid\" or \"UTC\"{meant}")
    })
}

struct Keys<'a> {
    variable: Option<&'a str>,
    credentials: Option<&'a Path>,
}

/// `[cloud]`, and where its key was found. A mistake stops the whole upload, but the box waits for
/// a key that is missing.
fn read_cloud(
    root: &Section<'_>,
    decoders: (&[DecoderConfig], &[LeftOut]),
    keys: &Keys<'_>,
    faults: &mut Faults,
    warnings: &mut Vec<String>,
) -> Option<(CloudConfig, Option<String>)> {
    let (read, left_out) = decoders;
    let read = read.iter().map(|decoder| (&decoder.name, &decoder.device_id, &decoder.locations));
    let left_out = left_out.iter().filter_map(|decoder| {
        let terms = decoder.terms.as_ref()?;
        Some((&decoder.name, &terms.device_id, &terms.locations))
    });
    let devices: Vec<Goes<'_>> = read.chain(left_out).collect();
    let (cloud, section) = match read_cloud_but_key(root, &devices, warnings) {
        Ok(Some(cloud)) => cloud,
        Ok(None) => return None,
        Err(error) => {
            faults.add(Part::Upload, "", error);
            return None;
        }
    };
    match read_key(&section, keys) {
        Ok(key) => {
            warnings.extend(key.warning);
            let cloud = CloudConfig { api_key: Some(key.secret), api_key_file: key.file, ..cloud };
            Some((cloud, Some(key.from)))
        }
        Err((error, file)) => {
            faults.add(Part::Key, "", error);
            Some((CloudConfig { api_key_file: file, ..cloud }, None))
        }
    }
}

/// A decoder's name, its device, and the devices of its locations.
type Goes<'a> = (&'a String, &'a Option<String>, &'a BTreeMap<String, String>);

fn read_cloud_but_key<'a>(
    root: &Section<'a>,
    decoders: &[Goes<'_>],
    warnings: &mut Vec<String>,
) -> Result<Option<(CloudConfig, Section<'a>)>, ConfigError> {
    let Some(section) = root.section("cloud", CLOUD)? else {
        let has_device = |(_, device, locations): &&Goes<'_>| device.is_some() || !locations.is_empty();
        if let Some((name, ..)) = decoders.iter().find(has_device) {
            let needed =
                format!("decoder `{name}` has a device_id, so a [cloud] section with url must say where it is");
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
    if let (None, Some((name, ..))) = (&device, decoders.iter().find(|(_, device, _)| device.is_none())) {
        let needed = format!("the device that passings go to; decoder `{name}` names none of its own");
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
    let cloud = CloudConfig {
        url,
        device_id: device,
        api_key: None,
        api_key_file: None,
        header: header.unwrap_or(KeyHeader::Both),
        session: session.unwrap_or(SessionMode::Active),
    };
    Ok(Some((cloud, section)))
}

/// The key, or why there is none and the file in which the box waits for it.
fn read_key(section: &Section<'_>, keys: &Keys<'_>) -> Result<Found, (ConfigError, Option<PathBuf>)> {
    let file = section.path("api_key_file").map_err(|error| (error, None))?;
    secret::api_key(keys.variable, file.as_deref(), keys.credentials).map_err(|why| match why {
        NoKey::Environment(what) => {
            (ConfigError::new(format!("environment {KEY_VARIABLE}"), format!("the value {what}")), None)
        }
        NoKey::File(path, why) if section.has("api_key_file") => {
            let what = format!("{why} ({}); it must be a file with the key of the RUFUS Cloud in it", path.display());
            (section.wrong("api_key_file", what), Some(path))
        }
        NoKey::File(path, why) => {
            let what = format!("and the key's usual file {} is no use: {why}", path.display());
            (section.missing("api_key_file", what), Some(path))
        }
        NoKey::Nowhere => {
            let usual = secret::USUAL_KEY_FILE;
            let what = format!(
                "put the key of the RUFUS Cloud into {usual}, or name another file here, or set {KEY_VARIABLE}"
            );
            (section.missing("api_key_file", what), Some(PathBuf::from(usual)))
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
        // `https://user:password@host` may be a secret even if the rest is wrong.
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
    section.parse_with_unit(key, "s", |text| value::duration(text, &allowed))
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

fn read_passing(root: &Section<'_>, faults: &mut Faults) -> PassingConfig {
    let passing = faults.or(Part::Upload, read_passing_but_bibs(root), PassingConfig::default);
    let section = match root.section_or_empty("passing", PASSING) {
        Ok(section) => section,
        Err(_) => return passing, // the mistake was reported already
    };
    let bibs = faults.or(Part::Upload, section.path("bibs"), || None);
    // The daemon looks for the file until it is there, and reports what is wrong with it.
    if let Some(path) = &bibs
        && let Err(error) = std::fs::File::open(path)
    {
        let error = section.wrong("bibs", format!("must be a CSV file chip,bib that can be read: {error}"));
        faults.add(Part::Bibs, "", error);
    }
    PassingConfig { bibs, ..passing }
}

fn read_passing_but_bibs(root: &Section<'_>) -> Result<PassingConfig, ConfigError> {
    let section = root.section_or_empty("passing", PASSING)?;
    let default = PassingConfig::default();
    let tag = section.parse("tag", |text| match text {
        "raw" => Ok(TagCode::Raw),
        "rufus" => Ok(TagCode::Rufus),
        _ => Err("must be \"raw\" (the chip code as sent) or \"rufus\" (open RUFUS tags)".to_owned()),
    })?;
    let zeros = section.parse("zeros", |text| match text {
        "ignore" => Ok(ChipZeros::Ignore),
        "count" => Ok(ChipZeros::Count),
        _ => Err("must be \"ignore\" (0011055 is chip 11055 of the bib file) or \"count\" (it is not)".to_owned()),
    })?;
    Ok(PassingConfig {
        bibs: None,
        tag: tag.unwrap_or(default.tag),
        zeros: zeros.unwrap_or(default.zeros),
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

/// `[status]`. The token is in `token_file`, else in systemd's credential `token`. Through the
/// credential the service gets a file that only root may read.
fn read_status(
    root: &Section<'_>,
    credentials: Option<&Path>,
    faults: &mut Faults,
    warnings: &mut Vec<String>,
) -> StatusConfig {
    let default = StatusConfig::default();
    let section = match root.section_or_empty("status", STATUS) {
        Ok(section) => section,
        Err(error) => {
            faults.add(Part::Page, "", error);
            return default;
        }
    };
    let listen = section.parse("listen", |text| match text {
        "off" => Ok(None),
        _ => value::listen_address(text).map(Some).map_err(|must| format!("{must}, or \"off\"")),
    });
    let mut listen = faults.or(Part::Page, listen, || None).unwrap_or(default.listen);
    // The unit hands an empty one over where there is no file: this box has no token.
    let blank = |path: &PathBuf| std::fs::read(path).is_ok_and(|bytes| bytes.trim_ascii().is_empty());
    let handed = credentials.map(|directory| directory.join("token")).filter(|path| path.exists() && !blank(path));
    let configured = faults.or(Part::Page, section.path("token_file"), || None);
    let token_file = match (configured, handed) {
        (Some(path), Some(handed)) if secret::from_file(&path).is_err() => Some(handed),
        (configured, handed) => configured.or(handed),
    };
    let mut token = None;
    if let Some(path) = &token_file {
        match secret::from_file(path) {
            Ok(found) => {
                warnings.extend(found.warning);
                token = Some(found.secret);
            }
            Err(why) => {
                faults.add(Part::Token, "", section.wrong("token_file", format!("{why} ({})", path.display())));
            }
        }
    }
    if let Some(address) = listen.filter(|address| token_file.is_none() && !address.ip().is_loopback()) {
        let why = "is beyond this box, so token_file must name a file with the token that clients show; else listen on 127.0.0.1";
        faults.add(Part::Page, "", section.wrong("listen", why));
        let loopback = if address.is_ipv4() { IpAddr::from(Ipv4Addr::LOCALHOST) } else { Ipv6Addr::LOCALHOST.into() };
        listen = Some(SocketAddr::new(loopback, address.port()));
    }
    StatusConfig { listen, token, token_file }
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
mod tests;
