//! The ids of the cloud's devices.

use super::settings::{CloudConfig, DecoderConfig};

/// The length of a device's id in the cloud.
const DEVICE_DIGITS: usize = 64;

/// The id of a device, or an error that says what is expected.
pub(crate) fn device_id(text: &str) -> Result<String, String> {
    // The id becomes a part of a URL's path. Its form is otherwise unknown: the cloud's samples are
    // 64 hex digits.
    let fits = !text.is_empty()
        && text.len() <= 256
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b));
    if text.contains("..") || text.contains('…') {
        return Err("is shortened: the dots stand for what was left out. Copy the whole id from the device's page in the RUFUS \
             Cloud"
            .to_owned());
    }
    if fits {
        Ok(text.to_owned())
    } else {
        Err("must be the device's id as the RUFUS Cloud shows it: letters and digits".to_owned())
    }
}

/// A warning for each id of a device that is not like those of the cloud.
pub(super) fn unusual_devices(cloud: &CloudConfig, decoders: &[DecoderConfig]) -> Vec<String> {
    let own = cloud.device_id.iter().map(|device| ("cloud.device_id".to_owned(), device));
    let theirs = decoders.iter().flat_map(|decoder| {
        let name = &decoder.name;
        let own = decoder.device_id.iter().map(move |device| (format!("decoder `{name}`: device_id"), device));
        let located = decoder.locations.iter();
        own.chain(located.map(move |(location, device)| (format!("decoder `{name}`: location `{location}`"), device)))
    });
    let unusual = |device: &str| device.len() != DEVICE_DIGITS || !device.bytes().all(|byte| byte.is_ascii_hexdigit());
    own.chain(theirs)
        .filter(|(_, device)| unusual(device))
        .map(|(place, device)| {
            format!(
                "{place} = \"{device}\": the RUFUS Cloud's ids have {DEVICE_DIGITS} characters, 0-9 and A-F, and this one has {}: \
                 compare it with the device's page",
                match device.len() {
                    DEVICE_DIGITS => "others".to_owned(),
                    length => length.to_string(),
                }
            )
        })
        .collect()
}
