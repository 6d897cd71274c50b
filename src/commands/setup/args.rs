//! The flags of `setup`: an answer for each question.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use jiff::tz::TimeZone;

use crate::commands::account::name;
use crate::commands::args::ProtocolArg;
use crate::commands::probe::Target;
use crate::config;

/// The cloud, if neither a flag nor the file names another one.
pub(super) const URL: &str = "https://api.runonrufus.com/v0";
/// The name of a box that nobody named.
pub(super) const NAME: &str = "finish";
/// The variable of the environment that may hold the key.
pub(super) const KEY_VARIABLE: &str = "PASSBRIDGE__CLOUD__API_KEY";

/// `setup`
#[derive(Debug, Args)]
pub(crate) struct SetupArgs {
    /// The configuration file that is written. The key is written into `api_key` beside it, unless
    /// the file names another place.
    #[arg(long, value_name = "FILE", default_value = "/etc/passbridge/passbridge.toml")]
    pub(super) config: PathBuf,
    /// Where the box keeps every read.
    #[arg(long, value_name = "DIR")]
    pub(super) data_dir: Option<PathBuf>,
    /// The name of the box, which is shown everywhere.
    #[arg(long)]
    pub(super) name: Option<String>,
    /// Take the API key from this file.
    #[arg(long, value_name = "FILE", conflicts_with = "key_stdin")]
    pub(super) key_file: Option<PathBuf>,
    /// Take the API key from standard input, which must not be a terminal.
    #[arg(long)]
    pub(super) key_stdin: bool,
    /// The address of the cloud.
    #[arg(long)]
    pub(super) url: Option<String>,
    /// The device whose active session gets the passings: its whole id.
    #[arg(long, value_name = "ID", value_parser = config::device_id)]
    pub(super) device: Option<String>,
    /// Bind this box as a new device. If its serial number is bound already, the device of that
    /// number is taken.
    #[arg(long, conflicts_with = "device")]
    pub(super) bind: bool,
    /// Name of the new device; without it the name of the box. A device whose serial number was bound
    /// before keeps its name.
    #[arg(long, requires = "bind", value_parser = name)]
    pub(super) alias: Option<String>,
    /// Model of the new device; without it that of this machine.
    #[arg(long, requires = "bind", value_parser = name)]
    pub(super) model: Option<String>,
    /// Serial number of the new device; without it that of this machine.
    #[arg(long, requires = "bind", value_parser = name)]
    pub(super) serial: Option<String>,
    /// No cloud: reads are kept on the box.
    #[arg(long, conflicts_with_all = ["device", "bind", "url", "key_file", "key_stdin"])]
    pub(super) no_cloud: bool,
    /// A decoder; may be given several times. Either its address, as for `probe`: then what is there
    /// is found out. Or parts with commas between them, such as
    /// name=finish-mat,protocol=ipico,address=tcp://192.168.1.50:10000,timezone=Europe/Madrid; only
    /// the address must be there.
    #[arg(long = "decoder", value_name = "ADDRESS|PARTS", value_parser = |text: &str| text.parse::<DecoderArg>())]
    pub(super) decoders: Vec<DecoderArg>,
    /// No decoder yet, or none more.
    #[arg(long, conflicts_with = "decoders")]
    pub(super) no_decoder: bool,
    /// Zone that the clocks of the decoders are set to, such as Europe/Madrid; without it the zone of
    /// this box.
    #[arg(long, value_name = "ZONE", value_parser = config::zone)]
    pub(super) timezone: Option<TimeZone>,
    /// Ask neither the cloud nor a decoder, and do not check: take what is given.
    #[arg(long, conflicts_with = "bind")]
    pub(super) offline: bool,
    /// Do not check everything at the end.
    #[arg(long)]
    pub(super) no_check: bool,
    /// Start the service at the end, now and at each boot.
    #[arg(long)]
    pub(super) start: bool,
    /// Do not start the service.
    #[arg(long, conflicts_with = "start")]
    pub(super) no_start: bool,
    /// Ask nothing, although there is a terminal.
    #[arg(long)]
    pub(super) no_input: bool,
}

impl SetupArgs {
    /// Whether a flag or the environment gives the key.
    pub(super) fn has_key(&self) -> bool {
        self.key_file.is_some() || self.key_stdin || std::env::var_os(KEY_VARIABLE).is_some()
    }
}

/// A decoder as a flag describes it.
#[derive(Clone, Debug)]
pub(super) struct DecoderArg {
    pub(super) name: Option<String>,
    pub(super) protocol: Option<ProtocolArg>,
    pub(super) target: Target,
    pub(super) timezone: Option<String>,
}

impl FromStr for DecoderArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const PARTS: &str =
            "name, protocol, address and timezone, such as protocol=ipico,address=tcp://192.168.1.50:10000";
        let is_part =
            |part: &str| ["name=", "protocol=", "address=", "timezone="].iter().any(|key| part.starts_with(key));
        let (mut name, mut protocol, mut target, mut timezone) = (None, None, None, None);
        if !is_part(text) {
            target = Some(text.parse()?);
        } else {
            for part in text.split(',') {
                let (key, value) =
                    part.split_once('=').ok_or_else(|| format!("`{part}` is none of the parts {PARTS}"))?;
                let again = match key {
                    "name" => name.replace(config::decoder_name(value)?).is_some(),
                    "protocol" => protocol.replace(config::protocol(value).map(ProtocolArg)?).is_some(),
                    "address" => target.replace(value.parse::<Target>()?).is_some(),
                    "timezone" => timezone.replace(config::zone(value).map(|_| value.to_owned())?).is_some(),
                    _ => return Err(format!("`{key}` is none of the parts {PARTS}")),
                };
                if again {
                    return Err(format!("`{key}` is there twice"));
                }
            }
        }
        let target = target.ok_or_else(|| format!("the address is missing; the parts are {PARTS}"))?;
        Ok(Self { name, protocol, target, timezone })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Address;

    #[test]
    fn a_decoder_is_an_address_or_parts_with_an_address_among_them() {
        let one: DecoderArg = "192.168.1.50".parse().unwrap();
        assert!(one.name.is_none() && one.protocol.is_none() && one.target == Target::Ports("192.168.1.50".into()));
        let serial: DecoderArg = "serial:///dev/ttyUSB0?baud=9600".parse().unwrap();
        assert!(matches!(serial.target, Target::Address(Address::Serial { .. })));
        let all: DecoderArg =
            "name=Ziel Süd,protocol=ipico,address=tcp://10.0.0.1:10000,timezone=Europe/Madrid".parse().unwrap();
        assert_eq!((all.name.as_deref(), all.timezone.as_deref()), (Some("Ziel Süd"), Some("Europe/Madrid")));
        for (wrong, told) in [
            ("protocol=ipico", "the address is missing"),
            ("protocol=ipcio,address=10.0.0.1", "did you mean"),
            ("address=10.0.0.1,zone=UTC", "`zone` is none of the parts"),
            ("address=10.0.0.1,address=10.0.0.2", "`address` is there twice"),
            ("name=a/b,address=10.0.0.1", "must have no `/`"),
            ("address=10.0.0.1,timezone=Europe/Madrit", "did you mean"),
            ("udp://10.0.0.1", "unknown"),
        ] {
            let error = wrong.parse::<DecoderArg>().unwrap_err();
            assert!(error.contains(told), "{wrong}: {error}");
        }
    }
}
