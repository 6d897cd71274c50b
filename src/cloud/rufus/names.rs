//! The cloud's name to addresses, over a network that loses questions.
//!
//! What must hold:
//! * A name server that does not answer is named as such, before the limit for a connection hides it.
//! * When it does not answer, the addresses it gave last still count: the certificate says whether the cloud is there.
//! * After a call without an answer the other family goes first: IPv6 that connects and then swallows what is large is
//!   no reason to wait for ever. (One that does not even connect costs 300 ms: the library tries both.)
//! * At most [`PER_FAMILY`] addresses of a family are tried, by chance which: the time for a connection is divided among
//!   them by the HTTP library, and with eight addresses a healthy link of 2 s would never get through.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Addresses tried of each of IPv4 and IPv6.
const PER_FAMILY: usize = 2;

/// The name asked for last and its addresses. A client knows one name.
type Last = Option<(String, Vec<SocketAddr>)>;

/// The system's resolver, with a limit and a memory.
#[derive(Clone, Debug)]
pub(super) struct Names {
    limit: Duration,
    last: Arc<Mutex<Last>>,
    /// The family goes first that the system puts second.
    turned: Arc<AtomicBool>,
}

impl Names {
    /// Asks for at most `limit`.
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, last: Arc::default(), turned: Arc::default() }
    }

    /// The addresses that were tried give no answer.
    pub(super) fn turn(&self) {
        self.turned.fetch_xor(true, Ordering::Relaxed);
    }
}

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let Self { limit, last, turned } = self.clone();
        Box::pin(async move {
            let name = name.as_str().to_owned();
            let asking = tokio::net::lookup_host((name.as_str(), 0));
            let answer = match tokio::time::timeout(limit, asking).await {
                Ok(answer) => answer.map(Iterator::collect),
                Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the name server does not answer")),
            };
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            let found = remember(&mut last, name, answer)?;
            Ok(Box::new(choose(found, turned.load(Ordering::Relaxed)).into_iter()) as Addrs)
        })
    }
}

/// The addresses found, or else those found last for the same name.
fn remember(last: &mut Last, name: String, answer: io::Result<Vec<SocketAddr>>) -> io::Result<Vec<SocketAddr>> {
    match (answer, &*last) {
        (Ok(found), _) if !found.is_empty() => {
            *last = Some((name, found.clone()));
            Ok(found)
        }
        (_, Some((known, found))) if *known == name => Ok(found.clone()),
        (Ok(_), _) => Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address")),
        (Err(error), _) => Err(error),
    }
}

/// Some of each family, the system's preferred family first, or last if `turned`.
fn choose(mut found: Vec<SocketAddr>, turned: bool) -> Vec<SocketAddr> {
    let preferred = found.first().is_some_and(SocketAddr::is_ipv6) != turned;
    fastrand::shuffle(&mut found);
    let (mut first, mut second): (Vec<_>, Vec<_>) = found.into_iter().partition(|at| at.is_ipv6() == preferred);
    first.truncate(PER_FAMILY);
    second.truncate(PER_FAMILY);
    first.append(&mut second);
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(addresses: &[&str]) -> Vec<SocketAddr> {
        addresses.iter().map(|address| SocketAddr::new(address.parse().unwrap(), 0)).collect()
    }

    #[test]
    fn a_name_server_that_is_gone_does_not_take_the_addresses_with_it() {
        let gone = || Err(io::Error::from(io::ErrorKind::TimedOut));
        let mut last = None;
        assert!(remember(&mut last, "cloud".into(), gone()).is_err());
        let found = at(&["192.0.2.1"]);
        assert_eq!(remember(&mut last, "cloud".into(), Ok(found.clone())).unwrap(), found);
        assert_eq!(remember(&mut last, "cloud".into(), gone()).unwrap(), found);
        assert_eq!(remember(&mut last, "cloud".into(), Ok(Vec::new())).unwrap(), found);
        assert!(remember(&mut last, "other".into(), gone()).is_err());
        let moved = at(&["192.0.2.9"]);
        assert_eq!(remember(&mut last, "cloud".into(), Ok(moved.clone())).unwrap(), moved);
    }

    #[test]
    fn of_many_addresses_some_of_each_family_are_tried_and_all_in_the_long_run() {
        let found = at(&["2001:db8::1", "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5", "192.0.2.6"]);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..500 {
            let chosen = choose(found.clone(), false);
            assert!(chosen[0].is_ipv6() && chosen.len() == 1 + PER_FAMILY, "{chosen:?}");
            seen.extend(chosen);
        }
        assert_eq!(seen.len(), found.len());
        assert!(choose(found.clone(), true)[0].is_ipv4(), "after a call without an answer");
        assert_eq!(choose(at(&["192.0.2.1"]), true), at(&["192.0.2.1"]));
        assert_eq!(choose(Vec::new(), false), []);
    }
}
