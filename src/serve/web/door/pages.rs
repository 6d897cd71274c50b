//! The pages at the door: the login, the page behind a QR code, and the end of a login.

use askama::Template;
use axum::Extension;
use axum::Router;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use tokio::time::Instant;

use super::form::{SentBy, read_form, sent_by};
use super::{COOKIE, Door, LIFE, May, NoEntry, Visitor, may_change, retry_after, wait_text};
use crate::serve::web::shell::{Shell, html};

/// Where somebody goes who logged in and came from nowhere.
const HOME: &str = "/";

/// The routes of the door.
pub(crate) fn router(door: Door) -> Router {
    Router::new()
        .route("/login", get(login_page).post(log_in))
        .route("/logout", post(log_out))
        .route("/in/{word}", get(invited_page).post(enter_invited))
        .with_state(door)
}

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage<'a> {
    shell: Shell<'a>,
    /// What is wrong with the last try.
    error: Option<String>,
    /// The login of this browser does not count any more.
    was_in: bool,
    /// Where to go then.
    next: &'a str,
}

#[derive(Template)]
#[template(path = "no_token.html")]
struct NoTokenPage<'a> {
    shell: Shell<'a>,
}

#[derive(Template)]
#[template(path = "invited.html")]
struct InvitedPage<'a> {
    shell: Shell<'a>,
    /// The token for one use. `None`: it does not count any more.
    word: Option<&'a str>,
}

#[derive(Deserialize)]
struct Next {
    next: Option<String>,
}

/// A path of this box, and of no other site, to which somebody goes.
fn own_path(next: &str) -> &str {
    let plain = next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if next.starts_with('/') && !next.starts_with("//") && plain { next } else { HOME }
}

async fn login_page(
    State(door): State<Door>,
    Extension(visitor): Extension<Visitor>,
    next: Result<Query<Next>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let next = next.ok().and_then(|Query(Next { next })| next).unwrap_or_default();
    match visitor.may {
        May::Enter => login_again(&door, StatusCode::OK, None, visitor.was_in, own_path(&next)),
        May::See => no_token(&door, StatusCode::OK),
        May::Change(_) => Redirect::to(own_path(&next)).into_response(),
    }
}

fn login_again(door: &Door, status: StatusCode, error: Option<String>, was_in: bool, next: &str) -> Response {
    html(status, &LoginPage { shell: Shell::outside(door.name()), error, was_in, next })
}

/// What somebody reads who wants to change something on a box without a token.
pub(crate) fn no_token(door: &Door, status: StatusCode) -> Response {
    html(status, &NoTokenPage { shell: Shell::outside(door.name()) })
}

/// Whether a form that needs no login was sent by a page of this box. Another site could log
/// somebody in without his knowledge.
fn is_ours(request: &Request) -> bool {
    sent_by(request.headers(), request.uri()) == SentBy::ThisBox
}

fn not_ours() -> Response {
    let what =
        "This form was not sent by a page of this box. Nothing was changed. Open the page of the box and try again.\n";
    (StatusCode::FORBIDDEN, what).into_response()
}

async fn log_in(State(door): State<Door>, Extension(visitor): Extension<Visitor>, request: Request) -> Response {
    if !is_ours(&request) {
        return not_ours();
    }
    let headers = request.headers().clone();
    let Some(form) = read_form(request.into_body()).await else { return too_slow() };
    let next = own_path(form.get("next")).to_owned();
    match door.enter(form.get("token"), visitor.peer, Instant::now()) {
        Ok(id) => {
            door.leave(&headers); // an earlier login of this browser
            let_in(&id, &headers, &next)
        }
        Err(NoEntry::NoToken) => no_token(&door, StatusCode::FORBIDDEN),
        Err(NoEntry::Wait(rest)) => {
            let text = format!("{} Whoever is logged in already need not wait.", wait_text(rest));
            let page = login_again(&door, StatusCode::TOO_MANY_REQUESTS, Some(text), false, &next);
            (retry_after(rest), page).into_response()
        }
        Err(NoEntry::Wrong(left)) => {
            let text = match left {
                0 => "Wrong token. Wait 1 min, then try again.".to_owned(),
                1 => "Wrong token. 1 try left, then 1 min pause.".to_owned(),
                left => format!("Wrong token. {left} tries left, then 1 min pause."),
            };
            login_again(&door, StatusCode::FORBIDDEN, Some(text), false, &next)
        }
        Err(NoEntry::NotInvited) => login_again(&door, StatusCode::FORBIDDEN, None, false, &next),
        Err(NoEntry::Random(error)) => broken(&error),
    }
}

fn too_slow() -> Response {
    let close = [(header::CONNECTION, HeaderValue::from_static("close"))];
    (StatusCode::REQUEST_TIMEOUT, close, "the form did not arrive in time\n").into_response()
}

fn broken(error: &std::io::Error) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, format!("the box has no random numbers yet: {error}. Try again\n"))
        .into_response()
}

/// The answer to a browser that is logged in from now on.
fn let_in(id: &str, headers: &HeaderMap, next: &str) -> Response {
    // Behind a TLS proxy the browser says so, and never sends the cookie in the clear then.
    let origin = headers.get(header::ORIGIN).map(HeaderValue::as_bytes);
    let secure = if origin.is_some_and(|origin| origin.starts_with(b"https:")) { "; Secure" } else { "" };
    let cookie = format!("{COOKIE}={id}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}{secure}", LIFE.as_secs());
    ([(header::SET_COOKIE, cookie)], Redirect::to(next)).into_response()
}

async fn log_out(State(door): State<Door>, Extension(visitor): Extension<Visitor>, request: Request) -> Response {
    let (headers, uri) = (request.headers().clone(), request.uri().clone());
    let Some(form) = read_form(request.into_body()).await else { return too_slow() };
    if visitor.login().is_some() && may_change(&visitor, &headers, &uri, &form).is_err() {
        return not_ours();
    }
    door.leave(&headers);
    let cookie = format!("{COOKIE}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0");
    ([(header::SET_COOKIE, cookie)], Redirect::to("/login")).into_response()
}

async fn invited_page(State(door): State<Door>, Path(word): Path<String>) -> Response {
    let counts = door.0.invites.counts(&word, Instant::now());
    let word = counts.then_some(word.as_str());
    let status = if word.is_some() { StatusCode::OK } else { StatusCode::GONE };
    html(status, &InvitedPage { shell: Shell::outside(door.name()), word })
}

async fn enter_invited(
    State(door): State<Door>,
    Extension(visitor): Extension<Visitor>,
    Path(word): Path<String>,
    request: Request,
) -> Response {
    if !is_ours(&request) {
        return not_ours();
    }
    match door.enter_invited(&word, visitor.peer, Instant::now()) {
        Ok(id) => {
            door.leave(request.headers());
            let_in(&id, request.headers(), HOME)
        }
        Err(NoEntry::Random(error)) => broken(&error),
        Err(NoEntry::NoToken) => no_token(&door, StatusCode::FORBIDDEN),
        Err(_) => html(StatusCode::GONE, &InvitedPage { shell: Shell::outside(door.name()), word: None }),
    }
}
