//! What a configuration contains after it was checked.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::notify::NotifyConfig;
use super::window::ExpectConfig;
use crate::decoders::{Settings, Spec};
use crate::model::clock::Zones;

/// Everything that the daemon needs, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name of the box, which is shown everywhere.
    pub name: String,
    /// The directory of the journal.
    pub data_dir: PathBuf,
    /// The decoders whose sections are right, with unique names and addresses.
    pub decoders: Vec<DecoderConfig>,
    /// The cloud. With `None` the box only keeps and exports reads.
    pub cloud: Option<CloudConfig>,
    /// How passings are sent.
    pub upload: UploadConfig,
    /// How reads become passings.
    pub passing: PassingConfig,
    /// How long reads are kept.
    pub keep: KeepConfig,
    /// What can be seen from outside of the box.
    pub status: StatusConfig,
    /// What is logged.
    pub log: LogConfig,
    /// Who is told about the state of the box.
    pub notify: NotifyConfig,
    /// When which mat must give reads.
    pub expect: Vec<ExpectConfig>,
    /// Decoders that are not read, because their section is wrong.
    pub left_out: Vec<LeftOut>,
    /// What is wrong, so that a part waits until it is corrected. It is empty from
    /// [`Config::load`].
    pub faults: Vec<Fault>,
}

/// The part of the configuration that waits because of a mistake. Everything else runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// There is no configuration file, so nothing is read and nothing is uploaded.
    NotSetUp,
    /// There is no decoder at all.
    NoDecoder,
    /// One decoder is not read.
    Decoder,
    /// Nothing is uploaded: `[cloud]`, `[upload]`, `[passing]`, or an unknown section.
    Upload,
    /// Nothing is uploaded until the key can be read.
    Key,
    /// The page shows nothing until the token can be read.
    Token,
    /// The page is shown on this box only.
    Page,
    /// Bibs are unknown until the file can be read.
    Bibs,
    /// Nothing is removed from the disk.
    Keep,
    /// Nobody is told about the state of the box.
    Notify,
    /// The silence of one mat is no problem.
    Expect,
    /// The default is used.
    Other,
}

/// A mistake of the configuration that does not keep the box from reading.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The part that waits because of it.
    pub part: Part,
    /// The decoder, like [`LeftOut::name`]. It is empty for other parts.
    pub about: String,
    /// The mistake.
    pub error: super::ConfigError,
}

/// A decoder whose section is wrong.
#[derive(Clone, Debug)]
pub struct LeftOut {
    /// The name of the decoder, or the place of its section if the name is wrong: `decoder[1]`.
    pub name: String,
    /// Whether `name` is the name of the decoder.
    pub named: bool,
    /// The terms, or `None` if one of them is wrong.
    pub terms: Option<Terms>,
}

/// The settings of a decoder that other parts than its link depend on: where its reads are sent,
/// and which zone their times are in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Time zone of the decoder's clock.
    pub timezone: jiff::tz::TimeZone,
    /// The device of this decoder, if it has one of its own.
    pub device_id: Option<String>,
    /// The devices of its locations.
    pub locations: BTreeMap<String, String>,
}

/// `[[decoder]]`. Its options may contain a decoder's password, so its `Debug` leaves their values
/// out.
#[derive(Clone)]
pub struct DecoderConfig {
    /// The unique name. It identifies the decoder's position and backup.
    pub name: String,
    /// The registry line of the protocol.
    pub protocol: &'static Spec,
    /// The address of the decoder.
    pub address: Address,
    /// Time zone of the decoder's clock.
    pub timezone: jiff::tz::TimeZone,
    /// Whether the configuration gives the zone. Otherwise UTC is used, which is a guess for a
    /// decoder that sends wall time.
    pub zone_given: bool,
    /// How far its clock may be off before the box reports it.
    pub clock: ClockLimits,
    /// The device to which its passings are sent. `[cloud].device_id` is used if it is not given.
    pub device_id: Option<String>,
    /// Whether the link asks for missed reads, if the protocol can.
    pub rewind: bool,
    /// Timing points whose passings are sent to a device of their own, by the name that the decoder
    /// sends. Reads with another name, or with none, are sent to the device of `device_id`.
    pub locations: BTreeMap<String, String>,
    /// Options of the protocol.
    pub set: Settings,
}

