//! The configuration. Its layers are defaults < file < environment `PASSBRIDGE__SECTION__KEY` <
//! flags, and they become a validated [`Config`].
//!
//! What must hold: a [`Config`] is right as a whole. Every name, range, zone, address and option
//! was checked, so no other part checks it again. A mistake is one line that names the place, the
//! key, the value and what is allowed. The API key is in no error, in no `Debug` and not in the
//! file itself.
//!
//! A mistake stops only what it is about ([`Part`]): the running box takes what is right
//! ([`Config::load_what_is_right`]), and shows the rest as problems. Only a file that cannot be
//! understood at all ends the box. Without a file the box runs and says that it is not set up
//! ([`Config::load_or_not_set_up`]).
//!
//! Hidden: merging and positions (`layers`, `toml_text`), the forms of values (`value`), where a
//! key may be found (`secret`), and which name was probably meant (`nearest`). Commands that change the
//! file do it through `edit` and `replace`.

mod data_dir;
mod device;
pub(crate) mod edit;
mod expect;
pub(crate) mod failure;
mod layers;
mod load;
mod nearest;
mod not_set_up;
mod notify;
pub(crate) mod replace;
mod secret;
mod settings;
mod toml_text;
mod value;
mod window;

pub(crate) use self::device::device_id;
pub(crate) use self::layers::ConfigError;
pub use self::load::{LoadOptions, Loaded};
pub(crate) use self::load::{protocol, zone};
pub(crate) use self::nearest::did_you_mean;
pub use self::notify::{NotifyConfig, Webhook};
pub(crate) use self::secret::{USUAL_KEY_FILE, Unusable, of_bytes as secret_of, reread as reread_secret, same};
pub(crate) use self::settings::Terms;
pub use self::settings::{
    Address, ChipZeros, ClockLimits, CloudConfig, Config, DecoderConfig, Fault, KeepConfig, KeyHeader, LeftOut,
    LogConfig, LogFormat, Part, PassingConfig, SessionMode, StatusConfig, TagCode, UploadConfig,
};
pub(crate) use self::value::{decoder_name, duration, level, time};
pub use self::window::{ExpectConfig, TimeWindow};

/// The webhook of a right configuration, for tests.
#[cfg(test)]
pub(crate) fn webhook_of(text: &str) -> Webhook {
    let text = format!("data_dir = \"/nonexistent\"\n{text}");
    let options = LoadOptions { text: Some(text), environment: Vec::new(), ..LoadOptions::new("passbridge.toml") };
    Config::load_what_is_right(&options).unwrap().config.notify.webhook.unwrap()
}
