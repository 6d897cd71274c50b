//! The login, and what is behind it: each danger of docs/threat-model.md, over real connections.

use super::*;
use crate::journal::entry::Body;
use crate::journal::log::{LogLine, LogReader};
use crate::journal::{Journal, JournalConfig, log_dir};

const TOKEN: &str = "sesame-42";

/// An answer, as it is on the wire.
struct Answer {
    code: u16,
    head: String,
    body: String,
}

impl Answer {
    /// The value of a header, in lower case.
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }

    /// The cookie that the answer sets, as a browser shows it.
    fn cookie(&self) -> String {
        let cookie = self.header("set-cookie").expect("the answer sets a cookie");
        cookie.split(';').next().unwrap().to_owned()
    }

    /// The word of the login in the forms of a page.
    fn csrf(&self) -> String {
        let (_, rest) = self.body.split_once("name=\"csrf\" value=\"").expect("the page has a form");
        rest.split('"').next().unwrap().to_owned()
    }
}

/// Somebody who is logged in.
struct Inside {
    cookie: String,
    csrf: String,
}

impl Served {
    async fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let host = self.address;
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{headers}");
        if method == "POST" {
            let length = body.len();
            head += &format!("content-type: application/x-www-form-urlencoded\r\ncontent-length: {length}\r\n");
        }
        let text = timeout(SOON, self.raw(format!("{head}\r\n{body}").as_bytes())).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default();
        Answer { code, head: head.to_owned(), body: body.to_owned() }
    }

    /// What a page of this box says of itself when it sends a form.
    fn origin(&self) -> String {
        format!("origin: http://{}\r\n", self.address)
    }

    async fn try_token(&self, token: &str) -> Answer {
        self.ask("POST", "/login", &self.origin(), &format!("token={token}&next=/decoders")).await
    }

    async fn page(&self, inside: &Inside, path: &str) -> Answer {
        self.ask("GET", path, &format!("cookie: {}\r\naccept: text/html\r\n", inside.cookie), "").await
    }

    /// A form that somebody sends who is logged in.
    async fn send(&self, inside: &Inside, what: &str, fields: &str) -> Answer {
        let headers = format!("cookie: {}\r\n{}", inside.cookie, self.origin());
        self.ask("POST", &format!("/do/{what}"), &headers, &format!("csrf={}&{fields}", inside.csrf)).await
    }

    async fn log_in(&self) -> Inside {
        let answer = self.try_token(TOKEN).await;
        assert_eq!((answer.code, answer.header("location")), (303, Some("/decoders")), "{}", answer.body);
        let mut inside = Inside { cookie: answer.cookie(), csrf: String::new() };
        inside.csrf = self.page(&inside, "/decoders").await.csrf();
        inside
    }
}

/// A box with a token, and the decoder `mat`.
async fn locked_box() -> Served {
    let served = serve_with(Some(TOKEN)).await;
    served.board.decoder("mat", |decoder| decoder.protocol = "ipico".to_owned());
    served
}

#[tokio::test]
async fn a_login_lets_a_browser_see_and_its_end_shuts_it_out() {
    let served = locked_box().await;
    let to_login = served.ask("GET", "/decoders", "accept: text/html\r\n", "").await;
    assert_eq!((to_login.code, to_login.header("location")), (303, Some("/login?next=%2Fdecoders")));
    let form = served.ask("GET", "/login?next=%2Fdecoders", "accept: text/html\r\n", "").await;
    assert!(form.code == 200 && form.body.contains("value=\"/decoders\""), "{}", form.body);

    let inside = served.log_in().await;
    for path in ["/", "/api/status", "/metrics", "/find", "/hold", "/decoders", "/sessions", "/set-aside", "/card"] {
        assert_eq!(served.page(&inside, path).await.code, 200, "{path}");
    }
    let headers = format!("cookie: {}\r\n{}", inside.cookie, served.origin());
    let foreign = format!("cookie: {}\r\norigin: http://evil.example\r\n", inside.cookie);
    assert_eq!(served.ask("POST", "/logout", &foreign, &format!("csrf={}", inside.csrf)).await.code, 403);
    let out = served.ask("POST", "/logout", &headers, &format!("csrf={}", inside.csrf)).await;
    assert_eq!((out.code, out.header("location")), (303, Some("/login")));
    assert_eq!(served.page(&inside, "/decoders").await.code, 303);
    let again = served.page(&inside, "/login").await;
    assert!(again.body.contains("Your login has ended"), "{}", again.body);
}

