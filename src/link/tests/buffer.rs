//! What is lost when the receive buffer is full, at a flood, and with a peer that does not read,
//! over a pipe in memory. Also a clock that was never set.

use std::time::Instant;

use super::*;
use crate::link::receive_buffer::ReceiptTime;

/// One connection over a pipe in memory, whose frames `shelf` keeps.
pub(super) struct Piped {
    pub(super) decoder: Arc<Decoder>,
    pub(super) board: Board,
    ended: JoinHandle<Ended>,
    _keeping: AbortOnDropHandle<JournalError>,
}

fn piped(limits: Limits, spec: &'static Spec, pipe: usize, shelf: &Shelf) -> (DuplexStream, Piped) {
    piped_as(limits, config(spec, any_port()), pipe, shelf)
}

pub(super) fn piped_as(limits: Limits, config: DecoderConfig, pipe: usize, shelf: &Shelf) -> (DuplexStream, Piped) {
    let board = Board::new("test");
    let decoder = Arc::new(Decoder::new(limits, config, DecoderHandle::default(), board.clone()));
    let (theirs, ours) = duplex(pipe);
    let ended = {
        let decoder = Arc::clone(&decoder);
        async move {
            let protocol = decoder.protocol().unwrap();
            connection::serve(&decoder, protocol, ours, None, false, &Liveness::default(), &CancellationToken::new())
                .await
        }
    };
    let keeping = {
        let (decoder, shelf) = (Arc::clone(&decoder), shelf.clone());
        async move { decoder.buffer.keep_all(&shelf).await }
    };
    let keeping = AbortOnDropHandle::new(tokio::spawn(keeping));
    (theirs, Piped { decoder, board, ended: tokio::spawn(ended), _keeping: keeping })
}

#[tokio::test]
async fn a_full_buffer_drops_the_newest_reads_of_a_streaming_decoder_and_says_exactly_how_many() {
    let shelf = Shelf::new(false);
    let limits = Limits { buffer: 16 * 1024, ..QUICK };
    let (mut wire, piped) = piped(limits, &STREAMS, 64, &shelf);
    for chip in 0..1000 {
        wire.write_all(format!("R{chip}\n").as_bytes()).await.unwrap();
    }
    // When the link sees the end of the pipe, it has taken the last read from it.
    drop(wire);
    let ended = within(piped.ended).await.unwrap();
    assert!(matches!(ended.end, End::Closed), "{ended:?}");
    piped.decoder.upkeep();
    let status = piped.board.snapshot().decoders.remove(0);
    let room = 16 * 1024 / 512;
    assert!(status.buffered <= room && status.buffered > room / 2, "{status:?}");
    assert_eq!(status.buffered + status.dropped, 1000);
    let problem = piped.board.snapshot().problems.remove(0);
    assert_eq!(problem.code, "reads_dropped");
    assert!(problem.message.contains(&status.dropped.to_string()), "{problem:?}");

    shelf.open();
    within(piped.decoder.buffer.drained()).await;
    let mut expected: Vec<String> = (0..status.buffered).map(|chip| chip.to_string()).collect();
    expected.push(format!("#{}", status.dropped));
    assert_eq!(shelf.kept(), expected, "the loss is in the record, at its place");
}

#[tokio::test]
async fn a_full_buffer_stops_the_reading_from_a_decoder_that_resends_and_loses_nothing() {
    waits_and_loses_nothing(&STORES, Duration::ZERO).await;
}

#[tokio::test]
async fn a_streaming_decoder_is_made_to_wait_for_a_disk_that_is_only_slow() {
    waits_and_loses_nothing(&STREAMS, Duration::from_secs(3600)).await;
}

async fn waits_and_loses_nothing(spec: &'static Spec, stall: Duration) {
    let shelf = Shelf::new(false);
    let limits = Limits { buffer: 16 * 1024, stall, ..QUICK };
    let (mut wire, piped) = piped(limits, spec, 64, &shelf);
    let (sent, mut watched) = watch::channel(0);
    let sending = tokio::spawn(async move {
        for chip in 0..2000 {
            wire.write_all(format!("R{chip}\n").as_bytes()).await.unwrap();
            sent.send_replace(chip + 1);
        }
        wire
    });
    within(async {
        while !piped.decoder.buffer.is_full() {
            watched.changed().await.unwrap();
        }
    })
    .await;
    // When the buffer is full, the link takes at most one more read from the pipe and the content
    // of one pipe. A line has three bytes or more.
    let most = 16 * 1024 / 512 + 2 * 64 / 3;
    let more =
        timeout(Duration::from_millis(50), watched.wait_for(|sent| *sent > most)).await.map(|sent| *sent.unwrap());
    assert!(more.is_err(), "reading went on: {more:?}, at most {most}");

    shelf.open();
    let wire = within(sending).await.unwrap();
    shelf.has(2000).await;
    assert_eq!(shelf.kept(), (0..2000).map(|chip| chip.to_string()).collect::<Vec<_>>());
    assert_eq!(piped.board.snapshot().decoders[0].dropped, 0);
    drop(wire);
    within(piped.ended).await.unwrap();
}

