//! Which reads the link asks a decoder for, and when.

use super::*;

#[tokio::test]
async fn missed_reads_are_asked_for_when_the_journal_knows_late_and_reads_do_not_wait_for_it() {
    let shelf = Shelf::new(true);
    shelf.0.held.send_replace(None);
    let (listener, address) = decoder_listens().await;
    let limits = Limits { held: Duration::from_millis(20), ..QUICK };
    let link = Running::start(limits, config(&STORES, address), &shelf).await;
    let (mut wire, _) = within(listener.accept()).await.unwrap();
    wire.write_all(b"Aone\n").await.unwrap();
    assert_eq!(line(&mut wire).await, "ack one\n");

    let mut held = StoredRanges::default();
    held.insert(&Position { unit: None, file: None, number: 7 });
    shelf.0.held.send_replace(Some(held));
    assert_eq!(line(&mut wire).await, "", "the link is closed to be made anew");
    let (mut wire, _) = within(listener.accept()).await.unwrap();
    assert_eq!(line(&mut wire).await, "ask 8\n");
    assert_eq!(link.problem("decoder_unreachable"), None);
    link.stopped().await.unwrap();
}

#[tokio::test]
async fn a_storing_decoder_that_connects_to_us_waits_until_the_journal_knows_what_is_held() {
    let shelf = Shelf::new(true);
    shelf.0.held.send_replace(None);
    let limits = Limits { held: Duration::from_millis(1), ..QUICK };
    let link = Running::start(limits, config(&STORES, any_port()), &shelf).await;
    let mut wire = TcpStream::connect(link.local.unwrap()).await.unwrap();
    wire.write_all(b"Aone\n").await.unwrap();
    let early = timeout(Duration::from_millis(50), wire.read_u8()).await;
    assert!(early.is_err(), "taken before it was known what is missing: {early:?}");
    let mut held = StoredRanges::default();
    held.insert(&Position { unit: None, file: None, number: 7 });
    shelf.0.held.send_replace(Some(held));
    assert_eq!(line(&mut wire).await, "ask 8\n");
    assert_eq!(line(&mut wire).await, "ack one\n");
    link.stopped().await.unwrap();
}

#[tokio::test]
async fn an_ack_waits_for_every_source_of_what_came_with_it() {
    let shelf = Shelf::new(true);
    shelf.0.shut.send_replace("mat/Start");
    let mut routed = config(&STREAMS, any_port());
    routed.locations = [("Start".to_owned(), "65A2".to_owned())].into();
    let link = Running::start(QUICK, routed, &shelf).await;
    link.shows(|link| link.status().locations.get("Start") == Some(&0)).await;
    let mut wire = TcpStream::connect(link.local.unwrap()).await.unwrap();
    wire.write_all(b"Aone\n@two\nAthree\n").await.unwrap();
    shelf.has(2).await;
    assert_eq!(shelf.kept(), ["one", "three"], "the other source does not wait");
    let early = timeout(Duration::from_millis(50), wire.read_u8()).await;
    assert!(early.is_err(), "acknowledged before all of it is durable: {early:?}");
    assert_eq!(link.status().reads, 0);
    shelf.0.shut.send_replace("");
    for expected in ["ack one\n", "ack two\n", "ack three\n"] {
        assert_eq!(line(&mut wire).await, expected);
    }
    link.shows(|link| link.status().reads == 3).await;
    assert_eq!(link.status().locations["Start"], 1);
    let sources: Vec<_> = link.board.recent_reads(9).into_iter().map(|read| read.decoder).collect();
    assert_eq!(sources.iter().filter(|source| *source == "mat/Start").count(), 1, "{sources:?}");
    link.stopped().await.unwrap();
}

