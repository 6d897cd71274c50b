//! The files of the page: style, script and icons. They are in the program.
//!
//! A path has the version of all files in it, so a browser may keep a file forever, and an updated
//! box is never shown with the files of before.

use std::io::Write;
use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use flate2::Compression;
use flate2::write::GzEncoder;

/// A file of the page.
struct Asset {
    name: &'static str,
    kind: &'static str,
    text: &'static str,
}

const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// All files, by their names.
const FILES: &[Asset] = &[
    Asset { name: "page.css", kind: CSS, text: include_str!("assets/page.css") },
    Asset { name: "door.css", kind: CSS, text: include_str!("assets/door.css") },
    Asset { name: "page.js", kind: JS, text: include_str!("assets/page.js") },
    Asset { name: "parts.js", kind: JS, text: include_str!("assets/parts.js") },
    Asset { name: "clock.js", kind: JS, text: include_str!("assets/clock.js") },
    Asset { name: "stream.js", kind: JS, text: include_str!("assets/stream.js") },
    Asset { name: "sound.js", kind: JS, text: include_str!("assets/sound.js") },
    Asset { name: "look.js", kind: JS, text: include_str!("assets/look.js") },
    Asset { name: "gun.css", kind: CSS, text: include_str!("assets/gun.css") },
    Asset { name: "gun.js", kind: JS, text: include_str!("assets/gun.js") },
    Asset { name: "ask.js", kind: JS, text: include_str!("assets/ask.js") },
];

/// The icons of the states, by the name in `/icon/`.
const ICONS: &[Asset] = &[
    Asset { name: "reading.svg", kind: SVG, text: include_str!("assets/icons/reading.svg") },
    Asset { name: "ready.svg", kind: SVG, text: include_str!("assets/icons/ready.svg") },
    Asset { name: "not-reading.svg", kind: SVG, text: include_str!("assets/icons/not-reading.svg") },
    Asset { name: "time-wrong.svg", kind: SVG, text: include_str!("assets/icons/time-wrong.svg") },
    Asset { name: "cannot-keep.svg", kind: SVG, text: include_str!("assets/icons/cannot-keep.svg") },
    Asset { name: "not-uploading.svg", kind: SVG, text: include_str!("assets/icons/not-uploading.svg") },
    Asset { name: "hold.svg", kind: SVG, text: include_str!("assets/icons/hold.svg") },
    Asset { name: "no-news.svg", kind: SVG, text: include_str!("assets/icons/no-news.svg") },
];

/// The compressed texts of [`FILES`], in the same order.
static COMPRESSED: LazyLock<Vec<Vec<u8>>> =
    LazyLock::new(|| FILES.iter().map(|file| gzip(file.text.as_bytes())).collect());

/// The version of all files together: eight hex digits.
pub(super) fn version() -> &'static str {
    static VERSION: LazyLock<String> = LazyLock::new(|| {
        let mut sum = crc32fast::Hasher::new();
        for file in FILES.iter().chain(ICONS) {
            sum.update(file.name.as_bytes());
            sum.update(file.text.as_bytes());
        }
        sum.update(env!("CARGO_PKG_VERSION").as_bytes());
        format!("{:08x}", sum.finalize())
    });
    &VERSION
}

const KEEP: (HeaderName, HeaderValue) =
    (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));

/// `/assets/{version}/{file}`. A file of another version is not here: the page that asks for it is
/// of before an update, and loads itself again.
pub(super) async fn file(Path((wanted, name)): Path<(String, String)>, headers: HeaderMap) -> Response {
    let at = FILES.iter().position(|file| file.name == name).filter(|_| wanted == version());
    let Some(at) = at else { return (StatusCode::NOT_FOUND, "there is no such file\n").into_response() };
    let file = &FILES[at];
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static(file.kind));
    let vary = (header::VARY, HeaderValue::from_static("accept-encoding"));
    match takes_gzip(&headers) {
        true => {
            let coded = (header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            ([kind, vary, KEEP, coded], COMPRESSED[at].as_slice()).into_response()
        }
        false => ([kind, vary, KEEP], file.text).into_response(),
    }
}

/// `/icon/{state}.svg`.
pub(super) async fn icon(Path(name): Path<String>) -> Response {
    let Some(icon) = ICONS.iter().find(|icon| icon.name == name) else {
        return (StatusCode::NOT_FOUND, "there is no such icon\n").into_response();
    };
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static(icon.kind));
    let keep = (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=86400"));
    ([kind, keep], icon.text).into_response()
}

/// What a browser asks for by itself.
pub(super) async fn favicon() -> Redirect {
    Redirect::temporary("/icon/ready.svg")
}

/// Whether the client takes a compressed answer.
pub(super) fn takes_gzip(headers: &HeaderMap) -> bool {
    let said = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|said| said.to_str().ok());
    said.flat_map(|said| said.split(',')).any(|coding| {
        let (name, rest) = coding.trim().split_once(';').unwrap_or((coding.trim(), ""));
        name.eq_ignore_ascii_case("gzip")
            && !matches!(rest.replace(' ', "").as_str(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000")
    })
}

/// Compresses a text.
pub(super) fn gzip(text: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::with_capacity(text.len() / 3), Compression::default());
    // Writing to memory cannot fail.
    let _ = out.write_all(text);
    out.finish().unwrap_or_default()
}

/// The names of the files, and how many lines each has.
#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = (&'static str, usize)> {
    FILES.iter().map(|file| (file.name, file.text.lines().count()))
}
