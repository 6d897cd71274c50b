//! Wrong tokens: who guesses has to wait.
//!
//! Must hold:
//! * Three wrong tries from one machine, and it waits for a minute. While it waits, a token is not
//!   even compared, so the answer says nothing about it.
//! * [`MOST_OF_ALL`] wrong tries within a minute, wherever they came from, and every machine waits
//!   from which nobody has shown the right token yet. Those who did are not locked out by what
//!   others do: else a spectator could keep the timer out with one guess a second.
//! * Who is logged in, or has a QR code, does not come here and never waits.
//! * Bounded: [`MACHINES`] machines are remembered, and one more replaces the one whose last try is
//!   the longest ago.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

/// Wrong tries after which a machine waits.
pub(super) const TRIES: u32 = 3;
/// How long it waits.
pub(super) const PAUSE: Duration = Duration::from_secs(60);
/// Wrong tries of all machines together within [`PAUSE`] after which all wait.
const MOST_OF_ALL: u32 = 30;
/// After this time without a try, earlier ones do not count any more.
const FORGET: Duration = Duration::from_secs(600);
/// Most machines with wrong tries that are remembered.
const MACHINES: usize = 256;
/// Most machines with the right token that are remembered.
const KNOWN: usize = 64;

/// Wrong tries of one machine.
#[derive(Clone, Copy, Debug)]
struct Machine {
    wrong: u32,
    last: Instant,
}

/// All wrong tries.
#[derive(Debug, Default)]
pub(super) struct Tries {
    machines: HashMap<IpAddr, Machine>,
    /// Wrong tries of all machines since the moment beside it.
    all: Option<(u32, Instant)>,
    /// Machines from which the right token came, the newest at the end.
    known: Vec<IpAddr>,
}

impl Tries {
    /// How long the machine has to wait until its next try is looked at. `None`: it need not wait.
    pub(super) fn wait(&self, machine: IpAddr, now: Instant) -> Option<Duration> {
        let own = self.machines.get(&machine).filter(|own| own.wrong >= TRIES).map(|own| own.last + PAUSE);
        let all = self.all.filter(|(wrong, _)| *wrong >= MOST_OF_ALL && !self.known.contains(&machine));
        let end = own.max(all.map(|(_, since)| since + PAUSE))?;
        end.checked_duration_since(now).filter(|rest| !rest.is_zero())
    }

    /// Counts a wrong try. Returns how many the machine has left before it waits.
    pub(super) fn wrong(&mut self, machine: IpAddr, now: Instant) -> u32 {
        self.all = match self.all {
            Some((wrong, since)) if now < since + PAUSE => Some((wrong.saturating_add(1), since)),
            _ => Some((1, now)),
        };
        if !self.machines.contains_key(&machine) && self.machines.len() >= MACHINES {
            let oldest = self.machines.iter().min_by_key(|(_, known)| known.last).map(|(ip, _)| *ip);
            oldest.map(|oldest| self.machines.remove(&oldest));
        }
        let own = self.machines.entry(machine).or_insert(Machine { wrong: 0, last: now });
        let is_over = own.wrong >= TRIES || now >= own.last + FORGET;
        *own = Machine { wrong: if is_over { 1 } else { own.wrong + 1 }, last: now };
        TRIES.saturating_sub(own.wrong)
    }

    /// The machine showed the right token. With `forgive`, its wrong tries do not count any more. A
    /// program that shows the token with each request does not get that: whoever shares its address
    /// could guess for ever.
    pub(super) fn right(&mut self, machine: IpAddr, forgive: bool) {
        if forgive {
            self.machines.remove(&machine);
        }
        if self.known.last() != Some(&machine) {
            self.known.retain(|known| *known != machine);
            if self.known.len() >= KNOWN {
                self.known.remove(0);
            }
            self.known.push(machine);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 168, 1, last])
    }

    #[test]
    fn three_wrong_tries_cost_a_minute_and_only_the_machine_that_made_them() {
        let (mut tries, now) = (Tries::default(), Instant::now());
        assert_eq!([tries.wrong(ip(1), now), tries.wrong(ip(1), now)], [2, 1]);
        assert_eq!(tries.wait(ip(1), now), None);
        assert_eq!(tries.wrong(ip(1), now), 0);
        assert_eq!(tries.wait(ip(1), now), Some(PAUSE));
        assert_eq!(tries.wait(ip(2), now), None, "another one need not wait");
        let later = now + PAUSE;
        assert_eq!(tries.wait(ip(1), later), None);
        assert_eq!(tries.wrong(ip(1), later), 2, "it has three tries again");
        assert_eq!(tries.wrong(ip(1), later + FORGET), 2, "and old ones do not count");
        tries.right(ip(1), true);
        assert_eq!(tries.wrong(ip(1), later + FORGET), 2);
    }

    #[test]
    fn many_machines_together_are_slow_too_and_do_not_lock_out_who_was_here_before() {
        let (mut tries, now) = (Tries::default(), Instant::now());
        tries.right(ip(200), true);
        for last in 0..30 {
            assert_eq!(tries.wait(ip(last), now), None, "{last}");
            tries.wrong(ip(last), now);
        }
        assert_eq!(tries.wait(ip(100), now), Some(PAUSE));
        assert_eq!(tries.wait(ip(200), now), None);
        assert_eq!(tries.wait(ip(100), now + PAUSE), None);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (mut tries, now) = (Tries::default(), Instant::now());
        for number in 0..10_000_u32 {
            tries.wrong(IpAddr::from(number.to_be_bytes()), now + Duration::from_millis(number.into()));
            tries.right(IpAddr::from(number.to_be_bytes()), false);
        }
        assert_eq!((tries.machines.len(), tries.known.len()), (MACHINES, KNOWN));
        assert!(tries.machines.contains_key(&IpAddr::from(9_999_u32.to_be_bytes())), "the newest are remembered");
    }
}