#[tokio::test]
async fn the_cookie_is_for_this_box_alone_and_is_another_one_at_each_login() {
    let served = locked_box().await;
    let planted = "passbridge=0123456789abcdef0123456789abcdef";
    let headers = format!("cookie: {planted}\r\n{}", served.origin());
    let body = format!("token={TOKEN}");
    let answer = served.ask("POST", "/login", &headers, &body).await;
    let cookie = answer.header("set-cookie").unwrap();
    for part in ["; HttpOnly", "; SameSite=Strict", "; Path=/", "; Max-Age=604800"] {
        assert!(cookie.contains(part), "{part} is not in {cookie}");
    }
    assert!(!cookie.contains("Secure") && !cookie.contains(TOKEN) && !cookie.contains("Domain"), "{cookie}");
    let first = Inside { cookie: answer.cookie(), csrf: String::new() };
    assert_ne!(first.cookie, planted, "a word that somebody planted never becomes a login");
    let planted = Inside { cookie: planted.to_owned(), csrf: String::new() };
    assert_eq!(served.page(&planted, "/decoders").await.code, 303);

    let headers = format!("cookie: {}\r\n{}", first.cookie, served.origin());
    let second = served.ask("POST", "/login", &headers, &body).await.cookie();
    assert_ne!(second, first.cookie);
    assert_eq!(served.page(&first, "/decoders").await.code, 303, "the login before it has ended");
    let tls = format!("origin: https://{}\r\n", served.address);
    assert!(served.ask("POST", "/login", &tls, &body).await.header("set-cookie").unwrap().ends_with("; Secure"));
}

#[tokio::test]
async fn a_login_ends_when_the_token_of_the_page_changes() {
    let served = locked_box().await;
    let inside = served.log_in().await;
    let word = served.invites.make(Instant::now()).unwrap();
    served.access.send_replace(Audience::Token(Arc::new(SecretString::from(TOKEN))));
    assert_eq!(served.page(&inside, "/decoders").await.code, 200, "the file was read again");
    served.access.send_replace(Audience::Token(Arc::new(SecretString::from("another"))));
    assert_eq!(served.page(&inside, "/decoders").await.code, 303);
    served.access.send_replace(Audience::Locked);
    for path in ["/", "/login", &format!("/in/{word}"), "/do/rewind"] {
        assert_eq!(served.ask("GET", path, "", "").await.code, 503, "{path}");
    }
    assert_eq!(served.ask("GET", "/healthz", "", "").await.code, 200);
}

#[tokio::test]
async fn three_wrong_tokens_cost_a_minute_and_nobody_who_is_in_waits() {
    let served = locked_box().await;
    let inside = served.log_in().await;
    for text in ["Wrong token. 2 tries left, then 1 min pause.", "1 try left, then 1 min pause.", "Wait 1 min"] {
        let answer = served.try_token("sesame-43").await;
        assert!(answer.code == 403 && answer.body.contains(text), "{text}: {}", answer.body);
        assert!(!answer.body.contains("sesame-43"), "a token, also a wrong one, is not shown");
        assert!(answer.body.contains("value=\"/decoders\""), "what is not secret stays");
    }
    let answer = served.try_token(TOKEN).await;
    assert_eq!(answer.code, 429, "while it waits, the right token is not looked at either");
    assert!(
        answer.header("retry-after").is_some() && answer.body.contains("Too many wrong tokens. Wait "),
        "{}",
        answer.body
    );
    let bearer = format!("authorization: Bearer {TOKEN}\r\n");
    assert_eq!(served.ask("GET", "/api/status", &bearer, "").await.code, 429);
    assert_eq!(served.page(&inside, "/decoders").await.code, 200, "who is in need not wait");
    let word = served.invites.make(Instant::now()).unwrap();
    assert_eq!(served.ask("POST", &format!("/in/{word}"), &served.origin(), "").await.code, 303, "nor who has a code");

    for _ in 0..3 {
        served.ask("GET", "/api/status", "authorization: Bearer wrong\r\n", "").await;
    }
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(61)).await;
    tokio::time::resume();
    assert_eq!(served.try_token(TOKEN).await.code, 303, "after a minute it goes on");
}

