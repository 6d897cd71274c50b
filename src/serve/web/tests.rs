//! Tests over real sockets on 127.0.0.1, with requests written by hand, because what matters is
//! what is on the wire.

mod behind;

use jiff::Timestamp;
use secrecy::SecretString;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::task::JoinHandle;

use super::artist::tests::no_sources;
use super::*;
use crate::decoders::{Frame, Framed};
use crate::history::PlotHistory;
use crate::journal::{Journal, JournalConfig};
use crate::link::DecoderHandle;
use crate::model::chip::ChipRead;
use crate::model::clock::Zones;
use crate::serve::ops::{Decoders, Past, Repairs};
use crate::status::{ProblemCode, RecentRead, Snapshot};

mod page;

/// Longest wait for anything that should happen at once.
const SOON: Duration = Duration::from_secs(10);

struct Served {
    address: SocketAddr,
    board: Board,
    access: watch::Sender<Audience>,
    invites: Invites,
    commands: watch::Sender<Ops>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

async fn serve_with(token: Option<&str>) -> Served {
    serve_past(token, None).await
}

async fn serve_past(token: Option<&str>, past: Option<Past>) -> Served {
    let page = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let (address, board, stop) = (page.local_addr().unwrap(), Board::new("finish"), CancellationToken::new());
    let access = token.map_or(Audience::Open, |token| Audience::Token(Arc::new(SecretString::from(token))));
    let (access, invites) = (watch::Sender::new(access), Invites::default());
    let commands = commands(&board);
    let commands = watch::Sender::new(if let Some(past) = past { commands.with_past(past) } else { commands });
    let serving = Serving {
        board: board.clone(),
        access: access.subscribe(),
        invites: invites.clone(),
        ops: commands.subscribe(),
        sources: no_sources(),
    };
    let task = tokio::spawn(serve(page, serving, stop.clone()));
    Served { address, board, access, invites, commands, stop, task }
}

/// The commands of a box with the decoder `mat`, which is not connected.
fn commands(board: &Board) -> Ops {
    let decoders: Decoders = [("mat".to_owned(), DecoderHandle::default())].into();
    Ops::new(board.clone(), Repairs::new(), decoders, watch::Sender::default())
}

impl Served {
    /// Status code and everything after the head.
    async fn get(&self, path: &str, headers: &str) -> (u16, String) {
        let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n");
        let answer = timeout(SOON, self.raw(head.as_bytes())).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    async fn raw(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // The server may have refused the request before all of it was written.
        let _ = stream.write_all(request).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }
}

fn read(seq: u64) -> RecentRead {
    let received = Timestamp::UNIX_EPOCH;
    let (decoder, chip, decoder_time) = ("mat".to_owned(), format!("CHIP{seq}"), "10:00:00.000".to_owned());
    RecentRead { seq, decoder, chip, decoder_time, received, antenna: None, rssi: None, hits: None, live: true }
}

#[tokio::test]
async fn a_search_that_asks_for_nothing_says_what_to_ask_for_and_one_before_the_journal_is_open_says_that() {
    let served = serve_with(None).await;
    for (path, why) in [
        ("/api/search", "q must be"),
        ("/api/search?q=%20", "q must be"),
        ("/api/search?q=7&limit=0", "limit must be"),
        ("/api/search?q=7&limit=1001", "limit must be"),
        ("/api/search?q=7&from=10:00", "from must be an instant"),
        ("/api/search?q=7&to=x", "to must be an instant"),
        ("/api/search?q=7&q=8", "the address must be"),
    ] {
        let (status, body) = served.get(path, "").await;
        assert!(status == 400 && body.contains(why), "{path}: {status} {body}");
    }
    assert_eq!(served.get("/api/search?q=7", "").await, (503, "there is no journal\n".to_owned()));
    let locked = serve_with(Some("secret")).await;
    assert_eq!(locked.get("/api/search?q=7", "").await.0, 401);
}

#[tokio::test]
async fn a_port_in_use_is_one_clear_line_and_exit_78() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let failure = Failure::from(bind(address).await.unwrap_err());
    assert_eq!(failure.exit_code(), 78);
    let line = failure.to_string();
    assert!(line.contains(&address.to_string()) && line.contains("in use") && !line.contains('\n'), "{line}");
}

#[tokio::test]
async fn an_address_that_is_not_on_this_box_yet_stops_nothing_and_is_shown() {
    // TEST-NET-1 is never an address of a machine.
    let page = bind(SocketAddr::from(([192, 0, 2, 1], 8470))).await.unwrap();
    assert_eq!(page.local_addr(), None);
    let (board, stop) = (Board::new("finish"), CancellationToken::new());
    let mut changed = board.changed();
    let serving = Serving {
        board: board.clone(),
        access: watch::Sender::new(Audience::Open).subscribe(),
        invites: Invites::default(),
        ops: watch::Sender::new(commands(&board)).subscribe(),
        sources: no_sources(),
    };
    let task = tokio::spawn(serve(page, serving, stop.clone()));
    timeout(SOON, changed.changed()).await.unwrap().unwrap();
    assert_eq!(board.snapshot().problems[0].code, "status_address");
    stop.cancel();
    timeout(SOON, task).await.unwrap().unwrap();
}

#[tokio::test]
async fn the_status_is_the_same_in_every_form() {
    let served = serve_with(None).await;
    served.board.decoder("mat", |decoder| decoder.reads = 41);
    let (code, body) = served.get("/api/status", "").await;
    let status: Snapshot = serde_json::from_str(&body).unwrap();
    assert_eq!((code, status.decoders[0].reads, status.name.as_str()), (200, 41, "finish"));
    let (code, body) = served.get("/plain", "").await;
    assert!(code == 200 && body.contains("41 reads"), "{body}");
    let (code, body) = served.get("/", "").await;
    assert!(code == 200 && body.contains("<span class=\"n\">41</span>"), "{body}");
    let (code, body) = served.get("/metrics", "").await;
    assert!(code == 200 && body.contains("passbridge_decoder_reads_total{decoder=\"mat\"} 41"), "{body}");
    assert_eq!(served.get("/nowhere", "").await.0, 404);
}

#[tokio::test]
async fn ready_only_while_reads_can_be_kept_but_alive_all_the_time() {
    let served = serve_with(None).await;
    let (code, body) = served.get("/readyz", "").await;
    assert!(code == 503 && body.contains("journal is not open yet"), "{body}");
    assert_eq!(served.get("/healthz", "").await.0, 200);
    served.board.not_ready("starting", None);
    assert_eq!(served.get("/readyz", "").await, (200, "ready\n".to_owned()));
    served.board.not_ready("disk_full", Some("no room".to_owned()));
    assert_eq!(served.get("/readyz", "").await, (503, "disk_full: no room\n".to_owned()));
}

#[tokio::test]
async fn reads_come_newest_first_and_never_more_than_a_thousand() {
    let served = serve_with(None).await;
    served.board.recent((1..=1200).map(read));
    let seqs = async |query: &str| {
        let (code, body) = served.get(&format!("/api/reads{query}"), "").await;
        let reads: Vec<RecentRead> = serde_json::from_str(&body).unwrap();
        (code, reads.iter().map(|read| read.seq).collect::<Vec<_>>())
    };
    assert_eq!(seqs("?limit=3").await, (200, vec![1200, 1199, 1198]));
    assert_eq!(seqs("").await.1.len(), USUAL_READS);
    assert_eq!(seqs("?limit=99999").await.1.len(), 1000);
    for wrong in ["?limit=all", "?limit=-1", "?limit=1e3"] {
        let (code, body) = served.get(&format!("/api/reads{wrong}"), "").await;
        assert!(code == 400 && body.contains("from 0 to 1000"), "{wrong}: {body}");
    }
}

#[tokio::test]
async fn with_a_token_only_life_and_readiness_are_told_without_it() {
    let served = serve_with(Some("sesame-42")).await;
    for path in ["/", "/plain", "/events", "/api/status", "/api/reads", "/api/events", "/metrics", "/nowhere"] {
        assert_eq!(served.get(path, "").await.0, 401, "{path}");
    }
    for wrong in ["Bearer sesame-43", "Bearer sesame-4", "Bearer sesame-422", "Bearer ", "Basic sesame-42", "é"] {
        // After three wrong tries a machine has to wait.
        let other = serve_with(Some("sesame-42")).await;
        assert_eq!(other.get("/api/status", &format!("authorization: {wrong}\r\n")).await.0, 401, "{wrong}");
    }
    assert_eq!(served.get("/api/status", "authorization: bearer sesame-42\r\n").await.0, 200);
    assert_eq!(served.get("/healthz", "").await.0, 200);
    assert_eq!(served.get("/readyz", "").await.0, 503);
}

struct Events {
    lines: tokio::io::Lines<BufReader<TcpStream>>,
    first: String,
}

async fn events_of(served: &Served) -> Events {
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(b"GET /api/events HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut lines = BufReader::new(stream).lines();
    let first = timeout(SOON, lines.next_line()).await.unwrap().unwrap().unwrap();
    Events { lines, first }
}

impl Events {
    /// Returns the status of the next event, or `None` when the stream ended.
    async fn next(&mut self) -> Option<Snapshot> {
        loop {
            let line = timeout(SOON, self.lines.next_line()).await.unwrap().ok()??;
            if let Some(data) = line.strip_prefix("data: ") {
                return Some(serde_json::from_str(data).unwrap());
            }
        }
    }
}

#[tokio::test]
async fn changes_are_told_as_they_happen_but_at_most_twice_a_second() {
    let served = serve_with(None).await;
    let mut events = events_of(&served).await;
    assert_eq!(events.next().await.unwrap().journal.durable, 0);
    let started = std::time::Instant::now();
    let (board, go_on) = (served.board.clone(), CancellationToken::new());
    let changing = {
        let go_on = go_on.clone();
        tokio::spawn(async move {
            while !go_on.is_cancelled() {
                board.journal(|journal| journal.durable += 1);
                tokio::task::yield_now().await;
            }
            board.journal(|journal| journal.durable = 1_000_000_000);
        })
    };
    for _ in 0..3 {
        assert!(events.next().await.unwrap().journal.durable > 0);
    }
    assert!(started.elapsed() >= 2 * EVENT_GAP, "three events came in {:?}", started.elapsed());
    go_on.cancel();
    changing.await.unwrap();
    // However fast the state changed, the last state is sent as well.
    while events.next().await.unwrap().journal.durable != 1_000_000_000 {}
}

#[tokio::test]
async fn event_streams_are_limited_and_leave_room_for_the_status() {
    let served = serve_with(None).await;
    let mut open = Vec::new();
    for _ in 0..STREAMS {
        let events = events_of(&served).await;
        assert!(events.first.contains("200"), "{}", events.first);
        open.push(events);
    }
    assert!(events_of(&served).await.first.contains("503"));
    assert_eq!(served.get("/api/status", "").await.0, 200);
    drop(open.pop());
    let again = async {
        while !events_of(&served).await.first.contains("200") {
            // The server detects a closed connection when it next writes.
            served.board.journal(|journal| journal.head += 1);
        }
    };
    timeout(SOON, again).await.unwrap();
}

#[tokio::test]
async fn a_stop_ends_streams_and_frees_the_port() {
    let served = serve_with(None).await;
    let mut events = events_of(&served).await;
    events.next().await.unwrap();
    served.stop.cancel();
    assert_eq!(events.next().await, None);
    timeout(SOON, served.task).await.unwrap().unwrap();
    bind(served.address).await.unwrap();
}

#[tokio::test]
async fn requests_that_are_too_large_or_no_requests_are_refused() {
    let served = serve_with(None).await;
    let answer = served.raw(b"POST /api/status HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\n\r\nabc").await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let answer = served.raw(b"DELETE /api/status HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
    let long = format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "y".repeat(4 * HEAD_LIMIT));
    let answer = served.raw(long.as_bytes()).await;
    assert!(!answer.contains("200 OK"), "{answer}");
    let many = format!("GET / HTTP/1.1\r\nhost: localhost\r\n{}\r\n", "x: y\r\n".repeat(HEADERS + 1));
    assert!(served.raw(many.as_bytes()).await.starts_with("HTTP/1.1 431"));
    let garbage = served.raw(&[0x16, 0x03, 0x01, 0x02, 0x00, b'\r', b'\n', b'\r', b'\n']).await;
    assert!(!garbage.contains("200 OK"), "{garbage}");
    assert_eq!(served.get("/healthz", "").await.0, 200, "and the box goes on");
}

#[tokio::test]
async fn a_client_that_sends_no_whole_request_is_let_go_also_after_an_answer() {
    let served = serve_with(None).await;
    for begun in [&b""[..], b"GET / HT", b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"] {
        timeout(SOON, served.raw(begun)).await.expect("the server closes the connection");
    }
}

#[tokio::test]
async fn a_name_that_is_pointed_at_this_box_later_learns_nothing() {
    let served = serve_with(None).await;
    let code = async |host: &str, target: &str| {
        let request = format!("GET {target} HTTP/1.1\r\n{host}connection: close\r\n\r\n");
        served.raw(request.as_bytes()).await.split(' ').nth(1).map(str::to_owned).unwrap_or_default()
    };
    for right in ["localhost", "LOCALHOST:8470", "127.0.0.1:8470", "[::1]", "[::1]:8470", "192.168.1.20:8470"] {
        assert_eq!(code(&format!("host: {right}\r\n"), "/api/status").await, "200", "{right}");
    }
    let names =
        ["evil.example", "evil.example:8470", "localhost.evil.example", "127.0.0.1.evil.example", "box", "a b", ""];
    for wrong in names {
        for target in ["/", "/api/status", "/api/reads", "/api/events", "/metrics", "/readyz"] {
            let code = code(&format!("host: {wrong}\r\n"), target).await;
            assert!(["421", "400"].contains(&code.as_str()), "{wrong} {target}: {code}");
        }
    }
    assert_eq!(code("host: localhost\r\n", "http://evil.example/api/status").await, "421");
    // With a token configured, the box may have a name, because a request that another site caused
    // has no token to send.
    let served = serve_with(Some("sesame")).await;
    let asked =
        "GET /api/status HTTP/1.1\r\nhost: box.lan\r\nauthorization: Bearer sesame\r\nconnection: close\r\n\r\n";
    assert!(served.raw(asked.as_bytes()).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_page_of_another_site_is_refused_and_a_link_to_here_is_not() {
    let served = serve_with(None).await;
    for (headers, expected) in [
        ("sec-fetch-site: cross-site\r\nsec-fetch-mode: no-cors\r\n", 403),
        ("sec-fetch-site: same-site\r\nsec-fetch-mode: cors\r\n", 403),
        ("sec-fetch-site: cross-site\r\nsec-fetch-mode: navigate\r\n", 200),
        ("sec-fetch-site: same-origin\r\nsec-fetch-mode: cors\r\n", 200),
        ("sec-fetch-site: none\r\nsec-fetch-mode: navigate\r\n", 200),
    ] {
        assert_eq!(served.get("/api/status", headers).await.0, expected, "{headers}");
    }
}

#[tokio::test]
async fn every_answer_also_a_refusal_tells_the_browser_to_keep_and_frame_nothing() {
    let served = serve_with(Some("sesame")).await;
    for request in [
        "GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        "GET /nowhere HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n",
    ] {
        let answer = served.raw(request.as_bytes()).await.to_lowercase();
        for header in ["cache-control: no-store", "nosniff", "x-frame-options: deny", "frame-ancestors 'none'"] {
            assert!(answer.contains(header), "{header} is not in: {answer}");
        }
        assert!(!answer.contains("access-control-"), "{answer}");
    }
}

#[tokio::test]
async fn without_a_form_nothing_is_changed_over_http_and_no_path_leads_to_a_file() {
    let served = serve_with(None).await;
    for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW"] {
        for path in ["/", "/plain", "/events", "/api/status", "/api/reads", "/metrics", "/healthz", "/icon/ready.svg"] {
            let request = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
            let answer = served.raw(request.as_bytes()).await;
            assert!(!answer.starts_with("HTTP/1.1 2"), "{method} {path}: {answer}");
        }
    }
    for path in
        ["/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fetc/passwd", "//etc/passwd", "/etc/passwd%00"]
    {
        let code = served.get(path, "").await.0;
        assert!(code == 404 || code == 400, "{path}: {code}");
    }
}

#[tokio::test]
async fn one_machine_has_its_share_of_the_connections_and_this_box_all() {
    let peers = Peers::default();
    let hostile: IpAddr = "10.0.0.66".parse().unwrap();
    let mut held: Vec<_> = (0..CONNECTIONS_OF_ONE).map(|_| peers.count(hostile).unwrap()).collect();
    assert!(peers.count(hostile).is_none());
    let other_form = Peer("::ffff:10.0.0.66".parse().unwrap()).machine();
    assert!(peers.count(other_form).is_none(), "the same address in another form");
    let _timer = peers.count("10.0.0.5".parse().unwrap()).expect("another one is served");
    held.pop();
    held.push(peers.count(hostile).expect("a place came back"));
    let many = (0..CONNECTIONS_OF_ONE as u128).map(|low| IpAddr::V6(((0x2001_0db8_u128 << 96) + low).into()));
    let network: Vec<_> = many.map(|ip| peers.count(Peer(ip).machine()).unwrap()).collect();
    assert!(
        peers.count(Peer("2001:db8::ffff".parse().unwrap()).machine()).is_none(),
        "one network of IPv6 is one machine"
    );
    let local: Vec<_> = (0..CONNECTIONS).map(|_| peers.count("127.0.0.1".parse().unwrap()).unwrap()).collect();
    drop((held, network, local, _timer));
    assert!(peers.0.lock().unwrap().is_empty(), "nothing is remembered of who went");
}

#[tokio::test]
async fn when_every_place_is_taken_who_is_connected_is_served_and_the_next_one_soon() {
    let served = serve_with(None).await;
    let ask = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let mut good = TcpStream::connect(served.address).await.unwrap();
    let mut answer = [0; 4096];
    let mut slow = Vec::new();
    // More would wait for a place in the queue of the kernel, and not of this box.
    for at in 0..CONNECTIONS + 64 {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        let _ = stream.write_all(&b"GET / HTTP/1.1\r\nhost: lo"[..at % 25]).await;
        slow.push(stream);
        if at % 16 == 0 {
            good.write_all(ask).await.unwrap();
            let length = timeout(SOON, good.read(&mut answer)).await.unwrap().unwrap();
            assert!(answer[..length].starts_with(b"HTTP/1.1 200"), "it is served while places run out");
        }
    }
    assert_eq!(served.get("/healthz", "").await.0, 200, "the next one gets the place of a slow one");
}

#[tokio::test]
async fn clients_that_never_read_are_let_go_and_their_places_come_back() {
    let served = serve_with(None).await;
    served.board.recent((1..=1000).map(read));
    served.board.raise(ProblemCode::Configuration, "", "x".repeat(100_000));
    let mut deaf = Vec::new();
    for at in 0..CONNECTIONS {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(1024).unwrap();
        socket.connect(&served.address.into()).unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut stream = TcpStream::from_std(socket.into()).unwrap();
        let path = if at < STREAMS { "/api/events" } else { "/api/reads?limit=1000" };
        let asked = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").repeat(3);
        stream.write_all(asked.as_bytes()).await.unwrap();
        deaf.push(stream);
    }
    let again = async {
        while !events_of(&served).await.first.contains("200") {
            // The server detects a closed connection when it next writes. The kernel's timer ends
            // these connections.
            served.board.journal(|journal| journal.head += 1);
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(3 * SOON, again).await.expect("there is a place, also for a stream");
    drop(deaf);
}

#[tokio::test]
async fn requests_on_each_others_heels_are_answered_in_order() {
    let served = serve_with(None).await;
    let mut many = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(500);
    many += "GET /nowhere HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let answer = timeout(SOON, served.raw(many.as_bytes())).await.unwrap();
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 500);
    assert!(answer[answer.rfind("HTTP/1.1").unwrap()..].starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn a_flood_behind_a_refused_head_is_not_read() {
    let served = serve_with(None).await;
    for head in
        ["content-length: 999999999999", "transfer-encoding: chunked", "expect: 100-continue\r\ncontent-length: 9"]
    {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(format!("POST / HTTP/1.1\r\nhost: localhost\r\n{head}\r\n\r\n").as_bytes()).await.unwrap();
        let chunk = vec![b'f'; 1 << 20];
        let mut sent = 0;
        while sent < 64 << 20 {
            match timeout(SOON, stream.write(&chunk)).await.expect("it is cut, not left standing") {
                Ok(length) => sent += length,
                Err(_) => break,
            }
        }
        assert!(sent < 64 << 20, "{head}: all of {sent} bytes were taken");
    }
    assert_eq!(served.get("/healthz", "").await.0, 200);
}

#[tokio::test]
async fn no_bytes_make_the_page_stop() {
    let served = serve_with(None).await;
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..100 {
        let length = random.usize(1..200);
        let mut bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(length).collect();
        if random.bool() {
            bytes.splice(..0, *b"GET /api/reads?limit=");
            bytes.extend_from_slice(b" HTTP/1.1\r\nhost: localhost\r\n\r\n");
        }
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        let _ = stream.write_all(&bytes).await;
    }
    assert_eq!(served.get("/healthz", "").await.0, 200);
    assert!(!served.task.is_finished());
}

/// A box that kept a read of a chip with an unpleasant name.
async fn past(dir: &std::path::Path, reports: usize) -> Past {
    let board = Board::new("finish");
    let (dead_time, keep_days, keep_bytes, segment_bytes) = (Duration::ZERO, 30, 1 << 30, 1 << 30);
    let zones = Zones::default();
    let config =
        JournalConfig { dir: dir.into(), dead_time, zones: zones.clone(), keep_days, keep_bytes, segment_bytes };
    let journal = Journal::open(config, board.clone()).unwrap();
    let read = ChipRead::new("<script>alert(1)</script>", "2027-01-15T12:00:00".parse().unwrap());
    let frames = vec![Framed { frame: Frame::Read(read), raw: Box::default() }];
    journal.append("mat", board.now(), frames).await.unwrap();
    journal.close().await;
    let plots = PlotHistory::new(["mat".to_owned()], true, board);
    Past { plots, data_dir: dir.into(), zones, reports: Arc::new(Semaphore::new(reports)) }
}

#[tokio::test]
async fn the_report_is_a_page_with_the_rules_of_every_page_and_a_chip_is_text_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let served = serve_past(None, Some(past(dir.path(), 1).await)).await;
    served.board.journal(|journal| journal.durable = 9); // as the journal of a daemon shows it
    let page = served.raw(b"GET /report HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await;
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("text/html; charset=utf-8"), "{page}");
    assert!(page.contains("content-security-policy: default-src") && !page.contains("<script"), "{page}");
    assert!(page.contains("&#60;script&#62;alert(1)"), "{page}");
    let (code, style) = served.get("/assets/report.css", "").await;
    assert!(code == 200 && style.contains("@media print"));
    let (code, json) = served.get("/api/report?day=today", "").await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &json["decoders"][0]["reads"]), (200, &1.into()));
    let (_, json) = served.get("/api/report?day=2001-01-01", "").await;
    assert!(json.contains("no entry of this time"), "{json}");
    assert_eq!(served.get("/report?day=yesterday", "").await.0, 400);
    // While a report is made for somebody else.
    let busy = serve_past(None, Some(past(dir.path(), 0).await)).await;
    let (code, why) = busy.get("/report", "").await;
    assert!(code == 503 && why.contains("try again"), "{code} {why}");
    let closed = serve_past(Some("secret"), Some(past(dir.path(), 1).await)).await;
    assert_eq!((closed.get("/report", "").await.0, closed.get("/api/history?span=6h", "").await.0), (401, 401));
}

#[tokio::test]
async fn the_data_of_the_plots_are_json_and_what_is_not_known_is_null() {
    let dir = tempfile::tempdir().unwrap();
    let served = serve_past(None, Some(past(dir.path(), 1).await)).await;
    for (span, step, cells) in [("10m", 10, 60), ("6h", 300, 72)] {
        let (code, json) = served.get(&format!("/api/history?span={span}"), "").await;
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((code, &json["step_s"], json["cells"].as_array().unwrap().len()), (200, &step.into(), cells));
        assert_eq!(json["cells"][0]["reads"], serde_json::Value::Null);
        let names: Vec<_> = json["strips"].as_array().unwrap().iter().map(|strip| strip["name"].clone()).collect();
        assert_eq!(names, ["mat", "this box", "internet"]);
    }
    assert_eq!(served.get("/api/history", "").await.0, 400);
    assert_eq!(served.get("/api/history?span=1h", "").await.0, 400);
    assert_eq!(serve_with(None).await.get("/api/history?span=6h", "").await.0, 503);
}
