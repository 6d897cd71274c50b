//! The answers to the calls that a timer makes by hand, in both generations and in odd shapes, and
//! lists that are read page by page.

use super::super::account::{Binding, PullFrom};
use super::super::answer::account::{bound, closed, devices, held_in_full, one_session, pulled, sessions, unbound};
use super::*;

/// Each body bare (2023), in an envelope (2026), and as text in an envelope.
fn dresses(body: &str) -> [String; 3] {
    let text = serde_json::to_string(body).unwrap();
    [body.to_owned(), format!(r#"{{"body":{body}}}"#), format!(r#"{{"statusCode":200,"body":{text}}}"#)]
}

fn is_unreadable<T: std::fmt::Debug>(answer: &Result<T, CallError>) -> bool {
    matches!(answer, Err(error) if error.not_understood().is_some())
}

#[test]
fn devices_of_both_generations_are_read_with_all_that_they_tell() {
    let old = r#"{"deviceid":"A","type":"CUSTOM_CHRONO","model":"box","alias":"5K \"Fun\" 🏃","firmware":"1","serial_number":
        "S1","creation_date":"2026-03-06T20:27:47.350Z","sessions":3,"passings":4000,"last_seen":"2026-03-07T20:27:47.350Z"}"#;
    let new = r#"{"deviceid":"B","model":"box","serial_number":"S2","last_login":"2026-03-07T20:27:47.350Z","sessions":"2",
        "device_status":"online","battery_percentage":81,"charging":false,"last_telemetry_at":null,"firmware":null}"#;
    for body in
        dresses(&format!(r#"{{"description":"Success","result":[{old},{new}],"pagination":{{"has_more":true}}}}"#))
    {
        let page = read(200, &body, devices).unwrap();
        assert_eq!(page.more, Some(true), "{body}");
        let [a, b] = &page.items[..] else { panic!("{page:?}") };
        assert_eq!((a.id.as_deref(), a.alias.as_deref()), (Some("A"), Some("5K \"Fun\" 🏃")));
        assert_eq!((a.kind.as_deref(), a.firmware.as_deref()), (Some("CUSTOM_CHRONO"), Some("1")));
        assert_eq!((a.sessions, a.passings, a.created_ms), (Some(3), Some(4000), Some(1_772_828_867_350)));
        assert_eq!((a.battery, a.charging, a.status.as_deref()), (None, None, None));
        assert_eq!((b.serial_number.as_deref(), b.sessions, b.passings), (Some("S2"), Some(2), None));
        assert_eq!((b.battery, b.charging, b.status.as_deref()), (Some(81), Some(false), Some("online")));
        assert_eq!(a.seen_ms, b.seen_ms, "one is called last_seen, the other last_login");
    }
    // One device is an object or a list of one.
    for result in [old.to_owned(), format!("[{old}]"), serde_json::to_string(old).unwrap()] {
        for body in dresses(&format!(r#"{{"description":"Success","result":{result}}}"#)) {
            assert_eq!(read(200, &body, device).unwrap().id.as_deref(), Some("A"), "{body}");
        }
    }
}

#[test]
fn a_list_without_devices_or_sessions_is_empty_only_in_the_clouds_own_words() {
    for (status, body) in [
        (200, r#"{"description":"Success","result":[]}"#),
        (200, r#"{"description":"Success","result":null}"#),
        (200, r#"{"description":"Success","result":"[]"}"#),
        (200, r#"{"description":"Success","pagination":{"page":1,"total":0,"has_more":false}}"#),
        (200, r#"{"body":{"description":"Success"}}"#),
    ] {
        assert_eq!(read(status, body, devices).map(|page| page.items), Ok(vec![]), "{body}");
        assert_eq!(read(status, body, sessions).map(|page| page.items), Ok(vec![]), "{body}");
    }
    assert_eq!(read(404, r#"{"description":"Devices not found"}"#, devices).unwrap().items, []);
    assert_eq!(read(404, r#"{"description":"Sessions not found"}"#, sessions).unwrap().items, []);
    assert_eq!(read(200, r#"{"description":"Sessions not found"}"#, sessions).unwrap().items, []);
    for (status, body) in [
        (200, "{}"),
        (200, ""),
        (404, ""),
        (404, r#"{"message":"Not Found"}"#),
        (200, r#"{"body":null}"#),
        (200, "null"),
    ] {
        assert!(is_unreadable(&read(status, body, devices)), "{status} {body}: {:?}", read(status, body, devices));
        assert!(is_unreadable(&read(status, body, sessions)), "{status} {body}: {:?}", read(status, body, sessions));
    }
    let unknown = read(404, r#"{"description":"Device not found","deviceid":"X"}"#, sessions);
    assert!(matches!(unknown, Err(CallError::DeviceUnknown { .. })), "{unknown:?}");
    let refused = read(403, r#"{"message":"Forbidden"}"#, devices);
    assert!(matches!(refused, Err(CallError::KeyRefused { .. })), "{refused:?}");
}

#[test]
fn a_list_with_a_hole_is_not_shown_as_if_it_were_whole() {
    let good = r#"{"deviceid":"A","token_session":"A"}"#;
    for hole in [
        "null",
        "17",
        "{}",
        r#"{"deviceid":"","token_session":""}"#,
        r#"{"deviceid":"A B","token_session":"A B"}"#,
        r#"{"deviceid":"..","token_session":".."}"#,
    ] {
        let body = format!(r#"{{"description":"Success","result":[{good},{hole}]}}"#);
        assert!(is_unreadable(&read(200, &body, devices)), "{body}");
        assert!(is_unreadable(&read(200, &body, sessions)), "{body}");
    }
}

#[test]
fn sessions_are_read_in_every_dress_and_one_of_them_by_its_token() {
    let list = r#"[{"token_session":"AB12","alias":"Élan \"5K\"","creation_date":"2026-03-06T20:27:47.350Z","active":true,
        "passings":7,"first":"2026-03-06T20:27:47.350Z","last":"2026-03-06 21:27:47.350","duration":"2026-01-01T00:00:00Z"},
        {"token_session":"CD34","active":"false"},{"token_session":"EF56","active":0},{"token_session":"GH78"}]"#;
    for result in [list.to_owned(), serde_json::to_string(list).unwrap()] {
        for body in dresses(&format!(r#"{{"description":"Success","result":{result}}}"#)) {
            let items = read(200, &body, sessions).unwrap().items;
            assert_eq!(items[0].session.alias.as_deref(), Some("Élan \"5K\""), "{body}");
            assert_eq!((items[0].session.passings, items[0].created_ms), (Some(7), Some(1_772_828_867_350)));
            assert_eq!((items[0].first_ms, items[0].last_ms), (Some(1_772_828_867_350), Some(1_772_832_467_350)));
            let active: Vec<_> = items.iter().map(|info| info.active).collect();
            assert_eq!(active, [Some(true), Some(false), Some(false), None]);
            let one = read(200, &body, |reply| one_session(reply, "cd34")).unwrap().unwrap();
            assert_eq!((&*one.session.token, one.active), ("CD34", Some(false)));
            assert!(is_unreadable(&read(200, &body, |reply| one_session(reply, "NOBODY"))));
        }
    }
    assert_eq!(read(404, r#"{"description":"Session not found"}"#, |reply| one_session(reply, "A")), Ok(None));
}

#[test]
fn a_bind_names_its_device_with_201_200_or_409() {
    for (status, body, before) in [
        (201, r#"{"description":"Device binded succesfully","deviceid":"A1"}"#, false),
        (200, r#"{"description":"Device binded successfully","result":{"deviceid":"A1"}}"#, false),
        (200, r#"{"description":"Device already binded","deviceid":"A1"}"#, true),
        (409, r#"{"description":"Device already binded","deviceid":"A1"}"#, true),
        (409, r#"{"description":"Conflict","result":[{"deviceid":"A1"}]}"#, true),
    ] {
        for body in [body.to_owned(), format!(r#"{{"body":{body}}}"#)] {
            assert_eq!(read(status, &body, bound), Ok(Bound { device: "A1".into(), before }), "{status} {body}");
        }
    }
    let inside = r#"{"statusCode":409,"body":"{\"description\":\"Device already binded\",\"deviceid\":\"A1\"}"}"#;
    assert_eq!(read(200, inside, bound), Ok(Bound { device: "A1".into(), before: true }));
    // Nothing tells which device it is, so nothing was learnt.
    assert!(is_unreadable(&read(201, r#"{"description":"Device binded succesfully"}"#, bound)));
    assert!(is_unreadable(&read(201, r#"{"description":"ok","deviceid":"A\nB"}"#, bound)));
    assert!(matches!(read(409, r#"{"description":"Conflict"}"#, bound), Err(CallError::BadRequest { .. })));
    assert!(matches!(read(400, r#"{"description":"model is missing"}"#, bound), Err(CallError::BadRequest { .. })));
    let wrong = read(403, r#"{"description":"Access type not allowed"}"#, bound);
    assert!(matches!(wrong, Err(CallError::KeyRefused { fault: KeyFault::WrongAccess, .. })), "{wrong:?}");
}

#[test]
fn unbinding_and_closing_are_done_only_when_the_cloud_says_so() {
    for body in [r#"{"description":"Device unbinded succesfully"}"#, r#"{"description":"Success"}"#] {
        for body in dresses(body) {
            assert_eq!(read(200, &body, unbound), Ok(()), "{body}");
        }
    }
    for body in dresses(r#"{"description":"Session closed succesfully","token_session":"A"}"#) {
        assert_eq!(read(200, &body, closed), Ok(()), "{body}");
    }
    for body in ["", "{}", "null", r#"{"description":"ok"}"#, r#"{"errorMessage":"Task timed out after 3.00 seconds"}"#]
    {
        assert!(read(200, body, unbound).is_err(), "{body}");
        assert!(read(200, body, closed).is_err(), "{body}");
    }
    assert!(matches!(
        read(404, r#"{"description":"Device not found"}"#, unbound),
        Err(CallError::DeviceUnknown { .. })
    ));
    assert!(matches!(read(403, r#"{"message":"Forbidden"}"#, unbound), Err(CallError::KeyRefused { .. })));
    assert!(matches!(read(404, r#"{"description":"Session not found"}"#, closed), Err(CallError::SessionGone { .. })));
}

#[test]
fn stored_passings_keep_every_field_as_text() {
    let old = r#"{"token_session":"T","deviceid":"D","timestamp":"2026-03-06T20:27:47.350Z","num_passing":1,"bib":"007","chip":
        "C\u001b[31m","participant_id":"p","status":"Sent","timezone":"CET","gender":"f","latitude":"41.38","longitude":"2.17"}"#;
    let new = r#"{"timestamp":"2026-03-06T20:27:47.350Z","num_passing":"2","bib":13,"chip":null,"latitude":41.38,"status":""}"#;
    for body in
        dresses(&format!(r#"{{"description":"Success","result":[{old},{new}],"pagination":{{"has_more":false}}}}"#))
    {
        let page = read(200, &body, held_in_full).unwrap();
        let [a, b] = &page.passings[..] else { panic!("{page:?}") };
        assert_eq!((a.timestamp.as_deref(), a.time_ms), (Some("2026-03-06T20:27:47.350Z"), Some(1_772_828_867_350)));
        assert_eq!((a.num_passing, a.bib.as_deref(), a.chip.as_deref()), (Some(1), Some("007"), Some("C\u{fffd}[31m")));
        assert_eq!(
            (a.participant_id.as_deref(), a.status.as_deref(), a.gender.as_deref()),
            (Some("p"), Some("Sent"), Some("f"))
        );
        assert_eq!(
            (a.latitude.as_deref(), a.longitude.as_deref(), a.timezone.as_deref()),
            (Some("41.38"), Some("2.17"), Some("CET"))
        );
        assert_eq!((a.token_session.as_deref(), a.deviceid.as_deref()), (Some("T"), Some("D")));
        assert_eq!((b.num_passing, b.bib.as_deref(), b.latitude.as_deref()), (Some(2), Some("13"), Some("41.38")));
        assert_eq!((b.chip.as_deref(), b.status.as_deref(), b.token_session.as_deref()), (None, None, None));
        assert_eq!(page.more, Some(false));
    }
    for body in [r#"{"description":"Success","result":[1]}"#, r#"{"description":"Success","result":[null]}"#, "{}"] {
        assert!(is_unreadable(&read(200, body, held_in_full)), "{body}");
    }
    assert_eq!(read(404, r#"{"description":"Passings not found"}"#, held_in_full).unwrap().passings, []);
}

#[test]
fn the_continuing_pull_tells_its_session_and_where_it_went_on() {
    let body = r#"{"description":"Success","deviceid":"D","session_used":"T","session_label":"5K \"Fun\" 🏃","resumed_from":17,
        "passings":[{"num_passing":18,"bib":"1","timestamp":"2026-03-06T20:27:47.350Z"}]}"#;
    for body in dresses(body) {
        let pulled = read(200, &body, pulled).unwrap();
        assert_eq!((pulled.session.as_deref(), pulled.label.as_deref()), (Some("T"), Some("5K \"Fun\" 🏃")), "{body}");
        assert_eq!((pulled.resumed_from, pulled.more), (Some(17), None));
        assert_eq!(pulled.passings[0].num_passing, Some(18));
    }
    let nothing = r#"{"description":"Success","session_used":"T","resumed_from":null,"passings":[],"pagination":{"has_more":false}}"#;
    for body in dresses(nothing) {
        let pulled = read(200, &body, pulled).unwrap();
        assert_eq!(
            (pulled.session.as_deref(), pulled.passings.len(), pulled.more),
            (Some("T"), 0, Some(false)),
            "{body}"
        );
    }
    assert_eq!(read(404, r#"{"description":"Sessions not found"}"#, pulled), Ok(Pulled::default()));
    // A cloud that does not know the path.
    assert!(matches!(read(404, r#"{"message":"Not Found"}"#, pulled), Err(CallError::SessionGone { .. })));
    assert!(matches!(read(404, r#"{"description":"Device not found"}"#, pulled), Err(CallError::DeviceUnknown { .. })));
    assert!(is_unreadable(&read(200, r#"{"description":"Success","passings":[3]}"#, pulled)));
}

/// Answers requests one after the other, and returns them.
fn serve(answers: Vec<(u16, String)>) -> (String, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}/v0", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for (status, body) in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = vec![0; 4096];
            let mut length = 0;
            let is_whole = |text: &[u8]| {
                let text = String::from_utf8_lossy(text).into_owned();
                let length = |line: &str| line.strip_prefix("content-length: ")?.parse::<usize>().ok();
                text.split_once("\r\n\r\n")
                    .is_some_and(|(head, body)| head.lines().find_map(length).unwrap_or(0) <= body.len())
            };
            while !is_whole(&request[..length]) {
                length += stream.read(&mut request[length..]).unwrap();
            }
            let head = format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all((head + &body).as_bytes()).unwrap();
            asked.push(String::from_utf8_lossy(&request[..length]).into_owned());
        }
        asked
    });
    (base, thread)
}

fn page_of(ids: &[&str], more: Option<bool>) -> (u16, String) {
    let list: Vec<_> = ids.iter().map(|id| serde_json::json!({"deviceid": id, "token_session": id})).collect();
    let mut body = serde_json::json!({"description": "Success", "result": list});
    if let Some(more) = more {
        body["pagination"] = serde_json::json!({"page": 1, "has_more": more});
    }
    (200, body.to_string())
}

#[tokio::test]
async fn lists_are_followed_to_their_end_whatever_the_pages_say() {
    let ids =
        |listed: Listed<Device>| listed.all.into_iter().map(|one| one.id.unwrap().to_string()).collect::<Vec<_>>();
    let counted = |ids: &[&str], total: u64| {
        let list: Vec<_> = ids.iter().map(|id| serde_json::json!({"deviceid": id})).collect();
        (200, serde_json::json!({"description": "Success", "result": list, "pagination": {"total": total}}).to_string())
    };
    for (pages, expected, cut) in [
        (vec![page_of(&["A", "B"], Some(true)), page_of(&["C"], Some(false))], vec!["A", "B", "C"], false),
        // Few devices, and not a word about more.
        (vec![page_of(&["A", "B"], None), page_of(&[], None)], vec!["A", "B"], false),
        (vec![page_of(&["A", "B"], None), page_of(&["A", "B"], None)], vec!["A", "B"], false),
        // Only their number is told.
        (vec![counted(&["A", "B"], 3), counted(&["C"], 3)], vec!["A", "B", "C"], false),
        (vec![counted(&["A", "B"], 3), counted(&["A", "B"], 3)], vec!["A", "B"], true),
        // A server that ignores `page` and says that more follow.
        (vec![page_of(&["A", "B"], Some(true)), page_of(&["A", "B"], Some(true))], vec!["A", "B"], true),
        // Pages that overlap.
        (
            vec![page_of(&["A", "B"], Some(true)), page_of(&["B", "C"], Some(true)), page_of(&[], Some(true))],
            vec!["A", "B", "C"],
            false,
        ),
    ] {
        let calls = pages.len();
        let (base, thread) = serve(pages);
        let listed = client(&base, KeyHeader::XApiKey).devices().await.unwrap();
        assert_eq!(listed.cut, cut);
        assert_eq!(ids(listed), expected);
        let asked = thread.join().unwrap();
        assert_eq!(asked.len(), calls);
        for (request, number) in asked.iter().zip(1..) {
            assert!(request.starts_with(&format!("GET /v0/devices?page={number}&limit=5000 ")), "{request}");
        }
    }
}

#[tokio::test]
async fn a_list_without_end_is_cut_and_says_so_and_a_failure_in_the_middle_is_no_short_list() {
    let names: Vec<String> = (0..200).map(|n| format!("S{n}")).collect();
    let pages = names.iter().map(|name| page_of(&[name], Some(true))).collect();
    let (base, thread) = serve(pages);
    let listed = client(&base, KeyHeader::XApiKey).sessions("D").await.unwrap();
    assert_eq!((listed.all.len(), listed.cut), (200, true));
    let asked = thread.join().unwrap();
    assert!(asked[0].starts_with("GET /v0/sessions/device/D HTTP"), "no parameter is documented: {}", asked[0]);
    assert!(asked[1].starts_with("GET /v0/sessions/device/D?page=2 HTTP"), "{}", asked[1]);

    let (base, thread) = serve(vec![page_of(&["A"], Some(true)), (503, "{}".to_owned())]);
    let failed = client(&base, KeyHeader::XApiKey).devices().await;
    assert!(matches!(failed, Err(CallError::Unknown { .. })), "{failed:?}");
    thread.join().unwrap();
}

#[tokio::test]
async fn a_bind_that_is_refused_as_malformed_is_sent_once_more_without_a_type() {
    let binding = Binding { model: "box".into(), serial_number: "S1".into(), alias: Some("5K \"Fun\" 🏃".into()) };
    let refused = (400, r#"{"description":"type is not allowed"}"#.to_owned());
    let done = (201, r#"{"description":"Device binded succesfully","deviceid":"A1"}"#.to_owned());
    let (base, thread) = serve(vec![refused.clone(), done.clone()]);
    let bound = client(&base, KeyHeader::XApiKey).bind(&binding).await;
    assert_eq!(bound, Ok(Bound { device: "A1".into(), before: false }));
    let body = |request: &String| {
        serde_json::from_str::<serde_json::Value>(request.split_once("\r\n\r\n").unwrap().1).unwrap()
    };
    let sent: Vec<_> = thread.join().unwrap().iter().map(body).collect();
    let version = env!("CARGO_PKG_VERSION");
    let bare =
        serde_json::json!({"model": "box", "serial_number": "S1", "alias": "5K \"Fun\" 🏃", "firmware": version});
    let mut typed = bare.clone();
    typed["type"] = "CUSTOM_CHRONO".into();
    assert_eq!(sent, [typed, bare]);

    let (base, thread) = serve(vec![refused.clone(), refused]);
    let failed = client(&base, KeyHeader::XApiKey).bind(&binding).await;
    assert!(matches!(failed, Err(CallError::BadRequest { .. })), "{failed:?}");
    thread.join().unwrap();
}

#[tokio::test]
async fn calls_go_to_their_documented_addresses() {
    let done = |text: &str| (200, format!(r#"{{"description":"{text} succesfully"}}"#));
    let none = r#"{"description":"Success","passings":[]}"#.to_owned();
    let empty = r#"{"description":"Success","result":[]}"#.to_owned();
    let (base, thread) =
        serve(vec![done("Device unbinded"), done("Session closed"), (200, none.clone()), (200, none), (200, empty)]);
    let client = client(&base, KeyHeader::XApiKey);
    client.unbind("A/B").await.unwrap();
    client.close_session("T").await.unwrap();
    let from = Some(1_772_828_867_350);
    client.pull("D", &PullFrom { after: Some(("T".into(), 17)), from: None }).await.unwrap();
    client.pull("D", &PullFrom { after: None, from }).await.unwrap();
    let scope = Scope::Times { device: "D".into(), from: 1_772_828_867_350, to: 1_772_828_868_000 };
    client.stored_in_full(&scope, 3).await.unwrap();
    let asked = thread.join().unwrap();
    for (request, expected) in asked.iter().zip([
        "DELETE /v0/devices/A%2FB HTTP",
        "PATCH /v0/sessions/close/T HTTP",
        "GET /v0/passings/device2/D?token_session=T&last=17 HTTP",
        "GET /v0/passings/device2/D?from=2026-03-06T20%3A27%3A47.350Z HTTP",
        "GET /v0/passings/device/D?from=2026-03-06T20%3A27%3A47.350Z&to=2026-03-06T20%3A27%3A48.000Z&page=3 HTTP",
    ]) {
        assert!(request.starts_with(expected), "{request}");
    }
}
