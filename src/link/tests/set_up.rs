//! Mistakes of the set-up: the wrong protocol, the wrong rate, the wrong zone, no zone, and
//! software that never connects.

use super::buffer::{Piped, piped_as};
use super::*;
use crate::config::ClockLimits;
use crate::decoders::spec;
use std::time::Instant;

const IPICO: &str = "aa00058003235b7001000401010035365676\r\n";
const RACE_RESULT: [&str; 2] = [
    "1;0041234;2026-11-29;10:00:00.000;0;4;17;;0;;;;;;;0;Sim;1;3;D-5001\r\n",
    "2;0041235;2026-11-29;10:00:01.000;0;4;17;;0;;;;;;;0;Sim;1;3;D-5001\r\n",
];

fn of(protocol: &str, address: Address) -> DecoderConfig {
    DecoderConfig { zone_given: true, ..config(spec(protocol).unwrap(), address) }
}

fn a_line() -> Address {
    "serial:///dev/ttyUSB0?baud=9600".parse().unwrap()
}

impl Piped {
    fn told(&self, code: &str) -> Option<String> {
        let problems = self.board.snapshot().problems;
        problems.into_iter().find(|problem| problem.code == code).map(|problem| problem.message)
    }

    /// Sends these messages in turn, one a second, until the problem is shown. Returns how many
    /// seconds that took.
    async fn shows(&self, wire: &mut DuplexStream, says: &[&[u8]], code: &str) -> (usize, String) {
        for (second, say) in says.iter().cycle().take(60).enumerate() {
            wire.write_all(say).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
            if let Some(message) = self.told(code) {
                return (second + 1, message);
            }
        }
        panic!("{code} is not shown within a minute: {:?}", self.board.snapshot().problems);
    }
}

