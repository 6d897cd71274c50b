//! The page and its stream, over real sockets.

use super::*;

/// The stream of the page, as JSON.
async fn page_events(served: &Served) -> tokio::io::Lines<BufReader<TcpStream>> {
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(b"GET /events HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut lines = BufReader::new(stream).lines();
    let first = timeout(SOON, lines.next_line()).await.unwrap().unwrap().unwrap();
    assert!(first.contains("200"), "{first}");
    lines
}

async fn next_of_page(lines: &mut tokio::io::Lines<BufReader<TcpStream>>) -> serde_json::Value {
    loop {
        let line = timeout(SOON, lines.next_line()).await.unwrap().unwrap().expect("the stream goes on");
        if let Some(data) = line.strip_prefix("data: ") {
            return serde_json::from_str(data).unwrap();
        }
    }
}

fn parts_of(event: &serde_json::Value) -> Vec<&str> {
    event["parts"].as_array().into_iter().flatten().filter_map(|part| part[0].as_str()).collect()
}

#[tokio::test]
async fn the_page_gets_all_of_it_first_then_what_changed_and_a_beat_each_second() {
    let served = serve_with(None).await;
    served.board.decoder("mat", |decoder| decoder.reads = 41);
    let mut events = page_events(&served).await;
    let first = next_of_page(&mut events).await;
    for id in ["state", "also", "chain", "sum", "clocks", "foot"] {
        assert!(parts_of(&first).contains(&id), "{id}: {first}");
    }
    served.board.recent([read(7)]);
    let row = async {
        loop {
            let event = next_of_page(&mut events).await;
            if let Some(rows) = event["rows"].as_array() {
                return rows[0][0].as_u64();
            }
        }
    };
    assert_eq!(timeout(SOON, row).await.unwrap(), Some(7));
    let count = async {
        served.board.decoder("mat", |decoder| decoder.reads = 42);
        loop {
            let event = next_of_page(&mut events).await;
            if let Some(mat) = event["parts"].as_array().into_iter().flatten().find(|part| part[0] == "mat-0") {
                assert!(!parts_of(&event).contains(&"foot"), "what did not change is not sent: {event}");
                return mat[1].as_str().unwrap().contains(">42<");
            }
        }
    };
    assert!(timeout(SOON, count).await.unwrap());
}

#[tokio::test]
async fn a_page_that_reads_slowly_gets_the_newest_and_no_old_events() {
    let served = serve_with(None).await;
    let mut events = page_events(&served).await;
    next_of_page(&mut events).await;
    // While it does not read, hundreds of reads come, more than its buffers could hold as an event each.
    for seq in 1..=400 {
        served.board.recent([read(seq)]);
        tokio::task::yield_now().await;
    }
    let last = async {
        let mut count = 0;
        loop {
            count += 1;
            let event = next_of_page(&mut events).await;
            let rows = event["rows"].as_array().cloned().unwrap_or_default();
            assert!(rows.len() <= artist::ROWS, "only those that are shown: {}", rows.len());
            if rows.first().is_some_and(|row| row[0] == 400) {
                return count;
            }
        }
    };
    let count = timeout(SOON, last).await.unwrap();
    assert!(count < 50, "400 reads came in {count} events");
}

#[tokio::test]
async fn all_of_the_page_is_small_and_from_this_box() {
    let served = serve_with(None).await;
    let (code, html) = served.get("/", "").await;
    assert_eq!(code, 200);
    let (mut css, mut js) = (0, 0);
    let mut compressed = assets::gzip(html.as_bytes()).len();
    for (name, lines) in assets::names() {
        let (code, text) = served.get(&format!("/assets/{}/{name}", assets::version()), "").await;
        assert_eq!(code, 200, "{name}");
        assert!(lines <= 300, "{name} has {lines} lines");
        compressed += assets::gzip(text.as_bytes()).len();
        *(if name.ends_with(".css") { &mut css } else { &mut js }) += text.len();
        assert!(!text.contains("http://") && !text.contains("https://"), "{name} asks another host");
    }
    assert!(html.len() <= 12 << 10 && css <= 20 << 10 && js <= 28 << 10, "{} {css} {js}", html.len());
    assert!(compressed <= 20 << 10, "{compressed} bytes compressed");
    assert!(html.len() + css + js <= 150 << 10);
    let links = html.split("=\"").skip(1).filter_map(|rest| rest.split('"').next());
    assert!(links.clone().all(|link| !link.contains("//")), "no other host: {:?}", links.collect::<Vec<_>>());
    assert_eq!(served.get("/assets/00000000/page.css", "").await.0, 404, "a file of another version");
    assert_eq!(served.get("/icon/not-reading.svg", "").await.0, 200);
}

#[tokio::test]
async fn the_files_of_the_page_may_be_kept_and_come_compressed_and_the_page_may_not() {
    let served = serve_with(Some("sesame")).await;
    let ask = |path: &str| {
        format!("GET {path} HTTP/1.1\r\nhost: localhost\r\naccept-encoding: br, gzip\r\nconnection: close\r\n\r\n")
    };
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(ask(&format!("/assets/{}/page.css", assets::version())).as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let head = String::from_utf8_lossy(&answer).to_lowercase();
    for wanted in ["200 ok", "immutable", "content-encoding: gzip", "vary: accept-encoding", "default-src 'none'"] {
        assert!(head.contains(wanted), "{wanted}");
    }
    assert!(!served.raw(ask("/").as_bytes()).await.contains("immutable"));
    assert!(!assets::takes_gzip(&HeaderMap::new()));
    let refused = HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip;q=0, br"))]);
    assert!(!assets::takes_gzip(&refused));
}

#[tokio::test]
async fn a_hundred_pages_are_drawn_once_for_all() {
    let served = serve_with(None).await;
    let mut pages = Vec::new();
    for _ in 0..100 {
        pages.push(page_events(&served).await);
    }
    let mut texts = Vec::new();
    served.board.recent([read(1)]);
    for page in &mut pages {
        let text = async {
            loop {
                let event = next_of_page(page).await;
                if event["rows"].as_array().is_some_and(|rows| rows.iter().any(|row| row[0] == 1)) {
                    return event["rows"].to_string();
                }
            }
        };
        texts.push(timeout(SOON, text).await.unwrap());
    }
    assert!(texts.windows(2).all(|pair| pair[0] == pair[1]));
}