/// `[clock]`: how far a decoder's clock may be off before the box reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockLimits {
    /// From this offset on the status has a row about it.
    pub note: Duration,
    /// From this offset on the box shows "time wrong", if the decoder reports its clock, or if live
    /// reads are stamped ahead of the box.
    pub wrong: Duration,
    /// The same limit for live reads that are stamped behind the box. A decoder may hold them back
    /// for some seconds.
    pub wrong_by_reads: Duration,
}

impl Default for ClockLimits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { note: seconds(1), wrong: seconds(2), wrong_by_reads: seconds(10) }
    }
}

/// The device to which the reads of a source are sent.
#[derive(Clone, Debug)]
pub struct Route<'a> {
    /// The name of a decoder or of one of its locations ([`crate::model::source`]).
    pub source: Box<str>,
    /// The device to which its passings are sent, or `None` without `[cloud]`.
    pub device: Option<&'a str>,
}

/// The address of a decoder. `Display` shows it in the form of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `tcp://host:port`: we connect.
    Tcp {
        /// Name or IP address.
        host: String,
        /// Port.
        port: u16,
    },
    /// `tcp-listen://addr:port`: the decoder's software connects to us.
    Listen(SocketAddr),
    /// `serial:///dev/ttyUSB0?baud=9600&bits=8&parity=none&stop=1&flow=none`
    Serial {
        /// Device file.
        path: PathBuf,
        /// Bits per second.
        baud: u32,
        /// Data bits, 5 to 8.
        bits: tokio_serial::DataBits,
        /// Parity.
        parity: tokio_serial::Parity,
        /// Stop bits, 1 or 2.
        stop: tokio_serial::StopBits,
        /// Flow control.
        flow: tokio_serial::FlowControl,
    },
}

/// Which header carries the key. The documents call them equivalent, but some proxies drop names
/// with an underscore.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyHeader {
    /// `x-api-key`
    #[default]
    XApiKey,
    /// `api_key`, the only header in the oldest documents.
    ApiKey,
    /// Both headers.
    Both,
}

/// `[cloud]`
#[derive(Clone, Debug)]
pub struct CloudConfig {
    /// The base URL without a slash at the end.
    pub url: url::Url,
    /// The device whose active session gets the passings of decoders that name no device of their
    /// own. It is `None` only if every decoder names one. [`Config::device_of`] returns the device
    /// of a decoder.
    pub device_id: Option<String>,
    /// The key, which is never printed. With `None` the box waits until there is one.
    pub api_key: Option<SecretString>,
    /// The file from which the key was read, or in which the box waits for it. It is read again
    /// when it changes.
    pub api_key_file: Option<PathBuf>,
    /// The header that carries the key. The default is both, because the cloud takes either, its
    /// first generation knew only `api_key`, and some proxies drop a name with an underscore.
    pub header: KeyHeader,
    /// How the session is chosen.
    pub session: SessionMode,
}

/// `[cloud].session`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionMode {
    /// Follow the active session, and wait if there is none.
    Active,
    /// Create a session if there is none.
    Create,
}

/// `[upload]`
#[derive(Clone, Copy, Debug)]
pub struct UploadConfig {
    /// Most passings in one POST, 1 to 500.
    pub batch_max: usize,
    /// How long a read may wait so that several reads are sent in one request. A read that arrives
    /// while nothing waits or is in flight does not wait.
    pub linger: Duration,
    /// Least time between two POSTs while reads are live.
    pub min_interval: Duration,
    /// Longest wait of the backoff.
    pub retry_max: Duration,
    /// Longest wait for the whole answer to an insert, and for the next byte of any other answer.
    pub timeout: Duration,
    /// Least age of a POST with an unknown outcome before the uplink believes that the cloud does
    /// not have it. The cloud may show what it accepted only seconds later.
    pub settle: Duration,
    /// How long the cloud must report that no session is active before one is created.
    pub create_after: Duration,
}

