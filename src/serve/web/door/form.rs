//! The body of a form, and whether the form was sent by a page of this box.
//!
//! Must hold: a body costs at most [`BODY_LIMIT`] bytes for at most [`BODY_TIME`]. Only a form that
//! names its length is read.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::uri::{Authority, Uri};
use axum::http::{HeaderMap, HeaderValue, header};
use tokio::time::timeout;
use url::form_urlencoded;

/// Longest body of a form, in bytes.
pub(crate) const BODY_LIMIT: usize = 16 << 10;
/// How long the body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });
/// Most fields of a form. A list of passings has one for each.
const FIELDS: usize = 512;

/// The fields of a form, in their order.
#[derive(Clone, Debug, Default)]
pub(crate) struct FormFields(Vec<(String, String)>);

impl FormFields {
    /// The fields in a text such as `a=1&b=2`.
    pub(crate) fn of(text: &[u8]) -> Self {
        let fields = form_urlencoded::parse(text).take(FIELDS);
        Self(fields.map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }

    /// The value of a field without the space around it; `""` if there is none.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.trim()).unwrap_or_default()
    }

    /// Every value of a field.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.trim())
    }

    /// All fields except those that the page itself adds.
    pub(crate) fn typed(&self) -> impl Iterator<Item = (&str, &str)> {
        let own = |name: &str| matches!(name, "csrf" | "sure" | "token");
        self.0.iter().filter(move |(name, _)| !own(name)).map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// Whether the head of a request announces a form that is short enough. Whoever answers `false` must
/// not read the body.
pub(crate) fn announces_form(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(HeaderValue::as_bytes);
    let kind = text(header::CONTENT_TYPE).and_then(|kind| kind.split(|byte| *byte == b';').next());
    let length = text(header::CONTENT_LENGTH).and_then(|length| std::str::from_utf8(length).ok()?.parse().ok());
    kind.is_some_and(|kind| kind.trim_ascii().eq_ignore_ascii_case(b"application/x-www-form-urlencoded"))
        && length.is_some_and(|length: usize| length <= BODY_LIMIT)
        && !headers.contains_key(header::TRANSFER_ENCODING)
        && !headers.contains_key(header::EXPECT)
}

/// Reads a form. `None`: it did not arrive in time, or it is too long.
pub(crate) async fn read_form(body: Body) -> Option<FormFields> {
    let bytes = timeout(BODY_TIME, to_bytes(body, BODY_LIMIT)).await.ok()?.ok()?;
    Some(FormFields::of(&bytes))
}

/// Where a request comes from, as its browser says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SentBy {
    /// A page of this box.
    ThisBox,
    /// Another page.
    AnotherPage,
    /// A program that is no browser, or a browser that does not say.
    Unsaid,
}

/// Who sent the form. A browser names the page with `Origin`, and a page of this box has the same
/// name and port as the request itself. Over plain http a browser sends no `Sec-Fetch-Site`, except
/// to the machine on which it runs, so that header can only add to a refusal.
pub(crate) fn sent_by(headers: &HeaderMap, uri: &Uri) -> SentBy {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    if text("sec-fetch-site").is_some_and(|site| site != "same-origin") {
        return SentBy::AnotherPage;
    }
    let Some(origin) = text("origin") else { return SentBy::Unsaid };
    let authority = |text: &str| text.parse::<Authority>().ok();
    let asked = uri.authority().cloned().or_else(|| authority(text("host")?));
    let named = origin.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https"));
    match named.and_then(|(_, rest)| authority(rest)) {
        // `Authority` compares without regard to upper and lower case.
        Some(named) if Some(&named) == asked.as_ref() => SentBy::ThisBox,
        _ => SentBy::AnotherPage,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn only_a_page_of_the_same_address_and_port_is_a_page_of_this_box() {
        let by = |lines: &[(&'static str, &'static str)]| sent_by(&headers(lines), &Uri::from_static("/do/x"));
        let host = ("host", "192.168.1.20:8470");
        assert_eq!(by(&[host, ("origin", "http://192.168.1.20:8470")]), SentBy::ThisBox);
        assert_eq!(by(&[("host", "Box.lan"), ("origin", "https://box.LAN")]), SentBy::ThisBox, "behind a TLS proxy");
        assert_eq!(by(&[host]), SentBy::Unsaid);
        for wrong in [
            "null",
            "",
            "http://192.168.1.20",
            "http://192.168.1.20:8471",
            "http://192.168.1.20:8470.evil.example",
            "http://evil.example",
            "file://192.168.1.20:8470",
            "http://x@192.168.1.20:8470",
        ] {
            assert_eq!(by(&[host, ("origin", wrong)]), SentBy::AnotherPage, "{wrong}");
        }
        for site in ["cross-site", "same-site", "none"] {
            let lines = [host, ("origin", "http://192.168.1.20:8470"), ("sec-fetch-site", site)];
            assert_eq!(by(&lines), SentBy::AnotherPage, "{site}");
        }
    }

    #[test]
    fn a_body_is_a_short_form_of_a_known_length() {
        let form = ("content-type", "application/x-www-form-urlencoded; charset=utf-8");
        assert!(announces_form(&headers(&[form, ("content-length", "16384")])));
        for wrong in [
            &[form, ("content-length", "16385")][..],
            &[form],
            &[form, ("content-length", "-1")],
            &[form, ("content-length", "9"), ("transfer-encoding", "chunked")],
            &[("content-length", "9")],
            &[("content-type", "text/plain"), ("content-length", "9")],
            &[("content-type", "multipart/form-data"), ("content-length", "9")],
        ] {
            assert!(!announces_form(&headers(wrong)), "{wrong:?}");
        }
    }

    #[test]
    fn fields_are_decoded_and_bounded() {
        let fields = FormFields::of(b"alias=10K+Sant%20Joan+&id=1&id=2&csrf=x&broken=%zz&=");
        assert_eq!((fields.get("alias"), fields.get("none"), fields.get("broken")), ("10K Sant Joan", "", "%zz"));
        assert_eq!(fields.all("id").collect::<Vec<_>>(), ["1", "2"]);
        assert!(!fields.typed().any(|(name, _)| name == "csrf"));
        assert_eq!(FormFields::of("a=1&".repeat(10_000).as_bytes()).0.len(), FIELDS);
    }
}