#[tokio::test]
async fn wrong_tokens_in_the_header_are_slowed_down_too() {
    let served = locked_box().await;
    let codes = async |token: &str| {
        served.ask("GET", "/api/status", &format!("authorization: Bearer {token}\r\n"), "").await.code
    };
    assert_eq!([codes("a").await, codes("b").await, codes("c").await], [401; 3]);
    assert_eq!([codes("d").await, codes(TOKEN).await], [429; 2]);
}

#[tokio::test]
async fn a_code_lets_one_browser_in_once_and_a_preview_of_its_link_uses_nothing() {
    let served = locked_box().await;
    let word = served.invites.make(Instant::now()).unwrap();
    let path = format!("/in/{word}");
    for _ in 0..3 {
        let preview = served.ask("GET", &path, "accept: text/html\r\n", "").await;
        assert!(preview.code == 200 && preview.header("set-cookie").is_none(), "{}", preview.head);
        assert!(preview.body.contains("Log in on this phone"), "{}", preview.body);
    }
    let foreign = served.ask("POST", &path, "origin: http://evil.example\r\n", "").await;
    assert_eq!((foreign.code, foreign.header("set-cookie")), (403, None));
    let answer = served.ask("POST", &path, &served.origin(), "").await;
    assert_eq!((answer.code, answer.header("location")), (303, Some("/")));
    let inside = Inside { cookie: answer.cookie(), csrf: String::new() };
    assert_eq!(served.page(&inside, "/decoders").await.code, 200);

    let again = served.ask("POST", &path, &served.origin(), "").await;
    assert!(again.code == 410 && again.header("set-cookie").is_none(), "{}", again.head);
    assert_eq!(served.ask("GET", &path, "", "").await.code, 410);
    let unknown = served.ask("POST", "/in/00000000000000000000000000000000", &served.origin(), "").await;
    assert_eq!(unknown.code, 410);
}

#[tokio::test]
async fn no_other_site_changes_anything_through_the_browser_of_somebody_who_is_logged_in() {
    let served = locked_box().await;
    let inside = served.log_in().await;
    let fields = format!("csrf={}&decoder=mat&from=1&to=9", inside.csrf);
    let own = served.origin();
    for (headers, fields) in [
        ("origin: http://evil.example\r\n", &*fields),
        ("origin: null\r\n", &fields),
        ("", &fields), // a browser says where a form comes from
        (&format!("{own}sec-fetch-site: cross-site\r\nsec-fetch-mode: navigate\r\n"), &fields),
        (&own, "decoder=mat&from=1&to=9"),
        (&own, "csrf=&decoder=mat&from=1&to=9"),
        (&own, "csrf=00000000000000000000000000000000&decoder=mat&from=1&to=9"),
    ] {
        let headers = format!("cookie: {}\r\n{headers}", inside.cookie);
        let answer = served.ask("POST", "/do/rewind", &headers, fields).await;
        assert_eq!(answer.code, 403, "{headers} {fields}: {}", answer.body);
    }
    let other = served.log_in().await;
    let mixed = Inside { cookie: inside.cookie.clone(), csrf: other.csrf };
    assert_eq!(served.send(&mixed, "rewind", "decoder=mat&from=1&to=9").await.code, 403, "the word of another login");
    let page = served.page(&inside, "/decoders").await;
    assert!(!page.body.contains("id=\"outcomes\""), "nothing was done: {}", page.body);
    assert_eq!(served.send(&inside, "rewind", "decoder=mat&from=1&to=9").await.code, 303);
    assert!(served.page(&inside, "/decoders").await.body.contains("id=\"outcomes\""));
}