/// `[passing]`
#[derive(Clone, Debug)]
pub struct PassingConfig {
    /// The CSV file `chip,bib` with a header.
    pub bibs: Option<PathBuf>,
    /// How an EPC becomes a chip code.
    pub tag: TagCode,
    /// Whether zeros at the beginning of a chip code count in the bib file.
    pub zeros: ChipZeros,
    /// Least time between two passings of a chip at one decoder.
    pub dead_time: Duration,
}

/// `[passing].zeros`: programs and spreadsheets write a chip code with another number of zeros at
/// its beginning than the decoder sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChipZeros {
    /// `0011055` is the chip `11055` of the bib file, if that can be only one chip.
    #[default]
    Ignore,
    /// A chip has the bib of exactly that code only.
    Count,
}

/// `[passing].tag`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagCode {
    /// The chip code is what the decoder sent.
    Raw,
    /// Open RUFUS tags: a 96-bit EPC that contains 12 ASCII characters.
    Rufus,
}

/// `[keep]`
#[derive(Clone, Copy, Debug)]
pub struct KeepConfig {
    /// Number of days for which uploaded reads are kept.
    pub days: u32,
    /// Bytes that the journal may use.
    pub max_bytes: u64,
}

/// `[status]`
#[derive(Clone, Debug)]
pub struct StatusConfig {
    /// The address on which the page listens, or `None` if it listens nowhere.
    pub listen: Option<SocketAddr>,
    /// The token that a client must send.
    pub token: Option<SecretString>,
    /// The file of the token. It is always set when `listen` is beyond loopback. While the file
    /// cannot be read, the page shows nothing to anybody.
    pub token_file: Option<PathBuf>,
}

/// `[log]`
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// A filter in the syntax of tracing.
    pub level: String,
    /// The form of a line.
    pub format: LogFormat,
}

/// `[log].format`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Human on a terminal, plain otherwise.
    Auto,
    /// With colours.
    Human,
    /// Without colours and without time (journald adds it).
    Plain,
    /// One JSON object per line.
    Json,
}

impl Config {
    /// The device to which a decoder's passings are sent, or `None` without `[cloud]`.
    pub fn device_of<'a>(&'a self, decoder: &'a DecoderConfig) -> Option<&'a str> {
        let cloud = self.cloud.as_ref()?;
        decoder.device_id.as_deref().or(cloud.device_id.as_deref())
    }

    /// Every device to which something is uploaded, with its sources in the order of the
    /// configuration.
    pub fn devices(&self) -> BTreeMap<&str, Vec<Box<str>>> {
        let mut devices: BTreeMap<&str, Vec<Box<str>>> = BTreeMap::new();
        for route in self.routes() {
            if let Some(device) = route.device {
                devices.entry(device).or_default().push(route.source);
            }
        }
        devices
    }