#[tokio::test(start_paused = true)]
async fn a_wrong_protocol_is_named_with_the_line_to_change_until_something_is_understood() {
    let shelf = Shelf::new(true);
    for configured in ["raceresult", "one4all", "ultra", "timy"] {
        let (mut wire, piped) = piped_as(LIMITS, of(configured, any_port()), 4096, &shelf);
        let (seconds, message) = piped.shows(&mut wire, &[IPICO.as_bytes()], "wrong_protocol").await;
        assert!((20..=22).contains(&seconds), "{configured}: {seconds}");
        assert!(message.contains("looks like ipico: write protocol = \"ipico\""), "{message}");
        assert!(!message.contains("vendor"), "{message}");
    }
    let (mut wire, piped) = piped_as(LIMITS, of("one4all", any_port()), 4096, &shelf);
    let says: Vec<&[u8]> = RACE_RESULT.iter().map(|line| line.as_bytes()).collect();
    let (_, message) = piped.shows(&mut wire, &says, "wrong_protocol").await;
    assert!(message.contains("write protocol = \"raceresult\""), "{message}");

    let (mut wire, piped) = piped_as(LIMITS, of("ipico", any_port()), 4096, &shelf);
    piped.shows(&mut wire, &says, "wrong_protocol").await;
    wire.write_all(IPICO.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(piped.told("wrong_protocol"), None);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_rate_is_told_within_seconds_on_a_serial_line_and_with_the_word_to_change() {
    let shelf = Shelf::new(true);
    let garbage: &[u8] = &[0x86, 0xe6, 0xf8, 0x00, 0x1c, 0x80, 0x66, 0xfe, 0x98, 0xe0, 0x78, 0x1e];
    for configured in ["ipico", "raceresult", "timy", "one4all", "jchip"] {
        let (mut wire, piped) = piped_as(LIMITS, of(configured, a_line()), 4096, &shelf);
        let (seconds, message) = piped.shows(&mut wire, &[garbage], "wrong_baud").await;
        assert!(seconds <= 7, "{configured}: {seconds}");
        assert!(message.contains("Correct baud in its address"), "{message}");
    }
    // With the usual byte for a line end in them, the pieces are rejected one by one.
    let (mut wire, piped) = piped_as(LIMITS, of("ipico", a_line()), 4096, &shelf);
    piped.shows(&mut wire, &[garbage, b"\r\n", b"\xfe\n\x80"], "wrong_baud").await;
}

#[tokio::test(start_paused = true)]
async fn a_zone_that_is_not_configured_is_told_until_the_decoder_turns_out_to_send_utc() {
    let shelf = Shelf::new(true);
    let config = DecoderConfig { zone_given: false, ..config(&STREAMS, any_port()) };
    let (mut wire, piped) = piped_as(LIMITS, config, 4096, &shelf);
    assert!(piped.told("zone_missing").unwrap().contains("Write timezone ="));
    wire.write_all(b"Rone\n").await.unwrap(); // its stamp is in UTC
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(piped.told("zone_missing"), None);
    for utc in ["llrp", "impinj"] {
        let config = DecoderConfig { zone_given: false, ..of(utc, any_port()) };
        let (_wire, piped) = piped_as(LIMITS, config, 4096, &shelf);
        assert_eq!(piped.told("zone_missing"), None, "{utc} sends UTC");
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_a_second_off_is_a_row_and_one_that_is_two_off_is_wrong() {
    let shelf = Shelf::new(true);
    for (ms, code) in [(1_500, "decoder_clock_near"), (-1_500, "decoder_clock_near"), (2_500, "decoder_clock_off")] {
        let (mut wire, piped) = piped_as(LIMITS, config(&STREAMS, any_port()), 4096, &shelf);
        let at = |ms| Stamp::Utc(Timestamp::now() + jiff::SignedDuration::from_millis(ms));
        wire.write_all(format!("C{}\nC{}\n", at(ms), at(ms)).as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(piped.told(code).is_some(), "{ms} ms: {:?}", piped.board.snapshot().problems);
        wire.write_all(format!("C{}\nC{}\n", at(0), at(0)).as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(piped.told(code), None, "{ms} ms");
    }
    let clock = ClockLimits { note: Duration::from_secs(20), wrong: Duration::from_secs(20), ..ClockLimits::default() };
    let (mut wire, piped) = piped_as(LIMITS, DecoderConfig { clock, ..config(&STREAMS, any_port()) }, 4096, &shelf);
    let off = Stamp::Utc(Timestamp::now() + Duration::from_secs(10));
    wire.write_all(format!("C{off}\nC{off}\n").as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(piped.told("decoder_clock_off"), None, "the configuration says from when on");
}

#[tokio::test]
async fn software_that_never_connects_is_told() {
    let shelf = Shelf::new(true);
    let (wire, piped) = piped_as(LIMITS, of("mylaps", any_port()), 64, &shelf);
    drop(wire);
    within(async {
        while piped.decoder.presence().up > 0 {
            tokio::task::yield_now().await
        }
    })
    .await;
    piped.decoder.awaits(Instant::now());
    assert_eq!(piped.told("decoder_unreachable"), None);
    piped.decoder.awaits(Instant::now() + Duration::from_secs(11));
    assert!(piped.told("decoder_unreachable").unwrap().contains("nobody has connected to `mat`"));
}

#[test]
fn a_port_that_becomes_free_is_still_one_to_which_nobody_has_connected() {
    let board = Board::new("finish");
    let decoder = Decoder::new(LIMITS, of("mylaps", any_port()), DecoderHandle::default(), board.clone());
    let shown = || board.snapshot().problems.into_iter().map(|problem| problem.code).collect::<Vec<_>>();
    let later = || Instant::now() + Duration::from_secs(11);
    decoder.cannot_listen(&std::io::ErrorKind::AddrInUse.into());
    decoder.awaits(later());
    assert_eq!(shown(), ["decoder_port_taken"], "nobody can connect, so nobody is awaited");
    decoder.on_listening();
    assert_eq!(shown(), [""; 0]);
    assert!(!board.snapshot().decoders[0].was_connected);
    decoder.awaits(later());
    assert_eq!(shown(), ["decoder_unreachable"]);
}
