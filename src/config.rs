//! The configuration: defaults < file < environment `PASSBRIDGE__SECTION__KEY` < flags -> a validated [`Config`].
//!
//! What must hold: a [`Config`] is right as a whole: every name, range, zone, address and option was judged, so nobody
//! judges it again. A mistake is one line that names the place, the key, the value and what is allowed. The API key
//! is in no error, no `Debug` and not in the file itself.
//!
//! Hidden: merging and positions (`layers`), the forms of values (`value`), where a key may come from (`secret`).

pub mod failure;
mod layers;
mod load;
mod secret;
mod settings;
mod value;

pub use self::layers::ConfigError;
pub use self::load::{LoadOptions, Loaded};
pub(crate) use self::load::{protocol, zone};
pub(crate) use self::secret::{reread as reread_key, same};
pub use self::settings::{
    Address, ClockLimits, CloudConfig, Config, DecoderConfig, KeepConfig, KeyHeader, LogConfig, LogFormat,
    PassingConfig, SessionMode, StatusConfig, TagCode, UploadConfig,
};
pub(crate) use self::value::{duration, level, time};
