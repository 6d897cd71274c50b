//! Answers in words that no document has, although some clouds of this kind use them.

use serde_json::{Value, json};

/// The words of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Words {
    /// 200 "Throttled", otherwise in the form of a success without counts.
    Throttled,
    /// 200 "Table is locked", in the same form.
    Locked,
    /// 200 `{"error":"Rate exceeded"}`.
    Rate,
    /// 200 "No passings inserted", with the session's token.
    NoneInserted,
    /// 200 "Passings could not be inserted", with the session's token.
    NotInserted,
    /// 200 "Service is busy, try again later".
    TryLater,
    /// The usual answer with its `result` as JSON text (the answer to an insert has no `result`, so
    /// the whole answer becomes that text).
    ResultText,
    /// The usual answer with its `result` under another key.
    OtherKey,
    /// 200 `{"body":null}`.
    BodyNull,
    /// 200 and an empty object, in the generation's envelope.
    Empty,
    /// 404 `{"message":"Not Found"}`, as a gateway answers if it has no route.
    Gateway404,
}

/// How the words are sent.
pub(super) enum Said {
    /// Without an envelope.
    Bare(u16, Value),
    /// In the envelope of the generation.
    Wrapped(u16, Value),
}

impl Words {
    /// All words, each with its name on the command line.
    pub(super) const ALL: &[(&str, Self)] = &[
        ("throttled", Self::Throttled),
        ("locked", Self::Locked),
        ("rate", Self::Rate),
        ("none-inserted", Self::NoneInserted),
        ("not-inserted", Self::NotInserted),
        ("try-later", Self::TryLater),
        ("result-text", Self::ResultText),
        ("other-key", Self::OtherKey),
        ("body-null", Self::BodyNull),
        ("empty", Self::Empty),
        ("gateway-404", Self::Gateway404),
    ];

    /// Returns the words instead of the `usual` answer (its status and its bare object), about the
    /// session with this token.
    pub(super) fn say(self, token: Option<&str>, status: u16, usual: &str) -> Said {
        let described = |text: &str| match token {
            Some(token) => Said::Wrapped(200, json!({ "description": text, "token_session": token })),
            None => Said::Wrapped(200, json!({ "description": text })),
        };
        let usual = || serde_json::from_str::<Value>(usual).unwrap_or(Value::Null);
        match self {
            Self::Throttled => described("Throttled"),
            Self::Locked => described("Table is locked"),
            Self::Rate => Said::Wrapped(200, json!({ "error": "Rate exceeded" })),
            Self::NoneInserted => described("No passings inserted"),
            Self::NotInserted => described("Passings could not be inserted"),
            Self::TryLater => Said::Wrapped(200, json!({ "description": "Service is busy, try again later" })),
            Self::ResultText => {
                let mut usual = usual();
                match usual.get_mut("result") {
                    Some(result) => *result = Value::String(result.to_string()),
                    None => usual = json!({ "description": "Success", "result": usual.to_string() }),
                }
                Said::Wrapped(status, usual)
            }
            Self::OtherKey => {
                let mut usual = usual();
                let result = usual.as_object_mut().and_then(|fields| fields.remove("result"));
                match result {
                    Some(result) => usual["session"] = result,
                    None => usual = json!({ "description": "Success", "data": usual }),
                }
                Said::Wrapped(status, usual)
            }
            Self::BodyNull => Said::Bare(200, json!({ "body": null })),
            Self::Empty => Said::Wrapped(200, json!({})),
            Self::Gateway404 => Said::Bare(404, json!({ "message": "Not Found" })),
        }
    }
}
