//! docs/reference/simulated-cloud.md is true: each row of its tables is asked for over HTTP, in both
//! generations, and each call of the fake has its rows.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use super::*;
use crate::sim::cloud::config::Need;
use crate::sim::cloud::http::CALLS;

/// Read at run time, so that the page can be tried without a build.
static PAGE: LazyLock<String> = LazyLock::new(|| {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/simulated-cloud.md");
    std::fs::read_to_string(path).expect("the page is there")
});

const GENERATIONS: [Generation; 2] = [Generation::Legacy, Generation::OpenApi];

/// A device that never had a session, and one of another company.
const EMPTY: &str = "EMPTY";
const THEIRS: &str = "THEIRS";

/// The cells of the table under this heading, row by row, without the head.
fn table(heading: &str) -> Vec<Vec<&'static str>> {
    let (_, section) = PAGE.split_once(&format!("\n## {heading}\n")).expect("the page has this heading");
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// What stands in backquotes.
fn names(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().expect("an object").keys().cloned().collect()
}

/// The answer without its envelope. What a gateway says has none.
fn bare(generation: Generation, value: Value) -> Value {
    if generation == Generation::Legacy || value.get("message").is_some() { value } else { value["body"].clone() }
}

/// A fake with one of each kind, and what its paths are.
struct World {
    rig: Rig,
    closed: String,
    active: String,
    theirs: String,
}

impl World {
    async fn new(generation: Generation, http: &Client) -> Self {
        let keys = [(KEY, Access::ReadWriteUnbind), ("reader", Access::Read), ("writer", Access::Write)];
        let devices = [(DEVICE, "finish"), (EMPTY, "never used")];
        let other = OtherCompany { keys: Vec::new(), devices: vec![(THEIRS.to_owned(), "theirs".to_owned())] };
        let config = SimCloudConfig {
            generation,
            keys: keys.map(|(key, access)| (key.to_owned(), access)).to_vec(),
            devices: devices.map(|(id, alias)| (id.to_owned(), alias.to_owned())).to_vec(),
            others: vec![other],
            ..Default::default()
        };
        let rig = Rig { cloud: SimCloud::start(config).await.unwrap(), http: http.clone() };
        let [closed, active] = rig.cloud.put_races(DEVICE, "heat", 2, 20).try_into().unwrap();
        let theirs = rig.cloud.open_session(THEIRS, "theirs");
        Self { rig, closed, active, theirs }
    }

    /// The path of a call, about our device and its active session.
    fn path(&self, path: &str) -> String {
        path.replace("{deviceid}", DEVICE).replace("{token_session}", &self.active)
    }

    /// A body that the call takes, if it has one.
    fn body(&self, method: &str, path: &str) -> Option<Value> {
        match (method, path) {
            ("POST", "/devices") => Some(json!({ "model": "m", "serial_number": "new" })),
            ("POST", "/sessions") => Some(json!({ "deviceid": DEVICE })),
            ("POST", "/passings") => Some(body(&self.active, [11])),
            _ => None,
        }
    }

    async fn send(&self, key: &str, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let url = format!("{}{path}", self.rig.cloud.url());
        let request = self.rig.http.request(method.parse().unwrap(), url).header("x-api-key", key);
        let (status, value) = answer(if let Some(body) = body { request.json(body) } else { request }).await;
        (status.as_u16(), value)
    }

    /// What the row is about: requests that each get the row's answer. `None`: the test does not
    /// know the row.
    fn requests(&self, call: &str, when: &str) -> Option<Vec<(String, Option<Value>)>> {
        let (method, pattern) = call.split_once(' ')?;
        let (path, usual) = (self.path(pattern), self.body(method, pattern));
        if let Some(bodies) = usual.as_ref().and_then(|usual| self.bodies(usual, when)) {
            return Some(bodies.into_iter().map(|body| (path.clone(), Some(body))).collect());
        }
        let on = |device: &str| pattern.replace("{deviceid}", device);
        let of = |token: &str| pattern.replace("{token_session}", token);
        let with = |query: &str| format!("{path}?{query}");
        let paths = match when {
            "always"
            | "the company has the device"
            | "a session is active"
            | "the session is active"
            | "the device has or had a session" => vec![path],
            "the session is active or closed" => vec![of(&self.active), of(&self.closed)],
            "the session is closed already" => vec![of(&self.closed)],
            "it has not" | "the company has no such device" => vec![on("X"), on(THEIRS)],
            "the company has no such session" => vec![of("X"), of(&self.theirs)],
            "the device never had a session" => vec![on(EMPTY)],
            "none is active" => {
                self.rig.cloud.close_session(&self.active);
                vec![on(DEVICE), on(EMPTY)]
            }
            "the device has no session `token_session`" => {
                ["X", &self.theirs].map(|token| with(&format!("token_session={token}&last=1"))).to_vec()
            }
            "`page` is below 1, or `limit` not from 1 to 5000" => {
                ["page=0", "page=-1", "limit=0", "limit=5001"].map(with).to_vec()
            }
            "`first` or `last` is no number, or `page` is below 1" => {
                ["first=x", "last=-1", "page=0"].map(with).to_vec()
            }
            "`from` or `to` is no time, or `page` is below 1" => ["from=x", "to=2026", "page=0"].map(with).to_vec(),
            "`from` or `to` is no time, `last` no number, or `page` is below 1" => {
                let last = format!("token_session={}&last=x", self.active);
                ["from=x", "to=2026", "page=0", &last].map(with).to_vec()
            }
            "`last` without `token_session`" => vec![with("last=1")],
            _ => return None,
        };
        Some(paths.into_iter().map(|path| (path, usual.clone())).collect())
    }