#[tokio::test]
async fn a_name_that_is_pointed_at_this_box_later_changes_nothing_and_logs_nobody_in() {
    let served = locked_box().await;
    // The page of such a name has no cookie of this box, and its own name is another one.
    let body = format!("token={TOKEN}");
    let request = |path: &str, host: &str, origin: &str| {
        let kind = "content-type: application/x-www-form-urlencoded";
        format!(
            "POST {path} HTTP/1.1\r\nhost: {host}\r\norigin: {origin}\r\n{kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
    };
    let answer = served.raw(request("/do/rewind", "evil.example:8470", "http://evil.example:8470").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    let answer = served.raw(request("/login", "192.168.1.20:8470", "http://evil.example:8470").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 403") && !answer.to_lowercase().contains("set-cookie"), "{answer}");
}

#[tokio::test]
async fn no_page_is_shown_in_a_frame_runs_script_of_others_or_tells_others_where_it_is() {
    let served = locked_box().await;
    let inside = served.log_in().await;
    for path in ["/login", "/find?q=%3Cscript%3E", "/hold", "/decoders", "/sessions", "/set-aside", "/card", "/in/x"] {
        let answer = served.page(&inside, path).await;
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
        assert!(policy.contains("form-action 'self'"), "{policy}");
        assert_eq!(answer.header("x-frame-options"), Some("DENY"));
        assert_eq!(answer.header("referrer-policy"), Some("same-origin"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        for inline in ["<style", " style=", " onclick=", "javascript:"] {
            assert!(!answer.body.contains(inline), "{path} has {inline}");
        }
        let scripts = answer.body.matches("<script").count();
        assert_eq!(answer.body.matches("<script type=\"module\" src=\"/").count(), scripts, "{path}");
    }
}

#[tokio::test]
async fn text_from_outside_is_shown_as_text() {
    let served = locked_box().await;
    let hostile = "\"><script>alert(1)</script>\u{202e}";
    served.board.decoder(hostile, |decoder| decoder.protocol = "<b>x".to_owned());
    served.board.upload("DEVICE", |upload| {
        let token = "0123456789".into();
        upload.session = Some(crate::status::SessionStatus {
            alias: Some(hostile.to_owned()),
            token_tail: "456789".to_owned(),
            token,
            numbered: None,
        });
    });
    let inside = served.log_in().await;
    let typed = "%22%3E%3Cscript%3Ealert%281%29%3C%2Fscript%3E";
    let refused = served.send(&inside, "rewind", &format!("decoder=mat&from={typed}&to=2")).await;
    assert_eq!(refused.code, 422);
    let asked = served.send(&inside, "session-open", &format!("device=DEVICE&shown=456789&alias={typed}")).await;
    assert!(asked.body.contains("ends for ever"), "{}", asked.body);
    let login = served.ask("GET", &format!("/login?next={typed}"), "", "").await;
    for answer in
        [served.page(&inside, "/decoders").await, served.page(&inside, "/sessions").await, refused, asked, login]
    {
        assert!(!answer.body.contains("<script>") && !answer.body.contains("<b>x"), "{}", answer.body);
        assert!(!answer.body.contains("0123456789"), "the token of a session is not shown: {}", answer.body);
    }
}

#[tokio::test]
async fn a_login_leads_to_a_page_of_this_box_only() {
    let served = locked_box().await;
    for (next, to) in [
        ("/find", "/find"),
        ("//evil.example", "/"),
        ("https://evil.example", "/"),
        ("/%5Cevil.example", "/"),
        ("/%0d%0aset-cookie:%20a=b", "/"),
        ("", "/"),
    ] {
        let answer = served.ask("POST", "/login", &served.origin(), &format!("token={TOKEN}&next={next}")).await;
        assert_eq!((answer.code, answer.header("location")), (303, Some(to)), "{next}");
    }
}

#[tokio::test]
async fn without_a_token_everybody_on_the_box_sees_and_nobody_changes_anything() {
    let served = serve_with(None).await;
    served.board.decoder("mat", |_| {});
    let page = served.ask("GET", "/decoders", "", "").await;
    assert!(page.code == 200 && page.body.contains("Log in to fetch reads again"), "{}", page.body);
    assert!(served.ask("GET", "/login", "", "").await.body.contains("token_file"));
    for path in ["/do/rewind", "/login"] {
        let answer = served.ask("POST", path, &served.origin(), "decoder=mat&from=1&to=9&token=x").await;
        assert!(answer.code == 403 && answer.body.contains("token_file"), "{path}: {}", answer.body);
    }
    assert_eq!(served.ask("GET", "/download/csv", "", "").await.code, 403);
}

#[tokio::test]
async fn a_body_is_read_only_where_a_form_is_taken_and_not_for_long() {
    let served = locked_box().await;
    let inside = served.log_in().await;
    let head = format!("cookie: {}\r\n{}", inside.cookie, served.origin());
    for (path, kind, length, code) in [
        ("/do/rewind", "text/plain", "5", "413"),
        ("/do/rewind", "application/x-www-form-urlencoded", "16385", "413"),
        ("/api/status", "application/x-www-form-urlencoded", "5", "413"),
        ("/login", "multipart/form-data; boundary=x", "5", "413"),
        // The body never comes.
        ("/do/rewind", "application/x-www-form-urlencoded", "5", "408"),
    ] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {}\r\n{head}content-type: {kind}\r\ncontent-length: {length}\r\n\r\n",
            served.address
        );
        let answer = timeout(SOON, served.raw(head.as_bytes())).await.expect("it ends by itself");
        assert!(answer.starts_with(&format!("HTTP/1.1 {code}")), "{path} {kind} {length}: {answer}");
    }
}

#[tokio::test]
async fn an_outcome_stays_on_its_page_and_a_mistake_keeps_what_was_typed() {
    let served = locked_box().await;
    let inside = served.log_in().await;
    let wrong = served.send(&inside, "rewind", "decoder=mat&from=ten&to=20").await;
    assert_eq!(wrong.code, 422);
    for text in ["First number: “ten” is not a number", "name=\"to\" value=\"20\"", "name=\"decoder\" value=\"mat\""]
    {
        assert!(wrong.body.contains(text), "{text}: {}", wrong.body);
    }
    let answer = served.send(&inside, "rewind", "decoder=mat&from=10&to=20").await;
    assert_eq!((answer.code, answer.header("location")), (303, Some("/decoders")));
    for _ in 0..2 {
        let page = served.page(&inside, "/decoders").await;
        let line = "Fetch reads 10 to 20 of mat again: it is not connected now";
        assert!(page.body.contains(line) && page.body.contains("Not done:"), "{}", page.body);
    }
    let other = served.log_in().await;
    assert!(!served.page(&other, "/decoders").await.body.contains("10 to 20"), "an outcome is for who asked");
    assert_eq!(served.send(&inside, "fly", "").await.code, 404);
}

#[tokio::test]
async fn what_cannot_be_taken_back_is_done_only_after_a_question() {
    let served = locked_box().await;
    let inside = served.log_in().await;
    let question = served.send(&inside, "let-go", "").await;
    assert_eq!(question.code, 200);
    let (no, yes) = (question.body.find("No, keep").unwrap(), question.body.find("Yes, upload").unwrap());
    assert!(no < yes && question.body.contains("autofocus>No"), "the safe button comes first: {}", question.body);
    assert!(!served.page(&inside, "/set-aside").await.body.contains("id=\"outcomes\""));
    assert_eq!(served.send(&inside, "let-go", "sure=yes").await.code, 303);
    assert!(served.page(&inside, "/set-aside").await.body.contains("there is no journal"));
}

#[tokio::test]
async fn a_program_shows_the_token_itself_and_reads_the_outcome() {
    let served = locked_box().await;
    let bearer = format!("authorization: Bearer {TOKEN}\r\n");
    let rewind = "decoder=mat&from=10&to=20";
    let answer = served.ask("POST", "/do/rewind", &bearer, rewind).await;
    assert!(answer.code == 409 && answer.body.contains("it is not connected now"), "{}", answer.body);
    let answer = served.ask("POST", "/do/let-go", &bearer, "").await;
    assert!(answer.code == 409 && answer.body.contains("Add sure=yes"), "{}", answer.body);
    let answer = served.ask("POST", "/do/try-again", &bearer, "").await;
    assert_eq!((answer.code, answer.body.as_str()), (200, "there are none\n"));
    let foreign = format!("{bearer}origin: http://evil.example\r\n");
    assert_eq!(served.ask("POST", "/do/rewind", &foreign, rewind).await.code, 403);
}

async fn journal(dir: &std::path::Path, board: &Board) -> Journal {
    let config = JournalConfig {
        dir: dir.to_owned(),
        dead_time: Duration::ZERO,
        zones: crate::model::clock::Zones::default(),
        keep_days: 30,
        keep_bytes: u64::MAX,
        segment_bytes: u64::MAX,
    };
    Journal::open(config, board.clone()).unwrap()
}

#[tokio::test]
async fn whatever_is_done_is_a_line_of_the_log_with_who_and_what_became_of_it() {
    let (served, dir) = (locked_box().await, tempfile::tempdir().unwrap());
    let journal = journal(dir.path(), &served.board).await;
    served.commands.send_replace(commands(&served.board).with_journal(journal.clone()));
    let inside = served.log_in().await;
    assert_eq!(served.send(&inside, "rewind", "decoder=mat&from=10&to=20").await.code, 303);
    journal.close().await;
    let mut reader = LogReader::open(&log_dir(dir.path()), None).unwrap().unwrap();
    let mut lines = Vec::new();
    while let Some(line) = reader.read().unwrap() {
        if let LogLine::Entry(entry) = line
            && let Body::Note(text) = entry.body
        {
            lines.push(format!("{} {text}", entry.subject));
        }
    }
    let expected = "action page, 127.0.0.1: Fetch reads 10 to 20 of mat again: it is not connected now";
    assert!(lines.iter().any(|line| line.starts_with(expected)), "{lines:?}");
}

#[tokio::test]
async fn a_hold_a_marker_and_a_list_of_what_is_set_aside_go_the_same_way() {
    let (served, dir) = (locked_box().await, tempfile::tempdir().unwrap());
    let journal = journal(dir.path(), &served.board).await;
    served.commands.send_replace(commands(&served.board).with_journal(journal.clone()));
    let inside = served.log_in().await;
    assert_eq!(served.send(&inside, "hold", "").await.code, 303);
    let page = served.page(&inside, "/hold").await;
    assert!(page.body.contains("The box is on hold since") && page.body.contains("page, 127.0.0.1"), "{}", page.body);
    assert_eq!(served.send(&inside, "marker", "text=gun").await.code, 303);
    assert!(served.page(&inside, "/hold").await.body.contains("it has the time "));
    assert_eq!(served.send(&inside, "marker", "text=").await.code, 422);
    assert!(served.send(&inside, "release", "send=none").await.body.contains("Yes, send none"));
    assert_eq!(served.send(&inside, "release", "send=none&sure=yes").await.code, 303);
    assert!(served.page(&inside, "/hold").await.body.contains("The box is not on hold"));
    for (what, fields) in [("drop-set-aside", "sure=yes"), ("release-set-aside", "id=x"), ("make-room", "through=all")]
    {
        assert_eq!(served.send(&inside, what, fields).await.code, 422, "{what}");
    }
    assert_eq!(served.send(&inside, "drop-set-aside", "id=7&sure=yes").await.code, 303);
    let page = served.page(&inside, "/set-aside").await;
    assert!(
        page.body.contains("Drop passings that are set aside: 7: ") && page.body.contains("Not done:"),
        "{}",
        page.body
    );
    assert!(served.page(&inside, "/card").await.body.contains("No file of the log may go now."));
    journal.close().await;
}

#[tokio::test]
async fn what_the_cloud_lost_is_sent_again_by_numbers_or_by_times() {
    let served = locked_box().await;
    served.board.upload("DEVICE", |_| {});
    let inside = served.log_in().await;
    for (typed, told) in [
        ("from=x&to=", "“x” must be a number of a passing, or a time such as 10:00"),
        ("from=10:00&to=x", "To: “x”"),
        ("from=9&to=5", "The last number is below the first."),
        ("from=2026-07-05T10:00&to=2026-07-05T10:00", "The end is not after the beginning."),
    ] {
        let answer = served.send(&inside, "resend", &format!("device=DEVICE&{typed}")).await;
        assert!(answer.code == 422 && answer.body.contains(told), "{typed}: {}", answer.body);
    }
    for (typed, told) in [
        ("from=5&to=9", "numbers 5 to 9"),
        ("from=2026-07-05T10:00:00Z&to=2026-07-05T10:30:00Z", "with a time from 2026-07-05 "),
        ("from=10:00&to=", " on: "),
    ] {
        assert_eq!(served.send(&inside, "resend", &format!("device=DEVICE&{typed}")).await.code, 303);
        let page = served.page(&inside, "/sessions").await;
        assert!(page.body.contains(told), "{typed}: {}", page.body);
    }
}

#[tokio::test]
async fn the_backup_is_the_log_as_far_as_it_is_durable() {
    let (served, dir) = (locked_box().await, tempfile::tempdir().unwrap());
    let journal = journal(dir.path(), &served.board).await;
    served.commands.send_replace(commands(&served.board).with_journal(journal.clone()));
    journal.note("test", "a line of the log").await.unwrap();
    let inside = served.log_in().await;
    assert_eq!(served.ask("GET", "/download/backup", "", "").await.code, 401);
    let answer = served.page(&inside, "/download/backup").await;
    assert_eq!((answer.code, answer.header("content-type")), (200, Some("application/x-tar")));
    assert!(answer.header("content-disposition").unwrap().starts_with("attachment; filename=\"finish-"));
    let mut chunks = answer.body.as_str();
    let mut tar = Vec::new();
    while let Some((length, rest)) = chunks.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        tar.extend_from_slice(&rest.as_bytes()[..length]);
        chunks = &rest[(length + 2).min(rest.len())..];
    }
    let unpacked = tempfile::tempdir().unwrap();
    tar::Archive::new(tar.as_slice()).unpack(unpacked.path()).unwrap();
    let mut found = 0;
    let mut reader = LogReader::open(&log_dir(unpacked.path()), None).unwrap().unwrap();
    while let Some(line) = reader.read().unwrap() {
        let LogLine::Entry(entry) = line else { continue };
        found += u32::from(matches!(&entry.body, Body::Note(text) if &**text == "a line of the log"));
    }
    assert_eq!(found, 1);
    for file in std::fs::read_dir(log_dir(unpacked.path())).unwrap() {
        let text = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!text.contains(&0) && text.ends_with(b"\n"), "it ends with a whole line, without zeros");
    }
    for what in ["csv", "cloudbox"] {
        assert_eq!(served.page(&inside, &format!("/download/{what}")).await.code, 200, "{what}");
    }
    journal.close().await;
}
