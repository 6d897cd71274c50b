//! One4All (to be completed).

use super::{Output, Protocol, SettingError, Settings, Spec};

/// One4All.
pub static SPEC: Spec =
    Spec { name: "one4all", title: "Macsha One4All", port: 10002, idle_limit: None, resends: true, make };

fn make(_settings: &Settings) -> Result<Box<dyn Protocol>, SettingError> {
    Ok(Box::new(One4All))
}

struct One4All;

impl Protocol for One4All {
    fn feed(&mut self, _bytes: &[u8], _out: &mut Output) {}

    fn end(&mut self, _out: &mut Output) {}
}