    /// Every source: each decoder, and each of its locations that has a device of its own. Decoders
    /// that are left out until their section is corrected are included, if it is known where their
    /// reads are sent.
    pub fn routes(&self) -> impl Iterator<Item = Route<'_>> {
        let read = self.decoders.iter().map(|decoder| (&decoder.name, &decoder.device_id, &decoder.locations));
        let left_out = self.left_out.iter().filter_map(|decoder| {
            let terms = decoder.terms.as_ref()?;
            Some((&decoder.name, &terms.device_id, &terms.locations))
        });
        read.chain(left_out).flat_map(move |(name, device_id, locations)| {
            let usual = self.cloud.as_ref().and_then(|cloud| cloud.device_id.as_deref());
            let device = self.cloud.as_ref().and(device_id.as_deref().or(usual));
            let located = locations.iter().map(move |(location, device)| Route {
                source: crate::model::source::name(name, location),
                device: self.cloud.is_some().then_some(device),
            });
            std::iter::once(Route { source: name.as_str().into(), device }).chain(located)
        })
    }

    /// What another configuration has otherwise, in words. The secrets do not count, because each is
    /// read again from its file when it changes.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let decoder = |config: &Self, name: &str| config.decoders.iter().find(|it| it.name == name).cloned();
        let same = |a: &DecoderConfig, b: &DecoderConfig| format!("{a:?}") == format!("{b:?}") && a.set == b.set;
        let mut differ = Vec::new();
        for running in &self.decoders {
            match decoder(other, &running.name) {
                Some(it) if same(running, &it) => {}
                Some(_) => differ.push(format!("decoder `{}`", running.name)),
                // A section with a mistake is reported with its mistake.
                None if other.left_out.iter().any(|it| it.name == running.name) => {}
                None => differ.push(format!("decoder `{}` is gone", running.name)),
            }
        }
        for new in other.decoders.iter().filter(|new| decoder(self, &new.name).is_none()) {
            differ.push(format!("decoder `{}` is new", new.name));
        }
        let cloud = |config: &Self| {
            let cloud = config.cloud.as_ref()?;
            let (url, device, header) = (cloud.url.clone(), cloud.device_id.clone(), cloud.header);
            Some((url, device, header, cloud.session, cloud.api_key_file.clone()))
        };
        let status = |config: &Self| (config.status.listen, config.status.token_file.clone());
        let parts = [
            ("name", self.name == other.name),
            ("data_dir", self.data_dir == other.data_dir),
            ("[cloud]", cloud(self) == cloud(other)),
            ("[upload]", format!("{:?}", self.upload) == format!("{:?}", other.upload)),
            ("[passing]", format!("{:?}", self.passing) == format!("{:?}", other.passing)),
            ("[keep]", format!("{:?}", self.keep) == format!("{:?}", other.keep)),
            ("[status]", status(self) == status(other)),
            ("[log]", format!("{:?}", self.log) == format!("{:?}", other.log)),
            ("[notify]", self.notify == other.notify),
            ("[[expect]]", self.expect == other.expect),
        ];
        differ.extend(parts.into_iter().filter(|(_, same)| !same).map(|(part, _)| part.to_owned()));
        differ
    }

    /// The zone of each decoder's clock, if it is known, including the decoders that are left out.
    pub fn zones(&self) -> Zones {
        let read = self.decoders.iter().map(|decoder| (&decoder.name, &decoder.timezone));
        let left_out =
            self.left_out.iter().filter_map(|decoder| Some((&decoder.name, &decoder.terms.as_ref()?.timezone)));
        read.chain(left_out).map(|(name, zone)| (name.as_str().into(), zone.clone())).collect()
    }
}

impl DecoderConfig {
    /// The settings that other parts than the link depend on.
    pub(crate) fn terms(&self) -> Terms {
        Terms { timezone: self.timezone.clone(), device_id: self.device_id.clone(), locations: self.locations.clone() }
    }
}

impl KeepConfig {
    /// The settings with which nothing is removed.
    pub(super) fn everything() -> Self {
        // The days are more than a journal is ever used, and the bytes are more than a disk has.
        // Both are far from where sums overflow.
        Self { days: 36_500, max_bytes: 9_000_000_000_000_000 }
    }
}

impl Default for UploadConfig {
    fn default() -> Self {
        Self {
            batch_max: 100,
            linger: Duration::ZERO,
            min_interval: Duration::from_millis(250),
            retry_max: Duration::from_secs(60),
            settle: Duration::from_secs(15),
            create_after: Duration::from_secs(30),
            timeout: Duration::from_secs(30),
        }
    }
}

impl Default for PassingConfig {
    fn default() -> Self {
        Self { bibs: None, tag: TagCode::Raw, zeros: ChipZeros::Ignore, dead_time: Duration::ZERO }
    }
}

impl Default for KeepConfig {
    fn default() -> Self {
        Self { days: 30, max_bytes: 2_000_000_000 }
    }
}

impl Default for StatusConfig {
    fn default() -> Self {
        Self { listen: Some(SocketAddr::from(([127, 0, 0, 1], 8470))), token: None, token_file: None }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Auto }
    }
}

impl std::fmt::Debug for DecoderConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DecoderConfig")
            .field("name", &self.name)
            .field("protocol", &self.protocol.name)
            .field("address", &self.address.to_string())
            .field("timezone", &self.timezone.iana_name())
            .field("zone_given", &self.zone_given)
            .field("clock", &self.clock)
            .field("device_id", &self.device_id)
            .field("rewind", &self.rewind)
            .field("locations", &self.locations)
            .field("set", &self.set.keys().collect::<Vec<_>>())
            .finish()
    }
}
