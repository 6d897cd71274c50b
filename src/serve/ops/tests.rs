//! What can be asked of a box that cannot do it.

use super::*;

#[tokio::test]
async fn what_cannot_be_done_has_a_reason_of_its_own() {
    let (orders, _ordered) = mpsc::channel(1);
    let repairs: Repairs = [("A".into(), orders)].into();
    let decoders: Decoders =
        [("gate".to_owned(), DecoderHandle::default()), ("mat".to_owned(), DecoderHandle::default())].into();
    let ops = Ops::new(Board::new("finish"), repairs, decoders, watch::Sender::default());
    assert_eq!((ops.status().name.as_str(), ops.durable().await, ops.try_again()), ("finish", 0, 0));
    let unknown = DecoderRefusal::Unknown { known: vec!["gate".to_owned(), "mat".to_owned()] };
    assert_eq!(unknown.to_string(), "there is no decoder of that name; there are: gate, mat");
    let range = Range { unit: None, file: None, from: 1, to: 9 };
    assert_eq!(ops.rewind("start", &range).await, Err(unknown.clone()));
    assert_eq!(ops.rewind("mat", &range).await, Err(DecoderRefusal::NotConnected));
    assert_eq!(ops.capture("start").err(), Some(unknown));
    let recordings: Vec<_> = (0..CAPTURES).map(|_| ops.capture("mat").ok().unwrap()).collect();
    assert!(matches!(ops.capture("mat").err(), Some(DecoderRefusal::Refused(_))));
    drop(recordings);
    assert!(ops.capture("mat").is_ok(), "a recording that is dropped makes room");
    assert!(matches!(ops.repair("B", "x".to_owned()).await, Err(OpsError::UnknownDevice(device)) if device == "B"));
    assert!(matches!(ops.adopt("A".to_owned(), "A").await, Err(OpsError::DeviceInUse(device)) if device == "A"));
    assert!(matches!(ops.let_go(None).await, Err(OpsError::NoJournal)));
}

#[tokio::test(start_paused = true)]
async fn an_order_that_waited_too_long_is_withdrawn_and_one_whose_call_is_made_is_waited_for() {
    let (orders, mut ordered) = mpsc::channel(1);
    let sessions: SessionOrders = [("A".into(), orders)].into();
    let ops = Ops::new(Board::new("finish"), Repairs::new(), Decoders::new(), watch::Sender::default())
        .with_sessions(sessions);
    let wanted = || Wanted::Close { token: "T".into() };
    assert!(matches!(ops.session("A", wanted(), "me").await, Err(OpsError::NotBegun)));
    let withdrawn = ordered.recv().await.unwrap();
    assert!(!withdrawn.claim.take() && withdrawn.done.is_closed(), "the uplink must not carry it out");
    // The daemon stops, before the call and amid it.
    for amid in [false, true] {
        let stopping = async {
            let order = ordered.recv().await.unwrap();
            assert!(!amid || order.claim.take());
        };
        let (told, ()) = tokio::join!(ops.session("A", wanted(), "me"), stopping);
        assert_eq!(matches!(told, Err(OpsError::StoppedAmid)), amid, "{told:?}");
        assert_eq!(matches!(told, Err(OpsError::Stopping)), !amid, "{told:?}");
    }
    let uplink = async {
        let order = ordered.recv().await.unwrap();
        assert!(order.claim.take());
        tokio::time::sleep(BEGIN_TIME * 2).await;
        let outcome = crate::cloud::uplink::Outcome::Closed { token: "T".into() };
        order.done.send(SessionChange { outcome, left: 0, on_their_way: 0 }).unwrap();
    };
    let (done, ()) = tokio::join!(ops.session("A", wanted(), "me"), uplink);
    assert!(done.is_ok());
}

#[tokio::test]
async fn a_daemon_that_stops_says_so() {
    let (orders, ordered) = mpsc::channel(1);
    let repairs: Repairs = [("A".into(), orders)].into();
    let ops = Ops::new(Board::new("finish"), repairs, Decoders::new(), watch::Sender::default());
    drop(ordered);
    assert!(matches!(ops.repair("A", "x".to_owned()).await, Err(OpsError::Stopping)));
}
