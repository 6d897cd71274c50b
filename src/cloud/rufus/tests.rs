use std::io::{Read, Write};
use std::net::TcpListener;

use reqwest::header;

use super::answer::account::device;
use super::answer::{active, created, held, session};
use super::*;

/// The answer to an insert of three passings into session A.
fn inserted(reply: &Reply<'_>) -> Result<Inserted, CallError> {
    super::answer::inserted(reply, "A", 3)
}

mod account;
mod tls;

fn read<T>(status: u16, body: &str, reader: impl FnOnce(&Reply<'_>) -> Result<T, CallError>) -> Result<T, CallError> {
    let headers = HeaderMap::new();
    reader(&Reply { status, headers: &headers, body: body.as_bytes() })
}

fn counts(inserted: impl Into<Option<u64>>, duplicates: impl Into<Option<u64>>) -> Inserted {
    Inserted { inserted: inserted.into(), duplicates: duplicates.into() }
}

#[test]
fn both_generations_of_an_insert_answer_are_read() {
    for (body, expected) in [
        (r#"{"description":"Passings inserted succesfully","token_session":"A","inserted_count":3}"#, counts(3, None)),
        (r#"{"body":{"description":"ok","token_session":"A","inserted_count":1,"duplicate_count":2}}"#, counts(1, 2)),
        (
            r#"{"statusCode":201,"body":"{\"description\":\"Success\",\"token_session\":\"A\",\"new\":1}"}"#,
            counts(None, None),
        ),
        (
            r#"{"body":{"description":"x","token_session":"A","inserted_count":"0","duplicate_count":3.0}}"#,
            counts(0, 3),
        ),
        (r#"{"description":"Passings inserted succesfully"}"#, counts(None, None)),
    ] {
        assert_eq!(read(201, body, inserted), Ok(expected), "{body}");
    }
}

#[test]
fn an_insert_is_never_taken_for_accepted_on_a_status_alone() {
    let unknown = |status, body| match read(status, body, inserted) {
        Err(error @ CallError::Unknown { .. }) => assert!(!error.certainly_not_applied()),
        other => panic!("{status} {body}: {other:?}"),
    };
    unknown(200, "");
    unknown(204, "");
    unknown(200, "{}");
    unknown(200, "null");
    unknown(200, r#"{"body":null}"#);
    unknown(200, "OK");
    unknown(200, r#"{"body":{"inserted_count":"#);
    unknown(200, r#"{"errorMessage":"Task timed out after 3.00 seconds"}"#);
    unknown(500, r#"{"body":null}"#);
    unknown(200, r#"{"statusCode":502,"body":"{\"message\":\"Internal server error\"}"}"#);
    unknown(503, "<html>busy</html>");
    unknown(408, "");
    unknown(500, r#"{"description":"Session not found or closed"}"#);
}

#[test]
fn error_text_in_a_200_is_an_error() {
    let gone = read(200, r#"{"description":"Session not found or closed","token_session":"A"}"#, inserted);
    assert!(matches!(gone, Err(CallError::SessionGone { status: 200, .. })), "{gone:?}");
    let gone = read(200, r#"{"body":{"description":"Session closed","inserted_count":0}}"#, inserted);
    assert!(matches!(gone, Err(CallError::SessionGone { .. })), "{gone:?}");
    // Any other text leaves open whether passings were stored.
    for text in [
        "num_passing is missing",
        "Throttled",
        "Table is locked",
        "No passings inserted",
        "Passings could not be inserted",
        "Passings not inserted successfully",
        "Session not found, try again later",
        "ok",
    ] {
        let doubt = read(200, &format!(r#"{{"description":"{text}","token_session":"A"}}"#), inserted);
        assert!(matches!(doubt, Err(CallError::Unknown { .. })), "{text}: {doubt:?}");
        let short = format!(r#"{{"description":"{text}","token_session":"A","inserted_count":2}}"#);
        assert!(matches!(read(200, &short, inserted), Err(CallError::Unknown { .. })), "{text}");
    }
    let rate = read(200, r#"{"error":"Rate exceeded"}"#, inserted);
    assert!(matches!(rate, Err(CallError::Unknown { .. })), "{rate:?}");
    let other = read(200, r#"{"description":"Success","token_session":"B","inserted_count":3}"#, inserted);
    assert!(matches!(other, Err(CallError::Unknown { .. })), "an answer about another session: {other:?}");
    let key = read(200, r#"{"statusCode":403,"body":{"description":"Wrong access type"}}"#, inserted);
    assert!(matches!(key, Err(CallError::KeyRefused { fault: KeyFault::WrongAccess, status: 403, .. })), "{key:?}");
}

#[test]
fn a_closed_session_is_seen_in_any_of_its_forms() {
    for (status, body) in [
        (404, r#"{"description":"Session not found or closed"}"#),
        (404, r#"{"body":{}}"#),
        (404, ""),
        (400, r#"{"body":{"description":"Session not found or closed"}}"#),
        (410, r#"{"message":"Gone"}"#),
    ] {
        let error = read(status, body, inserted).unwrap_err();
        assert!(matches!(error, CallError::SessionGone { .. }), "{status} {body}: {error:?}");
        assert!(error.certainly_not_applied());
    }
    let poison = read(400, r#"{"body":{"description":"timestamp is invalid"}}"#, inserted);
    assert!(matches!(poison, Err(CallError::BadRequest { status: 400, .. })), "{poison:?}");
}

#[test]
fn statuses_are_sorted_by_what_has_to_follow() {
    let error = |status, body| read(status, body, inserted).unwrap_err();
    assert!(matches!(error(413, "<html>too large</html>"), CallError::TooLarge { .. }));
    assert!(matches!(error(429, ""), CallError::TooMany { retry_after: None }));
    assert!(matches!(error(401, ""), CallError::KeyRefused { fault: KeyFault::Rejected, .. }));
    assert!(matches!(error(403, r#"{"message":"Forbidden"}"#), CallError::KeyRefused { .. }));
    assert!(matches!(error(400, r#"{"description":"api_key unknown"}"#), CallError::KeyRefused { .. }));
    assert!(matches!(error(422, "{}"), CallError::BadRequest { status: 422, .. }));
    assert!(matches!(error(409, "{}"), CallError::BadRequest { status: 409, .. }));
}

#[test]
fn a_captive_portal_is_offline_and_leaves_the_outcome_unknown() {
    for (status, body) in [
        (302, ""),
        (301, "<a href=x>"),
        (200, "<!DOCTYPE html><title>Hotel WiFi</title>"),
        (403, "  <html>blocked</html>"),
        (404, "<html>nginx</html>"),
        (511, "{}"),
    ] {
        let error = read(status, body, inserted).unwrap_err();
        assert_eq!(error, CallError::Portal, "{status} {body}");
        assert!(error.is_offline() && !error.certainly_not_applied());
    }
}

#[test]
fn no_active_session_is_none_only_in_the_clouds_own_words() {
    for (status, body) in [
        (404, r#"{"description":"Session not found"}"#),
        (400, r#"{"description":"Sessions not found"}"#),
        (200, r#"{"description":"Sessions not found"}"#),
        (200, r#"{"description":"Success","result":[]}"#),
        (200, r#"{"description":"Success","result":"[]"}"#),
        (200, r#"{"body":{"description":"Success","result":null}}"#),
        (200, r#"{"description":"Success","result":[{"token_session":"A","active":false}]}"#),
    ] {
        assert_eq!(read(status, body, active), Ok(None), "{status} {body}");
    }
    for (status, body) in [
        (404, ""),
        (404, r#"{"message":"Not Found"}"#),
        (404, r#"{"description":"Session service not found, try again later"}"#),
        (200, r#"{"message":"Internal server error"}"#),
        (200, r#"{"description":"Success"}"#),
        (200, r#"{"description":"Throttled","result":[]}"#),
        (200, r#"{"description":"Success","result":[{"token_session":""}]}"#),
        (200, r#"{"description":"Success","sessions":[{"token_session":"A"}]}"#),
        (200, r#"{"body":null}"#),
        (200, "{}"),
        (200, "[]"),
    ] {
        let unknown = read(status, body, active);
        let not_understood = matches!(&unknown, Err(error) if error.not_understood().is_some());
        assert!(not_understood, "{status} {body}: {unknown:?}");
    }
    let device = read(404, r#"{"description":"Device not found","deviceid":"X"}"#, active);
    assert!(matches!(device, Err(CallError::DeviceUnknown { .. })), "{device:?}");
}

#[test]
fn the_active_session_is_found_in_a_list_or_an_object() {
    let expected = Session { token: "AB12".into(), alias: Some("FINISH".into()), passings: Some(7) };
    let one =
        r#"{"token_session":"AB12","alias":"FINISH","active":true,"passings":7,"duration":"2023-01-01T00:00:00Z"}"#;
    for body in [
        format!(r#"{{"description":"Success","result":[{{"token_session":"OLD","active":false}},{one}]}}"#),
        format!(r#"{{"description":"Success","result":{one}}}"#),
        format!(r#"{{"body":{{"description":"Success","result":[{one}]}}}}"#),
        format!(r#"{{"body":{one}}}"#),
        serde_json::json!({"description": "Success", "result": format!("[{one}]")}).to_string(),
    ] {
        assert_eq!(read(200, &body, active), Ok(Some(expected.clone())), "{body}");
    }
}

#[test]
fn a_session_is_only_gone_for_good_when_the_cloud_itself_says_so() {
    let ask = |status, body| read(status, body, |reply| session(reply, "A"));
    assert_eq!(ask(404, r#"{"description":"Session not found"}"#), Ok(None));
    assert_eq!(ask(200, r#"{"description":"Session not found"}"#), Ok(None));
    assert!(matches!(ask(404, ""), Err(CallError::Unknown { .. })));
    assert!(matches!(ask(200, r#"{"description":"Success","result":[]}"#), Err(CallError::Unknown { .. })));
    let there = ask(200, r#"{"description":"Success","result":[{"token_session":"a","active":false}]}"#);
    assert!(matches!(there, Ok(Some(_))), "{there:?}");
}

#[test]
fn stored_passings_are_read_in_every_dress() {
    let body = r#"{"description":"Success","result":[
        {"num_passing":1,"timestamp":"2026-03-06T20:27:47.350Z","bib":"12","chip":"MC1","latitude":"1.0"},
        {"num_passing":"2","timestamp":"2026-03-06T21:27:47.350+01:00","bib":13,"chip":null},
        {"num_passing":3.0,"timestamp":"2026-03-06 20:27:47.350","bib":""},
        {"timestamp":17}]}"#;
    let page = read(200, body, held).unwrap();
    let time = Some(1_772_828_867_350);
    assert_eq!(
        page.passings,
        [
            CloudPassing {
                num: Some(1),
                time_ms: time,
                bib: Some("12".into()),
                chip: Some("MC1".into()),
                session: None
            },
            CloudPassing { num: Some(2), time_ms: time, bib: Some("13".into()), chip: None, session: None },
            CloudPassing { num: Some(3), time_ms: time, bib: None, chip: None, session: None },
            CloudPassing::default(),
        ]
    );
    assert_eq!(page.more, None);
    let one = r#"{"body":{"result":{"num_passing":9},"pagination":{"page":1,"has_more":true}}}"#;
    let page = read(200, one, held).unwrap();
    assert_eq!((page.passings[0].num, page.more), (Some(9), Some(true)));
}

#[test]
fn a_number_too_large_to_be_counted_on_from_is_none() {
    let body =
        r#"{"result":[{"num_passing":18446744073709551615},{"num_passing":"9007199254740993"},{"num_passing":7}]}"#;
    let page = read(200, body, held).unwrap();
    assert_eq!(page.passings.iter().map(|stored| stored.num).collect::<Vec<_>>(), [None, None, Some(7)]);
}

#[test]
fn no_passings_is_told_from_no_session_and_from_no_answer() {
    for (status, body) in [
        (200, r#"{"description":"Success","result":[]}"#),
        (200, r#"{"description":"Success"}"#),
        (200, r#"{"body":{"result":null}}"#),
        (200, r#"{"description":"Passings not found"}"#),
        (404, r#"{"description":"Passings not found"}"#),
        (200, "[]"),
    ] {
        assert_eq!(read(status, body, held).unwrap().passings, [], "{status} {body}");
    }
    let gone = read(404, r#"{"description":"Session not found"}"#, held);
    assert!(matches!(gone, Err(CallError::SessionGone { .. })), "{gone:?}");
    for body in ["{}", r#"{"message":"Endpoint request timed out"}"#, r#"{"result":[1,2]}"#, ""] {
        let unknown = read(200, body, held);
        assert!(matches!(unknown, Err(CallError::Unknown { .. })), "{body}: {unknown:?}");
    }
}

#[test]
fn a_created_session_needs_its_token() {
    let make = |status, body| read(status, body, |reply| created(reply, "finish 6 March"));
    let session = make(201, r#"{"body":{"description":"Session inserted succesfully","token_session":"T"}}"#).unwrap();
    assert_eq!((&*session.token, session.passings), ("T", Some(0)));
    assert!(matches!(make(200, r#"{"description":"Session inserted succesfully"}"#), Err(CallError::Unknown { .. })));
    assert!(matches!(make(404, r#"{"description":"Device not found"}"#), Err(CallError::DeviceUnknown { .. })));
}

#[test]
fn a_device_is_read_and_a_missing_one_is_named_so() {
    let body = r#"{"description":"Success","result":{"deviceid":"X","model":"box","alias":"finish","passings":4}}"#;
    let found = read(200, body, device).unwrap();
    assert_eq!((found.alias.as_deref(), found.passings), (Some("finish"), Some(4)));
    assert!(matches!(read(404, "{}", device), Err(CallError::DeviceUnknown { .. })));
}

#[test]
fn retry_after_is_read_as_seconds_or_date_and_bounded() {
    let wait = |headers: &[(header::HeaderName, &'static str)], status| {
        let headers: HeaderMap =
            headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect();
        inserted(&Reply { status, headers: &headers, body: b"" }).unwrap_err().retry_after()
    };
    let date = (header::DATE, "Sun, 06 Nov 1994 08:49:37 GMT");
    let after = |value| (header::RETRY_AFTER, value);
    assert_eq!(wait(&[after("7")], 429), Some(Duration::from_secs(7)));
    assert_eq!(wait(&[after("7")], 503), Some(Duration::from_secs(7)));
    assert_eq!(wait(&[after("Sun, 06 Nov 1994 08:50:07 GMT"), date.clone()], 429), Some(Duration::from_secs(30)));
    assert_eq!(wait(&[after("Sun, 06 Nov 1994 08:49:07 GMT"), date.clone()], 429), Some(Duration::ZERO));
    assert_eq!(wait(&[after("99999999")], 429), Some(Duration::from_secs(600)));
    assert_eq!(wait(&[after("soon"), date], 429), None);
}

#[test]
fn a_kept_answer_is_short_and_holds_neither_key_nor_control_characters() {
    let key = "ror-0123456789abcdef0123";
    let body = format!("{{\"description\":\"bad\u{7} {key} {}\"}}", "ä".repeat(5000));
    let body = scrub(body.into_bytes(), key);
    let headers = HeaderMap::new();
    let Err(CallError::BadRequest { answer, .. }) = inserted(&Reply { status: 400, headers: &headers, body: &body })
    else {
        panic!("a 400 is a refusal");
    };
    assert!(answer.len() <= 2048 && !answer.contains(key) && !answer.contains('\u{7}'), "{answer}");
    assert!(answer.contains("[key]"));
}

#[test]
fn a_request_holds_documented_fields_only_and_never_an_empty_bib() {
    let passings = [Passing::new(1, 1_772_828_867_350, "", "MC1"), Passing::new(2, 1_772_828_867_000, "12", "")];
    let request = InsertRequest { token_session: "T", passings_list: &passings };
    assert_eq!(
        serde_json::to_value(&request).unwrap(),
        serde_json::json!({"token_session": "T", "passings_list": [
            {"timestamp": "2026-03-06T20:27:47.350Z", "num_passing": 1, "bib": "MC1", "chip": "MC1"},
            {"timestamp": "2026-03-06T20:27:47.000Z", "num_passing": 2, "bib": "12"}]})
    );
}

fn client(base: &str, header: KeyHeader) -> Client {
    install_tls();
    let config = ClientConfig {
        url: base.parse().unwrap(),
        key: SecretString::from("ror-secret"),
        header,
        timeout: Duration::from_secs(5),
        clock: Wall::default(),
    };
    Client::new(config).unwrap()
}

/// Answers one request with `answer`, and returns the request.
fn serve_once(answer: &'static str) -> (String, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}/v0", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = vec![0; 4096];
        let n = stream.read(&mut asked).unwrap();
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8_lossy(&asked[..n]).into_owned()
    });
    (base, thread)
}

#[tokio::test]
async fn nobody_listening_is_certainly_not_applied_and_a_cut_is_not() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = client(&format!("http://{closed}/v0"), KeyHeader::XApiKey).active_session("D").await.unwrap_err();
    assert!(error == CallError::NotSent(NotSent::Refused), "{error:?}");
    let (base, thread) = serve_once("");
    let error = client(&base, KeyHeader::XApiKey).insert("T", &[Passing::new(1, 0, "1", "1")]).await.unwrap_err();
    assert!(matches!(error, CallError::Unknown { why: OutcomeDoubt::Cut(_), .. }), "{error:?}");
    thread.join().unwrap();
    let (base, thread) = serve_once("HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{\"inserted_count\":1}");
    let error = client(&base, KeyHeader::XApiKey).insert("T", &[Passing::new(1, 0, "1", "1")]).await.unwrap_err();
    assert!(matches!(error, CallError::Unknown { why: OutcomeDoubt::Cut(_), .. }), "{error:?}");
    thread.join().unwrap();
}

#[tokio::test]
async fn the_key_goes_into_the_chosen_header_and_nowhere_else() {
    for (header, x_api_key, api_key) in
        [(KeyHeader::XApiKey, true, false), (KeyHeader::ApiKey, false, true), (KeyHeader::Both, true, true)]
    {
        let (base, thread) =
            serve_once("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n");
        let client = client(&base, header);
        assert!(!format!("{client:?}").contains("ror-secret"));
        assert_eq!(client.held("A/B", 3, Some(9), 2).await, Err(CallError::Portal));
        let asked = thread.join().unwrap();
        assert_eq!(asked.contains("x-api-key: ror-secret\r\n"), x_api_key);
        assert_eq!(asked.contains("\r\napi_key: ror-secret\r\n"), api_key);
        assert!(asked.starts_with("GET /v0/passings/session/A%2FB?first=3&last=9&page=2 HTTP/1.1\r\n"), "{asked}");
    }
}

#[test]
fn a_key_that_no_header_can_carry_is_named_without_showing_it() {
    install_tls();
    for key in ["", "ror-\nsecret"] {
        let config = ClientConfig {
            url: "http://127.0.0.1:1/v0".parse().unwrap(),
            key: SecretString::from(key),
            header: KeyHeader::XApiKey,
            timeout: Duration::from_secs(1),
            clock: Wall::default(),
        };
        let error = Client::new(config).unwrap_err();
        assert!(matches!(error, ClientError::Key) && !error.to_string().contains("secret"), "{error}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed_so_nobody_else_gets_the_key() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    for status in
        ["301 Moved Permanently", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"]
    {
        let to = elsewhere.local_addr().unwrap();
        let answer = format!("HTTP/1.1 {status}\r\nlocation: http://{to}/v0/passings\r\ncontent-length: 0\r\n\r\n");
        let (base, thread) = serve_once(answer.leak());
        let client = client(&base, KeyHeader::Both);
        assert_eq!(client.insert("T", &[Passing::new(1, 0, "1", "1")]).await, Err(CallError::Portal), "{status}");
        thread.join().unwrap();
        // The call has ended, so nothing is under way any more.
        assert_eq!(elsewhere.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "{status}");
    }
}

/// Answers one request with `head` and then repeats the same bytes for ever.
fn flood_once(head: &'static [u8], body: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}/v0", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]);
        let mut flowing = stream.write_all(head);
        while flowing.is_ok() {
            flowing = stream.write_all(body);
        }
    });
    base
}

#[tokio::test]
async fn an_answer_without_end_is_cut_at_its_limit_and_says_nothing_about_the_passings() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\ncontent-type: application/json\r\n\r\n";
    for (base, what) in [
        (flood_once(head, &[b'['; 8192]), "longer than 65536 bytes"),
        (flood_once(b"HTTP/1.1 200 OK\r\n", b"x-flood: y\r\n"), ""),
        (flood_once(b"HTTP/1.1 ", &[b'2'; 8192]), ""),
    ] {
        let error = client(&base, KeyHeader::Both).insert("T", &[Passing::new(1, 0, "1", "1")]).await.unwrap_err();
        assert!(!error.certainly_not_applied() && error.to_string().contains(what), "{error:?}");
        // The size limit ended the call, not the time limit.
        assert!(!matches!(error, CallError::Unknown { why: OutcomeDoubt::Timeout, .. }), "{error:?}");
    }
}

#[test]
fn names_and_tokens_of_a_hostile_cloud_are_plain_and_short() {
    let session = |token: &str, alias: &str| {
        let body = serde_json::json!({ "result": [{ "token_session": token, "alias": alias, "active": true }] });
        read(200, &body.to_string(), active)
    };
    let alias = format!("\x1b]0;owned\x07\n\u{9b}2J\u{202e}{}", "x".repeat(100_000));
    let found = session("A1", &alias).unwrap().unwrap();
    let shown = found.alias.unwrap();
    assert!(shown.chars().count() <= 200 && !shown.chars().any(|c| c.is_control() || c == '\u{202e}'), "{shown:?}");
    for token in ["A\nB", "A B", "\x1b[2J", "..", &"A".repeat(10_000), "\u{202e}"] {
        let error = session(token, "Race").unwrap_err();
        assert!(matches!(error, CallError::Unknown { why: OutcomeDoubt::Unreadable(_), .. }), "{token:?}: {error:?}");
        assert!(!error.to_string().chars().any(char::is_control), "{error}");
    }
}

/// Answers a question with a page in this many pieces, a moment apart. Twenty pieces take a second.
async fn trickle(pieces: usize) -> Result<Page, CallError> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    install_tls();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = ClientConfig {
        url: format!("http://{}/v0", listener.local_addr().unwrap()).parse().unwrap(),
        key: SecretString::from("ror-secret"),
        header: KeyHeader::XApiKey,
        timeout: Duration::from_millis(500),
        clock: Wall::default(),
    };
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await;
        let body = r#"{"description":"Success","result":[]}"#;
        let padding = " ".repeat(pieces);
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len() + pieces);
        stream.write_all(head.as_bytes()).await.unwrap();
        for piece in padding.as_bytes().chunks(1) {
            tokio::time::sleep(Duration::from_millis(50)).await; // the speed of the line
            if stream.write_all(piece).await.is_err() {
                return;
            }
        }
    });
    Client::new(config).unwrap().held("A", 1, None, 1).await
}

#[tokio::test]
async fn a_page_may_take_longer_than_an_answer_as_long_as_it_comes() {
    assert_eq!(trickle(20).await.map(|page| page.passings.len()), Ok(0));
}
