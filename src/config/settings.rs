//! What a configuration holds, once it was judged.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use crate::decoders::{Settings, Spec};
use crate::model::clock::Zones;

/// Everything the daemon needs, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the box, shown everywhere.
    pub name: String,
    /// Where the journal lives.
    pub data_dir: PathBuf,
    /// Those that are right, with unique names and addresses.
    pub decoders: Vec<DecoderConfig>,
    /// `None`: keep and export only.
    pub cloud: Option<CloudConfig>,
    /// How passings are sent.
    pub upload: UploadConfig,
    /// How reads become passings.
    pub passing: PassingConfig,
    /// How long things are kept.
    pub keep: KeepConfig,
    /// What is seen from outside.
    pub status: StatusConfig,
    /// What is logged.
    pub log: LogConfig,
    /// Decoders that are not read, because their section is wrong.
    pub left_out: Vec<LeftOut>,
    /// What is wrong, and waits until it is corrected. Empty from [`Config::load`].
    pub faults: Vec<Fault>,
}

/// What of the configuration waits because of a mistake; everything else runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// There is no decoder at all.
    NoDecoder,
    /// One decoder is not read.
    Decoder,
    /// Nothing is uploaded: `[cloud]`, `[upload]`, `[passing]`, or a section that nobody knows.
    Upload,
    /// Nothing is uploaded until the key is there.
    Key,
    /// The page shows nothing until the token is there.
    Token,
    /// The page is shown on this box only.
    Page,
    /// Bibs are not known until the file is there.
    Bibs,
    /// Nothing is removed from the disk.
    Keep,
    /// The default is taken.
    Other,
}

/// A mistake of the configuration that does not keep the box from reading.
#[derive(Clone, Debug)]
pub struct Fault {
    /// What waits because of it.
    pub part: Part,
    /// The decoder, as [`LeftOut::name`]; empty for the rest.
    pub about: String,
    /// The mistake.
    pub error: super::ConfigError,
}

/// A decoder whose section is wrong.
#[derive(Clone, Debug)]
pub struct LeftOut {
    /// Its name, or the place of its section where the name is wrong: `decoder[1]`.
    pub name: String,
    /// `None`: one of them is wrong.
    pub terms: Option<Terms>,
}

/// What of a decoder others hang on beside its link: where its reads go, and by which zone they are
/// judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Zone of the decoder's clock.
    pub timezone: jiff::tz::TimeZone,
    /// Device of its own.
    pub device_id: Option<String>,
    /// Devices of its locations.
    pub locations: BTreeMap<String, String>,
}

/// `[[decoder]]`. Its options may hold a decoder's password, so its `Debug` leaves their values out.
#[derive(Clone)]
pub struct DecoderConfig {
    /// Unique; the identity of its position and backup.
    pub name: String,
    /// Registry line of its protocol.
    pub protocol: &'static Spec,
    /// Where it is.
    pub address: Address,
    /// Zone of the decoder's clock.
    pub timezone: jiff::tz::TimeZone,
    /// The configuration says so. Else it is UTC, and for a decoder that sends wall time that is a guess.
    pub zone_given: bool,
    /// From when on its clock is wrong.
    pub clock: ClockLimits,
    /// Device its passings go to; `[cloud].device_id` if not given.
    pub device_id: Option<String>,
    /// Ask for missed reads where the protocol can.
    pub rewind: bool,
    /// Timing points, by the name they are sent under, whose passings go to a device of their own. What is sent under any
    /// other name, or none, goes where `device_id` says.
    pub locations: BTreeMap<String, String>,
    /// Options of the protocol.
    pub set: Settings,
}

/// `[clock]`: from when on a decoder's clock is worth a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockLimits {
    /// A row in the status, where the decoder tells its clock.
    pub note: Duration,
    /// The box says "time wrong", where the decoder tells its clock.
    pub wrong: Duration,
    /// The same by the stamps of live reads, which a decoder may hold back for some seconds.
    pub wrong_by_reads: Duration,
}

impl Default for ClockLimits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { note: seconds(1), wrong: seconds(2), wrong_by_reads: seconds(10) }
    }
}

/// Where the reads of a source go.
#[derive(Clone, Debug)]
pub struct Route<'a> {
    /// A decoder's name, or that of a location of it: [`crate::model::source`].
    pub source: Box<str>,
    /// The device its passings go to; `None` without `[cloud]`.
    pub device: Option<&'a str>,
}

/// Where a decoder is. `Display` gives the configured form back.
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
        /// 5 to 8.
        bits: tokio_serial::DataBits,
        /// Parity.
        parity: tokio_serial::Parity,
        /// 1 or 2.
        stop: tokio_serial::StopBits,
        /// Flow control.
        flow: tokio_serial::FlowControl,
    },
}

/// Which header carries the key. The documents call them equivalent; some proxies drop names with an underscore.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyHeader {
    /// `x-api-key`
    #[default]
    XApiKey,
    /// `api_key`, the only one the oldest documents know.
    ApiKey,
    /// Both.
    Both,
}