    /// The bodies that a row is about. `None`: the row is about no body.
    fn bodies(&self, usual: &Value, when: &str) -> Option<Vec<Value>> {
        let with = |field: &str, value: Value| {
            let mut changed = usual.clone();
            changed[field] = value;
            changed
        };
        let without = |field: &str| {
            let mut changed = usual.clone();
            changed.as_object_mut().unwrap().remove(field);
            changed
        };
        let with_passing = |change: &dyn Fn(&mut serde_json::Map<String, Value>)| {
            let mut one = passing(11);
            change(one.as_object_mut().unwrap());
            with("passings_list", json!([one]))
        };
        let configure = |change: fn(&mut SimCloudConfig)| self.rig.cloud.configure(change);
        Some(match when {
            "the serial number is new" => vec![usual.clone()],
            "the serial number is bound" => vec![with("serial_number", json!("SIM-1"))],
            "the serial number is bound, with `--rebind 200`" => {
                configure(|config| config.rebind = Rebind::Success);
                vec![with("serial_number", json!("SIM-1"))]
            }
            "no `type`, with `--bind-type required`" => {
                configure(|config| config.bind_type = BindType::Required);
                vec![usual.clone()]
            }
            "a `type`, with `--bind-type refused`" => {
                configure(|config| config.bind_type = BindType::Refused);
                vec![with("type", json!("CUSTOM_CHRONO"))]
            }
            "`model` or `serial_number` is missing or empty" => {
                let fields = ["model", "serial_number"];
                fields.into_iter().flat_map(|field| [without(field), with(field, json!(""))]).collect()
            }
            "`deviceid` is missing" => vec![without("deviceid")],
            "an unknown field" => vec![with("color", json!("red"))],
            "it has not" => vec![with("deviceid", json!("X")), with("deviceid", json!(THEIRS))],
            "the company has no such session" => vec![body("X", [1]), body(&self.theirs, [1])],
            "the session is closed" => vec![body(&self.closed, [11])],
            "a required field is missing or empty, or `timestamp` is not like `2026-03-06T20:27:47.350Z`" => {
                let mut wrong = vec![without("token_session"), without("passings_list")];
                wrong.extend([with("token_session", json!("")), with("passings_list", json!([]))]);
                wrong.extend(["timestamp", "num_passing", "bib"].map(|field| {
                    with_passing(&|passing| {
                        passing.remove(field);
                    })
                }));
                wrong.extend([("bib", ""), ("timestamp", "2026-03-06T20:27:47Z")].map(|(field, text)| {
                    with_passing(&|passing| {
                        passing.insert(field.to_owned(), json!(text));
                    })
                }));
                wrong
            }
            "more than 5,000 passings" => vec![body(&self.active, 11..=5011)],
            _ => return None,
        })
    }

    /// Each request gets the answer of the row.
    async fn check(
        &self,
        generation: Generation,
        row: &[&str],
        key: &str,
        method: &str,
        asked: &[(String, Option<Value>)],
    ) {
        let [_, _, old, new, has, noted] = row[..] else { panic!("{row:?} has other columns") };
        let wanted = if generation == Generation::Legacy { old } else { new };
        let (all, newer) = has.split_once("2026:").unwrap_or((has, ""));
        let text = has.split('"').nth(1).unwrap_or_else(|| panic!("{row:?} has no words"));
        let mut fields = names(all);
        if generation != Generation::Legacy {
            fields.extend(names(newer));
        }
        let said = if fields.contains("message") { "message" } else { "description" };
        fields.insert(said.to_owned());
        for (path, body) in asked {
            let before = self.rig.cloud.violations().len();
            let (status, value) = self.send(key, method, path, body.as_ref()).await;
            let about = format!("{generation:?}: {row:?}: {method} {path}: {value}");
            assert_eq!(status.to_string(), wanted, "{about}");
            let value = bare(generation, value);
            assert_eq!((keys(&value), &value[said]), (fields.clone(), &json!(text)), "{about}");
            let violation = self.rig.cloud.violations().len() > before;
            let wanted = noted.starts_with("yes") || noted == "only for DELETE" && method == "DELETE";
            assert_eq!(violation, wanted, "{about}");
        }
    }
}

