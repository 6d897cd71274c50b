//! The other end of a connection.

use std::net::IpAddr;

/// The address from which a request came. Each request has it among its extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer(pub IpAddr);

impl Peer {
    /// The machine behind the address. A machine with IPv6 has a whole /64 of addresses, which are
    /// taken for one.
    pub(crate) fn machine(self) -> IpAddr {
        match self.0.to_canonical() {
            IpAddr::V6(ip) if !ip.is_loopback() => IpAddr::V6((ip.to_bits() >> 64 << 64).into()),
            ip => ip,
        }
    }

    /// Who asks, for the log: `page, 192.168.1.20`.
    pub(crate) fn origin(self) -> String {
        format!("page, {}", self.0.to_canonical())
    }
}
