//! IPICO (to be completed).

use super::{Output, Protocol, SettingError, Settings, Spec};

/// IPICO.
pub static SPEC: Spec =
    Spec { name: "ipico", title: "IPICO Lite / Elite", port: 10000, idle_limit: None, resends: false, make };

fn make(_settings: &Settings) -> Result<Box<dyn Protocol>, SettingError> {
    Ok(Box::new(Ipico))
}

struct Ipico;

impl Protocol for Ipico {
    fn feed(&mut self, _bytes: &[u8], _out: &mut Output) {}

    fn end(&mut self, _out: &mut Output) {}
}