#[tokio::test]
async fn each_row_of_the_table_of_answers_is_what_the_cloud_answers() {
    let rows = table("The answers");
    let http = rig(SimCloudConfig::default()).await.http;
    for generation in GENERATIONS {
        for row in &rows {
            let world = World::new(generation, &http).await;
            let call = row[0].trim_matches('`');
            match (call, row[1]) {
                ("every call", "the key is missing, unknown, or lacks the right") => {
                    for api in CALLS {
                        let asked = [(world.path(api.path), world.body(api.method, api.path))];
                        let poor = if api.need == Need::Read { "writer" } else { "reader" };
                        for key in ["", "another", poor] {
                            world.check(generation, row, key, api.method, &asked).await;
                        }
                    }
                }
                ("every call", "the query has a parameter that the call does not have") => {
                    for api in CALLS {
                        let path = format!("{}?color=red", world.path(api.path));
                        let asked = [(path, world.body(api.method, api.path))];
                        world.check(generation, row, KEY, api.method, &asked).await;
                    }
                }
                ("no call", _) => {
                    for (method, path) in [("GET", "/telemetry"), ("PUT", "/devices"), ("POST", "/devices/X")] {
                        world.check(generation, row, KEY, method, &[(path.to_owned(), None)]).await;
                    }
                }
                (call, when) => {
                    let asked = world.requests(call, when).unwrap_or_else(|| panic!("nothing asks for {row:?}"));
                    world.check(generation, row, KEY, call.split(' ').next().unwrap(), &asked).await;
                }
            }
        }
    }
}

#[test]
fn the_tables_have_the_calls_of_the_cloud_and_no_others() {
    let call = |api: &crate::sim::cloud::call::ApiCall| format!("`{} {}`", api.method, api.path);
    let listed: Vec<Vec<String>> =
        table("The calls").iter().map(|row| row.iter().map(|cell| (*cell).to_owned()).collect()).collect();
    let wanted: Vec<Vec<String>> = CALLS
        .iter()
        .map(|api| {
            let query: Vec<String> = api.query.iter().map(|name| format!("`{name}`")).collect();
            let need = match api.need {
                Need::Read => "READ",
                Need::Write => "WRITE",
                Need::Unbind => "the right to unbind",
            };
            vec![call(api), query.join(", "), need.to_owned()]
        })
        .collect();
    assert_eq!(listed, wanted);

    let mut answered: Vec<&str> = table("The answers").iter().map(|row| row[0]).collect();
    answered.dedup();
    let wanted: Vec<String> =
        ["every call", "no call"].map(str::to_owned).into_iter().chain(CALLS.iter().map(call)).collect();
    assert_eq!(answered, wanted, "each call has its rows, in the order of the calls");
}

#[tokio::test]
async fn the_objects_have_the_fields_of_the_table() {
    let rows = table("The objects");
    let http = rig(SimCloudConfig::default()).await.http;
    for generation in GENERATIONS {
        let world = World::new(generation, &http).await;
        let get = async |path: &str| bare(generation, world.send(KEY, "GET", &world.path(path), None).await.1);
        let mut checked = 0;
        for row in &rows {
            let [object, old, new] = row[..] else { panic!("{row:?} has other columns") };
            let newer = generation != Generation::Legacy;
            let wanted = if newer && new != "the same" { new } else { old };
            let shown = match object {
                "device" => {
                    vec![get("/devices").await["result"][0].clone(), get("/devices/{deviceid}").await["result"].clone()]
                }
                "session in a list" => vec![get("/sessions/device/{deviceid}").await["result"][0].clone()],
                "one session" => vec![
                    get("/sessions/{token_session}").await["result"][0].clone(),
                    get("/sessions/device/{deviceid}/active").await["result"][0].clone(),
                ],
                "passing" => vec![
                    get("/passings/session/{token_session}").await["result"][0].clone(),
                    get("/passings/device/{deviceid}").await["result"][0].clone(),
                ],
                "passing of a continuing pull" => {
                    vec![get("/passings/device2/{deviceid}").await["passings"][0].clone()]
                }
                "pagination" if !newer => continue,
                "pagination" => {
                    let mut shown = Vec::new();
                    let lists = ["/devices", "/sessions/device/{deviceid}", "/passings/session/{token_session}"];
                    for path in lists.into_iter().chain(["/passings/device/{deviceid}", "/passings/device2/{deviceid}"])
                    {
                        shown.push(get(path).await["pagination"].clone());
                    }
                    shown
                }
                _ => panic!("the test does not know {object}"),
            };
            for value in shown {
                assert_eq!(keys(&value), names(wanted), "{generation:?}: {object}");
                checked += 1;
            }
        }
        assert!(checked >= 8, "{checked}");
    }
}

#[tokio::test]
async fn more_than_the_cloud_holds_is_answered_507() {
    let rig = rig(SimCloudConfig::default()).await;
    rig.cloud.put_races(DEVICE, "heat", MAX_SESSIONS, 0);
    assert!(
        PAGE.contains("10,000 sessions and 8,000,000 passings") && (MAX_SESSIONS, MAX_PASSINGS) == (10_000, 8_000_000)
    );
    assert_eq!(rig.post("/sessions", &json!({ "deviceid": DEVICE })).await.0, 507);
    let long = Value::String(" ".repeat(8 << 20));
    assert_eq!(rig.post("/sessions", &long).await.0, 413);
}