#[tokio::test]
async fn who_asks_by_hand_is_told_whether_the_decoder_was_asked() {
    let shelf = Shelf::new(true);
    let (listener, address) = decoder_listens().await;
    let range = |from, to| crate::decoders::Range { unit: None, file: None, from, to };
    let link = Running::start(QUICK, config(&STORES, address), &shelf).await;
    let (mut wire, _) = within(listener.accept()).await.unwrap();
    assert_eq!(line(&mut wire).await, "ask 1\n");
    assert_eq!(link.asks.ask(&range(3, 4)).await, CommandResult::Accepted);
    assert_eq!(line(&mut wire).await, "again 3 4\n");
    assert_eq!(link.asks.ask(&range(99, 99)).await, CommandResult::Refused("not that"));
    assert!(matches!(link.asks.ask(&range(4, 3)).await, CommandResult::Refused(_)));
    let asks = link.asks.clone();
    link.stopped().await.unwrap();
    assert_eq!(asks.ask(&range(3, 4)).await, CommandResult::NotConnected);
}

#[tokio::test]
async fn what_an_earlier_connection_told_and_the_next_one_does_not_is_over() {
    let shelf = Shelf::new(true);
    let (listener, address) = decoder_listens().await;
    let limits = Limits { renewed: Duration::ZERO, ..QUICK };
    let message = |link: &Running| link.problem("low_battery").map(|problem| problem.message);
    let link = Running::start(limits, config(&STREAMS, address), &shelf).await;
    let (mut wire, _) = within(listener.accept()).await.unwrap();
    wire.write_all(b"Llow\nAone\n").await.unwrap();
    assert_eq!(line(&mut wire).await, "ack one\n");
    assert_eq!(message(&link).as_deref(), Some("low"), "the connection that told it is up");
    drop(wire);
    let (mut wire, _) = within(listener.accept()).await.unwrap();
    wire.write_all(b"Atwo\n").await.unwrap();
    assert_eq!(line(&mut wire).await, "ack two\n");
    link.shows(|link| link.problem("low_battery").is_none()).await;
    wire.write_all(b"Lstill low\nAthree\n").await.unwrap();
    assert_eq!(line(&mut wire).await, "ack three\n");
    assert_eq!(message(&link).as_deref(), Some("still low"));
    link.stopped().await.unwrap();
}

#[tokio::test]
async fn a_link_that_somebody_restarts_connects_anew_asks_for_what_it_missed_and_loses_nothing() {
    let shelf = Shelf::new(false); // the disk takes nothing yet
    let (listener, address) = decoder_listens().await;
    let link = Running::start(QUICK, config(&STORES, address), &shelf).await;
    let (mut wire, _) = within(listener.accept()).await.unwrap();
    assert_eq!(line(&mut wire).await, "ask 1\n");
    wire.write_all(b"Aone\n").await.unwrap();
    link.shows(|link| link.status().buffered == 1).await;
    link.asks.restart();
    assert_eq!(line(&mut wire).await, "", "the connection ends");
    let (mut wire, _) = within(listener.accept()).await.unwrap();
    assert_eq!(line(&mut wire).await, "ask 1\n");
    assert_eq!(link.problem("decoder_unreachable"), None, "somebody wanted it");
    shelf.0.open.send_replace(true);
    shelf.has(1).await;
    assert_eq!(shelf.kept(), ["one"], "what was received before is kept");
    link.stopped().await.unwrap();
}

#[tokio::test]
async fn a_link_that_waits_before_it_tries_again_tries_at_once_when_it_is_restarted() {
    let shelf = Shelf::new(true);
    let (listener, address) = decoder_listens().await;
    let limits = Limits { retry: Duration::from_secs(3600), retry_max: Duration::from_secs(3600), ..QUICK };
    let link = Running::start(limits, config(&STREAMS, address), &shelf).await;
    let (wire, _) = within(listener.accept()).await.unwrap();
    drop(wire);
    link.shows(|link| link.problem("decoder_unreachable").is_some()).await;
    link.asks.restart();
    let (_wire, _) = within(listener.accept()).await.unwrap();
    link.shows(|link| link.status().state == crate::status::LinkState::Connected).await;
    link.stopped().await.unwrap();
}
