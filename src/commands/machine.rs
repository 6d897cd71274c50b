//! What this machine calls itself: the serial number and the model with which a device is bound.

use std::path::Path;

use crate::daemon::telemetry::MODELS;

/// Where a serial number may be, the best place first: the firmware of a Pi and other ARM boards,
/// the board of a PC, and else the identity that systemd gave the installation.
const SERIAL_NUMBERS: [&str; 4] = [
    "sys/firmware/devicetree/base/serial-number",
    "sys/class/dmi/id/product_serial",
    "sys/class/dmi/id/board_serial",
    "etc/machine-id",
];
/// What boards have that nobody gave a number, in lower case.
const NO_NUMBERS: [&str; 7] = [
    "0",
    "none",
    "default string",
    "not specified",
    "system serial number",
    "to be filled by o.e.m.",
    "not applicable",
];
/// Longest number or model that is taken, in characters.
const LONGEST: usize = 64;

/// Returns the serial number of the machine below `root` (`/`).
pub(crate) fn serial_number(root: &Path) -> Option<String> {
    SERIAL_NUMBERS.iter().find_map(|place| first_line(&root.join(place)))
}

/// Returns the model of the machine below `root` (`/`).
pub(crate) fn model(root: &Path) -> Option<String> {
    MODELS.iter().find_map(|place| first_line(&root.join(place)))
}

/// Returns the text of a file of the kernel, if it is a name. The device tree ends its texts with a
/// zero byte.
fn first_line(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let text = text.split(['\0', '\n']).next()?.trim();
    let name = !text.is_empty() && text.chars().count() <= LONGEST && text.chars().all(|c| !c.is_control());
    let meant = text.chars().any(|c| c != '0') && !NO_NUMBERS.contains(&text.to_lowercase().as_str());
    (name && meant).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_number_that_the_machine_has_is_taken() {
        let root = tempfile::tempdir().unwrap();
        let put = |place: &str, text: &str| {
            let path = root.path().join(place);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        assert_eq!((serial_number(root.path()), model(root.path())), (None, None));
        put("etc/machine-id", "0f1e2d3c4b5a69788796a5b4c3d2e1f0\n");
        put("sys/class/dmi/id/product_serial", "To Be Filled By O.E.M.\n");
        put("sys/class/dmi/id/board_serial", "00000000\n");
        assert_eq!(serial_number(root.path()).as_deref(), Some("0f1e2d3c4b5a69788796a5b4c3d2e1f0"));
        put("sys/firmware/devicetree/base/serial-number", "10000000abcdef01\0");
        put("sys/firmware/devicetree/base/model", "Raspberry Pi 4 Model B Rev 1.4\0");
        assert_eq!(serial_number(root.path()).as_deref(), Some("10000000abcdef01"));
        assert_eq!(model(root.path()).as_deref(), Some("Raspberry Pi 4 Model B Rev 1.4"));
    }
}