/// `[cloud]`
#[derive(Clone, Debug)]
pub struct CloudConfig {
    /// Base URL without a slash at the end.
    pub url: url::Url,
    /// Device whose active session receives the passings of decoders that name none of their own; `None` only if
    /// every decoder names one. [`Config::device_of`] answers for a decoder.
    pub device_id: Option<String>,
    /// The key; never printed. `None`: it is not there yet, and waited for.
    pub api_key: Option<SecretString>,
    /// The file that the key was read from, or is waited for in. It is read again when it changes.
    pub api_key_file: Option<PathBuf>,
    /// The header that carries the key. By default both: the cloud takes either, its first generation knew only `api_key`, and
    /// some proxies drop a name with an underscore.
    pub header: KeyHeader,
    /// How the session is found.
    pub session: SessionMode,
}

/// `[cloud].session`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionMode {
    /// Follow the active session, wait when there is none.
    Active,
    /// Open one when there is none.
    Create,
}

/// `[upload]`
#[derive(Clone, Copy, Debug)]
pub struct UploadConfig {
    /// Passings per POST at most, 1 to 500.
    pub batch_max: usize,
    /// How long a read may wait for company.
    pub linger: Duration,
    /// Least time between POSTs while live.
    pub min_interval: Duration,
    /// Upper end of the backoff.
    pub retry_max: Duration,
    /// Longest wait for the whole answer to an insert, and for the next byte of any other answer.
    pub timeout: Duration,
    /// Least age of a POST with an unknown outcome before "the cloud does not hold it" is believed: the cloud may show what
    /// it accepted only seconds later.
    pub settle: Duration,
    /// Least time for which the cloud has to say that no session is active before one is created.
    pub create_after: Duration,
}

/// `[passing]`
#[derive(Clone, Debug)]
pub struct PassingConfig {
    /// CSV `chip,bib` with a header.
    pub bibs: Option<PathBuf>,
    /// How an EPC becomes a chip code.
    pub tag: TagCode,
    /// Least gap between two passings of a chip at one decoder.
    pub dead_time: Duration,
}

/// `[passing].tag`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagCode {
    /// The chip code is what the decoder sent.
    Raw,
    /// Open RUFUS tags: 96-bit EPC that holds 12 ASCII characters.
    Rufus,
}

/// `[keep]`
#[derive(Clone, Copy, Debug)]
pub struct KeepConfig {
    /// Days that uploaded reads stay.
    pub days: u32,
    /// Bytes that the journal may use.
    pub max_bytes: u64,
}

/// `[status]`
#[derive(Clone, Debug)]
pub struct StatusConfig {
    /// Where the page listens; `None`: nowhere.
    pub listen: Option<SocketAddr>,
    /// What a client must show.
    pub token: Option<SecretString>,
    /// The file of the token. Always there when `listen` is beyond loopback; while it cannot be
    /// read, nobody is shown anything.
    pub token_file: Option<PathBuf>,
}

/// `[log]`
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Filter in tracing's syntax.
    pub level: String,
    /// Form of a line.
    pub format: LogFormat,
}

/// `[log].format`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Human on a terminal, plain otherwise.
    Auto,
    /// Colours.
    Human,
    /// No colours, no time (journald adds it).
    Plain,
    /// One JSON object per line.
    Json,
}

impl Config {
    /// The device that a decoder's passings go to; `None` without `[cloud]`.
    pub fn device_of<'a>(&'a self, decoder: &'a DecoderConfig) -> Option<&'a str> {
        let cloud = self.cloud.as_ref()?;
        decoder.device_id.as_deref().or(cloud.device_id.as_deref())
    }

    /// Every device that something is uploaded to, with its sources in the order of the configuration.
    pub fn devices(&self) -> BTreeMap<&str, Vec<Box<str>>> {
        let mut devices: BTreeMap<&str, Vec<Box<str>>> = BTreeMap::new();
        for route in self.routes() {
            if let Some(device) = route.device {
                devices.entry(device).or_default().push(route.source);
            }
        }
        devices
    }

    /// Every source there is: each decoder and each location of it that has a device of its own.
    /// Those that are left out until their section is corrected are among them as far as it is
    /// known where their reads go.
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

    /// The zone of each decoder's clock, also of those that are left out, as far as it is known.
    pub fn zones(&self) -> Zones {
        let read = self.decoders.iter().map(|decoder| (&decoder.name, &decoder.timezone));
        let left_out =
            self.left_out.iter().filter_map(|decoder| Some((&decoder.name, &decoder.terms.as_ref()?.timezone)));
        read.chain(left_out).map(|(name, zone)| (name.as_str().into(), zone.clone())).collect()
    }
}

impl DecoderConfig {
    /// What others hang on beside its link.
    pub(crate) fn terms(&self) -> Terms {
        Terms { timezone: self.timezone.clone(), device_id: self.device_id.clone(), locations: self.locations.clone() }
    }
}

impl KeepConfig {
    /// Nothing is removed.
    pub(super) fn everything() -> Self {
        // More days than the journal lives, more bytes than a disk has, and both far from where
        // sums overflow.
        Self { days: 36_500, max_bytes: 9_000_000_000_000_000 }
    }
}

impl Default for UploadConfig {
    fn default() -> Self {
        Self {
            batch_max: 100,
            linger: Duration::from_millis(200),
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
        Self { bibs: None, tag: TagCode::Raw, dead_time: Duration::ZERO }
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
