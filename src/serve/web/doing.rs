//! What can be done over the page: forms, their confirmation, and what became of each.
//!
//! Must hold:
//! * Everything goes through [`crate::serve::ops::Ops`], like over the control socket, with who asked for it (`page,
//!   192.168.1.20`), and is a line of the log with its time and its outcome.
//! * What cannot be taken back asks once: the first form is answered with a question that says what
//!   happens and what stays, and only the answer to it does something.
//! * What takes long goes on when the browser goes away. Its outcome is shown when somebody looks
//!   again, and is in the log in any case.
//! * Bounded: eight things are done at the same time, and nothing twice at the same time.

mod action;
mod download;
mod find;
mod hands;
mod pages;

use askama::Template;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};

use self::action::{ConfirmQuestion, FormMistake, PageAction};
pub(crate) use self::hands::Doing;
use super::door::form::{FormFields, read_form};
use super::door::pages::no_token;
use super::door::{FormRefusal, Visitor, may_change};
use super::shell::{Shell, html};

/// The routes. Who asks must be known ([`super::door::identify`]) and allowed to see.
pub(crate) fn router(doing: Doing) -> Router {
    Router::new()
        .route("/do/{what}", post(act))
        .route("/decoders", get(pages::decoders))
        .route("/sessions", get(pages::sessions))
        .route("/find", get(find::find))
        .route("/hold", get(pages::hold))
        .route("/set-aside", get(pages::set_aside))
        .route("/card", get(pages::card))
        .route("/download/{what}", get(download::download))
        .with_state(doing)
}

/// A question before something that cannot be taken back.
#[derive(Template)]
#[template(path = "confirm.html")]
struct ConfirmPage<'a> {
    shell: Shell<'a>,
    question: &'a ConfirmQuestion,
    what: &'a str,
    back: &'a str,
    typed: Vec<(&'a str, &'a str)>,
}

/// A form with a mistake, and with what was typed.
#[derive(Template)]
#[template(path = "mistake.html")]
struct MistakePage<'a> {
    shell: Shell<'a>,
    mistake: &'a str,
    what: &'a str,
    back: &'a str,
    /// Name, label, and value of each field that somebody typed.
    fields: Vec<(&'a str, &'a str, &'a str)>,
    /// Name and value of each other field.
    hidden: Vec<(&'a str, &'a str)>,
}

/// The names of the fields that somebody types, as the page calls them.
const TYPED: [(&str, &str); 8] = [
    ("alias", "Name of the new session"),
    ("from", "First number"),
    ("to", "Last number"),
    ("file", "File of the decoder"),
    ("unit", "Location or decoder id"),
    ("text", "Text"),
    ("begin", "From"),
    ("end", "To"),
];

async fn act(
    State(doing): State<Doing>,
    Extension(visitor): Extension<Visitor>,
    Path(what): Path<String>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let Some(form) = read_form(body).await else {
        let close = [(header::CONNECTION, HeaderValue::from_static("close"))];
        return (StatusCode::REQUEST_TIMEOUT, close, "the form did not arrive in time\n").into_response();
    };
    if let Err(refusal) = may_change(&visitor, &parts.headers, &parts.uri, &form) {
        return refused(&doing, refusal, &parts);
    }
    let ops = doing.ops();
    let action = match PageAction::parse(&what, &form, &ops) {
        Ok(action) => action,
        Err(mistake) => return mistaken(&doing, &visitor, &what, &form, &mistake),
    };
    if form.get("sure") != "yes"
        && let Some(question) = action.question(&ops)
    {
        return confirm(&doing, &visitor, &what, &form, (&action, &question));
    }
    let page = action.page();
    match doing.carry_out(action, ops, &visitor).await {
        // A browser sees the outcome on the page.
        _ if visitor.login().is_some() => Redirect::to(page).into_response(),
        Ok(done) => format!("{done}\n").into_response(),
        Err(why) => (StatusCode::CONFLICT, format!("{why}\n")).into_response(),
    }
}

fn refused(doing: &Doing, refusal: FormRefusal, parts: &axum::http::request::Parts) -> Response {
    match refusal {
        FormRefusal::NotIn => super::door::not_in(&parts.method, &parts.headers, &parts.uri),
        FormRefusal::NoToken => no_token(&doing.0.door, StatusCode::FORBIDDEN),
        FormRefusal::NotOurForm => {
            let what = "Nothing was changed: this form is of an earlier login, or another page sent it. Go back, load the page \
                        again, and try once more.\n";
            (StatusCode::FORBIDDEN, what).into_response()
        }
    }
}

fn mistaken(doing: &Doing, visitor: &Visitor, what: &str, form: &FormFields, mistake: &FormMistake) -> Response {
    let status = if mistake.unknown { StatusCode::NOT_FOUND } else { StatusCode::UNPROCESSABLE_ENTITY };
    if visitor.login().is_none() {
        return (status, format!("{}\n", mistake.text)).into_response();
    }
    let label = |name: &str| TYPED.iter().find(|(known, _)| *known == name).map(|(_, label)| *label);
    let fields = form.typed().filter_map(|(name, value)| Some((name, label(name)?, value))).collect();
    let hidden = form.typed().filter(|(name, _)| label(name).is_none()).collect();
    let (shell, back) = (doing.shell(visitor, mistake.page), mistake.page);
    html(status, &MistakePage { shell, mistake: &mistake.text, what, back, fields, hidden })
}

fn confirm(
    doing: &Doing,
    visitor: &Visitor,
    what: &str,
    form: &FormFields,
    (action, question): (&PageAction, &ConfirmQuestion),
) -> Response {
    if visitor.login().is_none() {
        let text = format!("{} {} Add sure=yes to do it.\n", question.happens, question.stays);
        return (StatusCode::CONFLICT, text).into_response();
    }
    let (shell, back) = (doing.shell(visitor, action.page()), action.page());
    html(StatusCode::OK, &ConfirmPage { shell, question, what, back, typed: form.typed().collect() })
}
