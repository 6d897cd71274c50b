//! What the box says to its decoders in a whole way (connect, gaps, a rewind by hand, a pulled
//! cable, goodbye), byte by byte, against lists of what it may say (tests/support/allowed.rs). For
//! keepalives in hours of silence and for whatever decoders may say themselves:
//! `tests/it/protocols`.

use passbridge::testing::config::Address;
use passbridge::testing::daemon::Daemon;
use passbridge::testing::decoders::{Missed, REGISTRY, Range, Settings};
use passbridge::testing::serve::control::{self, ControlRequest};
use passbridge::testing::sim::decoder::{Kind, SimConfig, SimDecoder, Wiring};
use std::time::Duration;

use crate::support::allowed::forbidden;
use crate::support::e2e::*;

async fn says_nothing_else(kind: Kind, set: Settings) {
    let mut way = EndToEnd::new().await;
    way.session();
    // By default a reader is left as it is: then it must be one that reads.
    let programmed = !set.contains_key("start");
    let config = |wiring| SimConfig { programmed, repeat: Duration::from_millis(50), ..SimConfig::new(kind, wiring) };
    let (sim, daemon) = if kind.connects() {
        way.decoder(MAT, kind, Address::Listen(LOOPBACK)).set = set.clone();
        let daemon = way.start().await;
        (SimDecoder::start(config(Wiring::Connect(daemon.listening[MAT]))).await.unwrap(), daemon)
    } else {
        let sim = way.plug_as(MAT, config(Wiring::Listen(LOOPBACK))).await;
        way.config.decoders[0].set = set.clone();
        (sim, way.start().await)
    };
    let mut open = sim.links();
    open.wait_for(|links| *links == 1).await.unwrap();
    sim.push(20);
    way.arrive(20, &daemon).await;
    let range = Range { unit: None, file: None, from: 1, to: 10 };
    let can = kind.spec().missed == Missed::Stored;
    loop {
        let ask = ControlRequest::Rewind { decoder: MAT.to_owned(), range: range.clone() };
        let asked = control::ask(way.data(), ask).await.unwrap()["answer"] == "asked";
        assert!(!asked || can, "{} cannot be asked", kind.name());
        if asked == can {
            break; // else its connection has just begun, and says so
        }
    }
    if can && kind != Kind::CHRONOTRACK {
        keeps(&daemon, 20 + 10).await; // the ten come again
    }
    open.mark_unchanged();
    sim.drop_links();
    sim.push(20);
    open.changed().await.unwrap();
    open.wait_for(|links| *links == 1).await.unwrap();
    sim.push(1);
    let last = sim.reads().last().unwrap().chip.to_string();
    let kept = |daemon: &Daemon| daemon.board().recent_reads(1000).iter().any(|read| read.chip == last);
    shows(&daemon, "the last read is kept", |_| kept(&daemon)).await;
    daemon.stop().await.unwrap();

    let said = sim.heard();
    assert!(said.len() >= 2, "{}: two connections", kind.name());
    for connection in &said {
        assert_eq!(forbidden(kind.name(), &set, connection), None, "{}", kind.name());
    }
    if kind == Kind::LLRP {
        // Left as it was found: what we began is deleted (21), and the next client is let in (14).
        let last = messages(said.last().unwrap());
        let end: &[u16] = if programmed { &[26, 14] } else { &[21, 14] };
        assert!(last.ends_with(end), "{last:?}");
    }
    assert_eq!(sim.forbidden(), [""; 0], "{}", kind.name());
}

/// Types of LLRP messages, in order.
fn messages(mut said: &[u8]) -> Vec<u16> {
    let mut types = Vec::new();
    while let Some(head) = said.first_chunk::<6>() {
        types.push(u16::from_be_bytes([head[0], head[1]]) & 0x3ff);
        said = &said[u32::from_be_bytes([head[2], head[3], head[4], head[5]]) as usize..];
    }
    types
}

#[tokio::test]
async fn no_decoder_is_told_anything_that_changes_it_unless_the_configuration_says_so() {
    let kinds = REGISTRY.iter().map(|spec| Kind::from_name(spec.name).unwrap());
    let by_default = kinds.map(|kind| match kind {
        Kind::LLRP => (kind, Settings::new()),
        _ => (kind, kind.settings()), // what it cannot do without
    });
    let asked_for = [(Kind::LLRP, Kind::LLRP.settings())];
    together(by_default.chain(asked_for).map(|(kind, set)| says_nothing_else(kind, set))).await;
}
