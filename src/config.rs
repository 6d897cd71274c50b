//! The configuration: defaults < file < environment `PASSBRIDGE__SECTION__KEY` < flags -> a validated [`Config`].

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use crate::protocol::{Settings, Spec};

/// Everything the daemon needs, checked.
#[derive(Clone)]
pub struct Config {
    /// Name of the box, shown everywhere.
    pub name: String,
    /// Where the journal lives.
    pub data_dir: PathBuf,
    /// At least one, names unique.
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
}

/// `[[decoder]]`
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
    /// Device its passings go to; `[cloud].device_id` if not given.
    pub device_id: Option<String>,
    /// Ask for missed reads where the protocol can.
    pub rewind: bool,
    /// Options of the protocol.
    pub set: Settings,
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

/// `[cloud]`
#[derive(Clone)]
pub struct CloudConfig {
    /// Base URL without a slash at the end.
    pub url: url::Url,
    /// Device whose active session receives.
    pub device_id: String,
    /// The key; never printed.
    pub api_key: SecretString,
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
    /// Longest wait for an answer.
    pub timeout: Duration,
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
