//! `[notify]`: who is told about the state of the box without looking at a screen.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use url::{Host, Url};

use super::layers::{ConfigError, Section};

pub(super) const NOTIFY: &[&str] = &["on_state", "webhook", "led"];
/// Longest name of a LED that the kernel takes.
const LED_NAME: usize = 63;

/// `[notify]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NotifyConfig {
    /// The full path of the program that is run at each change of the state.
    pub on_state: Option<PathBuf>,
    /// Where JSON is posted when the state has been bad for a minute, and when that is over.
    pub webhook: Option<Webhook>,
    /// The name of the LED in `/sys/class/leds` that shows the state.
    pub led: Option<String>,
}

/// The address of a webhook. Its path is often the only secret that protects it, so nothing but its
/// host is ever shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Webhook(Url);

impl Webhook {
    /// The whole address, for the request alone.
    pub(crate) fn url(&self) -> &Url {
        &self.0
    }

    /// The host, for people.
    pub(crate) fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Webhook({})", self.host())
    }
}

/// Reads `[notify]`. Everything in it is optional.
pub(super) fn read_notify(root: &Section<'_>) -> Result<NotifyConfig, ConfigError> {
    let section = root.section_or_empty("notify", NOTIFY)?;
    let on_state = section.parse("on_state", |text| match text.starts_with('/') && text.len() > 1 {
        true => Ok(PathBuf::from(text)),
        false => {
            Err("must be the full path of a program, such as \"/usr/local/bin/siren\", without arguments".to_owned())
        }
    })?;
    // The address is not repeated in an error, because its path is often a secret.
    let webhook = match section.text("webhook") {
        Some(text) => Some(webhook(text).map_err(|must| section.wrong_secret("webhook", must))?),
        None if section.has("webhook") => {
            return Err(section.wrong_secret("webhook", "must be text in quotes: webhook = \"https://…\""));
        }
        None => None,
    };
    Ok(NotifyConfig { on_state, webhook, led: section.parse("led", led)? })
}

fn webhook(text: &str) -> Result<Webhook, String> {
    let must = "must be an address such as \"https://example.org/hook\"";
    let url = Url::parse(text).map_err(|error| format!("{must} ({error})"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(must.to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!("{must}, without a user or password in it"));
    }
    if url.scheme() == "http" && !is_near(&url) {
        let why = "must be https; http is allowed only to localhost or to a private address such as http://192.168.1.20/hook, \
                   because everybody on the way could read and change what is sent";
        return Err(why.to_owned());
    }
    Ok(Webhook(url))
}

/// Whether the address is on this box or in its own network. A name may lead anywhere.
fn is_near(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        Some(Host::Ipv6(ip)) => match IpAddr::V6(ip).to_canonical() {
            IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
        },
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// The name of one entry of `/sys/class/leds`, which can lead to no other folder.
fn led(text: &str) -> Result<String, String> {
    let fits = (1..=LED_NAME).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/')
        && !text.starts_with('.');
    match fits {
        true => Ok(text.to_owned()),
        false => {
            Err("must be the name of a LED, one of those that `ls /sys/class/leds` shows, such as \"ACT\"".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_is_https_or_stays_in_the_own_network() {
        for right in [
            "https://hooks.example.org/T0/secret?x=1",
            "http://127.0.0.1:8080/hook",
            "http://localhost/hook",
            "http://192.168.1.20/hook",
            "http://169.254.7.7/",
            "http://[::1]:80/",
            "http://[fd00::7]/",
            "http://[::ffff:10.0.0.1]/",
        ] {
            assert!(webhook(right).is_ok(), "{right}");
        }
        for wrong in [
            "",
            "hooks.example.org",
            "ftp://10.0.0.1/",
            "http://hooks.example.org/",
            "http://8.8.8.8/",
            "http://[2001:db8::1]/",
            "http://[::ffff:8.8.8.8]/",
            "http://nas.local/",
            "https://user:pass@hooks.example.org/",
            "https://",
        ] {
            assert!(webhook(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn nothing_but_the_host_of_a_webhook_is_shown() {
        let config = NotifyConfig {
            webhook: Some(webhook("https://hooks.example.org/T0/secret?key=secret#secret").unwrap()),
            ..NotifyConfig::default()
        };
        let shown = format!("{config:?}");
        assert!(shown.contains("hooks.example.org") && !shown.contains("secret"), "{shown}");
    }

    #[test]
    fn the_name_of_a_led_leads_to_no_other_folder() {
        for right in ["ACT", "led0", "mmc0::", "green:wan-1"] {
            assert_eq!(led(right).unwrap(), right);
        }
        for wrong in ["", ".", "..", "../../sys", "a/b", "a b", "é", &"a".repeat(64)] {
            assert!(led(wrong).is_err(), "{wrong}");
        }
    }
}
