//! The fake against a plain HTTP client: each promise and each fault does what it says.

use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

use super::*;

struct Rig {
    cloud: SimCloud,
    http: Client,
}

async fn rig(config: SimCloudConfig) -> Rig {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap();
    Rig { cloud: SimCloud::start(config).await.unwrap(), http }
}

async fn plain() -> (Rig, String) {
    let rig = rig(SimCloudConfig::default()).await;
    let token = rig.cloud.open_session(DEVICE, "START-5K");
    (rig, token)
}

fn passing(num: u64) -> Value {
    json!({ "timestamp": format!("2026-03-06T20:27:{:02}.350Z", num % 60), "num_passing": num,
            "bib": format!("{num}"), "chip": format!("MC{num:05}") })
}

fn body(token: &str, numbers: impl IntoIterator<Item = u64>) -> Value {
    json!({ "token_session": token, "passings_list": numbers.into_iter().map(passing).collect::<Vec<_>>() })
}

impl Rig {
    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.cloud.url())).header("x-api-key", KEY)
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        answer(self.request(Method::GET, path)).await
    }

    async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        answer(self.request(Method::POST, path).json(body)).await
    }

    async fn try_insert(&self, body: &Value) -> Result<reqwest::Response, reqwest::Error> {
        let limit = Duration::from_millis(300);
        self.request(Method::POST, "/passings").timeout(limit).json(body).send().await
    }

    fn numbers(&self, token: &str) -> Vec<u64> {
        self.cloud.passings(token).iter().map(|stored| stored.num).collect()
    }
}

async fn answer(request: reqwest::RequestBuilder) -> (StatusCode, Value) {
    let response = request.send().await.unwrap();
    let status = response.status();
    (status, response.json().await.unwrap_or(Value::Null))
}

#[tokio::test]
async fn passings_are_stored_counted_and_read_back_in_both_generations() {
    for generation in [Generation::Legacy, Generation::OpenApi, Generation::Gateway] {
        let rig = rig(SimCloudConfig { generation, ..Default::default() }).await;
        let token = rig.cloud.open_session(DEVICE, "START-5K");
        let open = |value: Value| match generation {
            Generation::Legacy => value,
            Generation::OpenApi => value["body"].clone(),
            Generation::Gateway => serde_json::from_str(value["body"].as_str().unwrap()).unwrap(),
        };
        let (status, value) = rig.post("/passings", &body(&token, 1..=3)).await;
        assert!(status.is_success());
        assert_eq!(open(value)["inserted_count"], 3);
        let (_, value) = rig.post("/passings", &body(&token, 2..=5)).await;
        let value = open(value);
        assert_eq!((&value["inserted_count"], &value["token_session"]), (&json!(2), &json!(token)));
        assert_eq!(value.get("duplicate_count"), (generation != Generation::Legacy).then_some(&json!(2)));

        let (_, value) = rig.get(&format!("/passings/session/{token}?first=2&last=4")).await;
        let list = open(value)["result"].as_array().unwrap().clone();
        let numbers: Vec<_> = list.iter().map(|passing| passing["num_passing"].as_u64().unwrap()).collect();
        assert_eq!(numbers, [2, 3, 4]);
        assert_eq!(list[0]["timestamp"], "2026-03-06T20:27:02.350Z");
        assert_eq!((&list[0]["bib"], &list[0]["chip"]), (&json!("2"), &json!("MC00002")));
        let (_, value) = rig.get(&format!("/sessions/device/{DEVICE}/active")).await;
        let session = &open(value)["result"][0];
        assert_eq!((&session["token_session"], &session["passings"]), (&json!(token), &json!(5)));
        assert_eq!(session["active"], true);
        assert_eq!(rig.cloud.violations(), [""; 0]);
    }
}

#[tokio::test]
async fn a_timeout_or_a_cut_shows_the_client_no_answer_whether_the_insert_took_effect_or_not() {
    let (rig, _) = plain().await;
    for (fault, stored) in [
        (Fault::before(Answer::Cut), 0),
        (Fault::before(Answer::Never), 0),
        (Fault::after(Answer::Never), 3),
        (Fault::after(Answer::Cut), 3),
    ] {
        let token = rig.cloud.open_session(DEVICE, "another");
        rig.cloud.fault(On::Insert, fault.clone());
        let error = rig.try_insert(&body(&token, 1..=3)).await.unwrap_err();
        assert_eq!(error.is_timeout(), fault.answer == Answer::Never, "{fault:?}: {error:?}");
        assert_eq!(rig.numbers(&token).len(), stored, "{fault:?}");
        // The same again at once, on a new connection: no second insert in flight.
        assert!(rig.try_insert(&body(&token, 1..=3)).await.unwrap().status().is_success());
        assert_eq!(rig.numbers(&token), [1, 2, 3]);
    }
    assert_eq!(rig.cloud.violations(), [""; 0]);
    let statuses: Vec<_> = rig.cloud.posts().iter().map(|post| post.status).collect();
    assert_eq!(statuses, [None, Some(200), None, Some(200), None, Some(200), None, Some(200)]);
}
