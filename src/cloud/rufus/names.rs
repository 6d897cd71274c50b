//! Resolves the cloud's name to addresses, over a network that loses packets.
//!
//! What must hold:
//! * If the name server does not answer, the error says so, before the time limit for a connection
//!   hides the reason.
//! * If it does not answer, the last known addresses are used. The certificate shows whether the
//!   cloud is there.
//! * After a call without an answer, the addresses of the other family are first, because IPv6 may
//!   connect and then lose large packets. (If one family does not even connect, that costs 300 ms,
//!   because the library tries both.)
//! * At most [`PER_FAMILY`] addresses of each family are tried, chosen at random. The HTTP library
//!   divides the time for a connection among the addresses, and with eight addresses a healthy link
//!   of 2 s would never connect.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Number of addresses that are tried, for IPv4 and for IPv6 each.
const PER_FAMILY: usize = 2;

/// The last resolved name and its addresses. A client uses only one name.
type Last = Option<(String, Vec<SocketAddr>)>;

/// The system's resolver, with a time limit and with a memory of the last addresses.
#[derive(Clone, Debug)]
pub(super) struct Names {
    limit: Duration,
    last: Arc<Mutex<Last>>,
    /// The family that the system puts second is tried first.
    turned: Arc<AtomicBool>,
}

impl Names {
    /// A resolver that waits for at most `limit`.
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, last: Arc::default(), turned: Arc::default() }
    }

    /// Changes the order of the families, because the addresses that were tried do not answer.
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

/// Returns the addresses found, or the last known ones of the same name.
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

/// Returns some addresses of each family, the system's preferred family first, or last if `turned`.
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