#[tokio::test]
async fn a_flood_of_rejected_frames_is_capped_counted_and_named() {
    let shelf = Shelf::new(true);
    let (mut wire, piped) = piped(QUICK, &STREAMS, 64 * 1024, &shelf);
    let long = [vec![b'x'; 5000], vec![b'\n']].concat();
    wire.write_all(&long).await.unwrap();
    wire.write_all(&b"?\n".repeat(9999)).await.unwrap();
    wire.write_all(b"Rone\n").await.unwrap();
    drop(wire);
    within(piped.ended).await.unwrap();
    within(piped.decoder.buffer.drained()).await;
    piped.decoder.upkeep();
    assert_eq!(piped.board.snapshot().decoders[0].rejected, 10_000);
    let kept = shelf.kept();
    assert!((101..150).contains(&kept.len()), "a hundred, one a second, and the read: {}", kept.len());
    assert_eq!(kept.last().unwrap(), "one");
    assert_eq!(shelf.0.kept.borrow()[0].raw.len(), 1024);
    let problem = piped.board.snapshot().problems.remove(0);
    assert_eq!(problem.code, "many_rejected");
    assert!(problem.message.contains("baud rate") && problem.message.contains("not_mine"), "{problem:?}");
}

#[tokio::test]
async fn a_peer_that_takes_none_of_our_replies_loses_the_link() {
    let shelf = Shelf::new(true);
    let (mut wire, piped) = piped(QUICK, &STORES, 16, &shelf);
    let pings = tokio::spawn(async move { while wire.write_all(b"P\n").await.is_ok() {} });
    let ended = within(piped.ended).await.unwrap();
    assert!(matches!(ended.end, End::NotTaking(_)), "{ended:?}");
    within(pings).await.unwrap();
}

#[tokio::test]
async fn a_decoder_whose_clock_was_never_set_is_told_when_its_first_read_arrives() {
    let shelf = Shelf::new(true);
    let (mut wire, piped) = piped(QUICK, crate::decoders::spec("raceresult").unwrap(), 1024, &shelf);
    wire.write_all(b"#P;1;33;0000-00-00;00:00:02.773;6692;12;-68\r\n").await.unwrap();
    shelf.has(1).await;
    let codes: Vec<String> = piped.board.snapshot().problems.into_iter().map(|problem| problem.code).collect();
    assert_eq!(codes, ["decoder_clock_unset"]);
    drop(wire);
    within(piped.ended).await.unwrap();
}

#[tokio::test]
async fn a_read_of_a_decoder_without_a_clock_is_placed_by_the_receipt_of_its_greeting() {
    let shelf = Shelf::new(true);
    let (mut wire, piped) = piped(QUICK, &STREAMS, 1024, &shelf);
    let before = Instant::now();
    wire.write_all(b"Gup60.000\nU5200\nU-30000\nU999999999\n").await.unwrap();
    drop(wire);
    within(piped.ended).await.unwrap();
    within(piped.decoder.buffer.drained()).await;
    let most = before.elapsed().as_millis() as i64;
    let age = |framed: &Framed| match &framed.frame {
        Frame::Read(ChipRead { age: Some(age), .. }) => match **age {
            Age::BeforeReceipt(ms) => ms,
            Age::AfterGreeting(_) => panic!("{age:?}"),
        },
        other => panic!("{other:?}"),
    };
    let ages: Vec<i64> = shelf.0.kept.borrow().iter().map(age).collect();
    assert!((-5200..=most - 5200).contains(&ages[0]) && (30_000..=30_000 + most).contains(&ages[1]), "{ages:?}");
    assert_eq!(ages[2], 0, "what would be of the far future was read just now");
    assert!(piped.board.snapshot().problems.iter().all(|problem| problem.code != "decoder_clock_off"), "it has none");
}

#[tokio::test]
async fn of_what_cannot_be_read_and_is_acknowledged_more_is_kept_than_of_noise() {
    let shelf = Shelf::new(true);
    let (mut wire, piped) = piped(QUICK, &STREAMS, 64 * 1024, &shelf);
    let (acknowledged, noise) = (format!("X{}", "y".repeat(4095)), "z".repeat(4096));
    wire.write_all(format!("{acknowledged}\n{noise}\n").as_bytes()).await.unwrap();
    drop(wire);
    within(piped.ended).await.unwrap();
    within(piped.decoder.buffer.drained()).await;
    let raw: Vec<usize> = shelf.0.kept.borrow().iter().map(|framed| framed.raw.len()).collect();
    assert_eq!(raw, [4096, 1024]);
}

#[tokio::test]
async fn what_arrived_while_the_disk_was_busy_is_handed_over_at_once_and_each_read_is_shown_with_its_number() {
    let shelf = Shelf::new(false);
    let mut routed = config(&STREAMS, any_port());
    routed.locations = [("Start".to_owned(), "65A2".to_owned())].into();
    let (_wire, piped) = piped_as(QUICK, routed, 1024, &shelf);
    let read = |chip: u64| {
        let location = chip.is_multiple_of(3).then(|| "Start".into());
        let read = ChipRead { location, ..ChipRead::new(chip.to_string(), Stamp::Utc(Timestamp::now())) };
        Framed { frame: Frame::Read(read), raw: Box::default() }
    };
    let put = |chips: std::ops::RangeInclusive<u64>| {
        piped.decoder.buffer.put(ReceiptTime::now(&piped.decoder.board), chips.map(read).collect(), 0);
    };
    put(1..=1);
    shelf.asked(1).await;
    (2..=20).for_each(|chip| put(chip..=chip));
    put(21..=30);
    shelf.open();
    within(piped.decoder.buffer.drained()).await;
    assert_eq!(*shelf.0.asked.borrow(), 2, "the first, and all the others together");
    assert_eq!(shelf.kept(), (1..=30).map(|chip| chip.to_string()).collect::<Vec<_>>());
    within(async {
        while piped.board.recent_reads(99).len() < 30 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for shown in piped.board.recent_reads(99) {
        assert_eq!(shown.chip, shown.seq.to_string());
        assert_eq!(shown.decoder, if shown.seq % 3 == 0 { "mat/Start" } else { "mat" });
    }
}
