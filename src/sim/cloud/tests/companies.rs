//! Companies, their keys and devices: what a key may do, what it may see, and what an unbind
//! destroys.

use super::*;
use crate::sim::cloud::http::CALLS;

/// Key of the second company. It may do everything.
const THEIR_KEY: &str = "ror-00000000000000000002";

const THEIR_DEVICE: &str = "65A10000000000000000000000000000000000000000000000000000000A2222";

fn two_companies() -> SimCloudConfig {
    let theirs = OtherCompany {
        keys: vec![(THEIR_KEY.to_owned(), Access::ReadWriteUnbind)],
        devices: vec![(THEIR_DEVICE.to_owned(), "start".to_owned())],
    };
    let keys = vec![(KEY.to_owned(), Access::ReadWriteUnbind)];
    SimCloudConfig { keys, others: vec![theirs], ..Default::default() }
}

#[tokio::test]
async fn what_belongs_to_another_company_is_as_unknown_as_what_does_not_exist() {
    let rig = rig(two_companies()).await;
    rig.cloud.open_session(DEVICE, "ours");
    let theirs = rig.cloud.open_session(THEIR_DEVICE, "theirs");
    let passings = body(&theirs, 1..=2);
    let sent = rig.http.post(format!("{}/passings", rig.cloud.url())).header("x-api-key", THEIR_KEY).json(&passings);
    assert_eq!(answer(sent).await.0, 200);
    for (device, token) in [(THEIR_DEVICE, &*theirs), ("X", "Y")] {
        for (method, path, body) in [
            (Method::GET, format!("/devices/{device}"), Value::Null),
            (Method::DELETE, format!("/devices/{device}"), Value::Null),
            (Method::POST, "/sessions".to_owned(), json!({ "deviceid": device })),
            (Method::PATCH, format!("/sessions/close/{token}"), Value::Null),
            (Method::GET, format!("/sessions/device/{device}"), Value::Null),
            (Method::GET, format!("/sessions/device/{device}/active"), Value::Null),
            (Method::GET, format!("/sessions/{token}"), Value::Null),
            (Method::POST, "/passings".to_owned(), json!({ "token_session": token, "passings_list": [passing(3)] })),
            (Method::GET, format!("/passings/session/{token}"), Value::Null),
            (Method::GET, format!("/passings/device/{device}"), Value::Null),
            (Method::GET, format!("/passings/device2/{device}"), Value::Null),
            (Method::GET, format!("/passings/device2/{DEVICE}?token_session={token}"), Value::Null),
        ] {
            let request = rig.request(method.clone(), &path);
            let request = if body.is_null() { request } else { request.json(&body) };
            assert_eq!(answer(request).await.0, 404, "{method} {path}");
        }
    }
    let (_, value) = rig.get("/devices").await;
    assert_eq!(value["result"].as_array().unwrap().len(), 1);
    assert_eq!(rig.numbers(&theirs), [1, 2]);
    assert!(rig.cloud.sessions(THEIR_DEVICE)[0].active);
    assert_eq!(rig.cloud.violations(), [""; 0]);
}

#[tokio::test]
async fn each_call_needs_the_right_that_the_documents_name() {
    let access = [Access::Read, Access::Write, Access::ReadWrite, Access::WriteUnbind, Access::ReadWriteUnbind];
    for access in access {
        let keys = vec![(KEY.to_owned(), access)];
        let rig = rig(SimCloudConfig { keys, ..Default::default() }).await;
        let reads = matches!(access, Access::Read | Access::ReadWrite | Access::ReadWriteUnbind);
        let unbinds = matches!(access, Access::WriteUnbind | Access::ReadWriteUnbind);
        for api in CALLS {
            let may = match api.method {
                "GET" => reads,
                "DELETE" => unbinds,
                _ => access != Access::Read,
            };
            let path = api.path.replace("{deviceid}", "X").replace("{token_session}", "X");
            let request = rig.request(api.method.parse().unwrap(), &path);
            // What a key may call is refused for another reason: there is no such device.
            let request = if api.method == "POST" { request.json(&body("X", [1])) } else { request };
            let status = answer(request).await.0;
            assert_eq!(status != 403, may, "{access:?}: {} {}: {status}", api.method, api.path);
        }
        let deletes = rig.cloud.violations().iter().filter(|text| text.starts_with("DELETE")).count();
        assert_eq!(deletes, usize::from(!unbinds), "{access:?}: {:?}", rig.cloud.violations());
    }
}

#[tokio::test]
async fn an_unbind_deletes_the_device_its_sessions_and_their_passings_and_nothing_else() {
    let rig = rig(two_companies()).await;
    let request = json!({ "model": "m", "serial_number": "2" });
    let bound = rig.post("/devices", &request).await.1["deviceid"].as_str().unwrap().to_owned();
    let (first, second) = (rig.cloud.open_session(DEVICE, "5K"), rig.cloud.open_session(&bound, "5K"));
    rig.post("/passings", &body(&first, 1..=3)).await;
    rig.post("/passings", &body(&second, 1..=5)).await;
    let (status, value) = answer(rig.request(Method::DELETE, &format!("/devices/{DEVICE}"))).await;
    let said = json!({ "description": "Device unbinded succesfully", "deviceid": DEVICE });
    assert_eq!((status.as_u16(), value), (200, said));
    assert_eq!((rig.cloud.stored(), rig.cloud.sessions(DEVICE).len()), (5, 0));
    for path in [format!("/devices/{DEVICE}"), format!("/sessions/{first}"), format!("/passings/session/{first}")] {
        assert_eq!(rig.get(&path).await.0, 404, "{path}");
    }
    assert_eq!(rig.post("/passings", &body(&first, [4])).await.0, 404);
    assert_eq!(answer(rig.request(Method::DELETE, &format!("/devices/{DEVICE}"))).await.0, 404);
    assert_eq!(rig.numbers(&second), [1, 2, 3, 4, 5]);
    // The next change of the configuration does not bring it back.
    rig.cloud.configure(|config| config.page_size = 10);
    assert_eq!(rig.get(&format!("/devices/{DEVICE}")).await.0, 404);
    assert_eq!(rig.cloud.violations(), [""; 0]);
}

#[tokio::test]
async fn a_bound_serial_number_is_told_in_each_spelling_and_belongs_to_one_company() {
    let rig = rig(two_companies()).await;
    let request = json!({ "model": "m", "serial_number": "2", "alias": "finish", "firmware": "1.0" });
    let (status, bound) = rig.post("/devices", &request).await;
    assert_eq!(status, 201);
    for (spelling, status) in [(Rebind::Conflict, 409), (Rebind::Success, 200)] {
        rig.cloud.configure(|config| config.rebind = spelling);
        let (got, value) = rig.post("/devices", &request).await;
        assert_eq!((got.as_u16(), &value["deviceid"]), (status, &bound["deviceid"]));
        assert_eq!(value["description"] == "Device binded succesfully", spelling == Rebind::Success);
    }
    let theirs = rig.http.post(format!("{}/devices", rig.cloud.url())).header("x-api-key", THEIR_KEY).json(&request);
    let (status, value) = answer(theirs).await;
    assert_eq!(status, 201);
    assert_ne!(value["deviceid"], bound["deviceid"]);
}

#[tokio::test]
async fn a_bind_may_need_a_type_or_refuse_it_as_the_documents_contradict_each_other() {
    let rig = rig(SimCloudConfig::default()).await;
    for (rule, with, without) in
        [(BindType::Optional, 201, 201), (BindType::Required, 201, 400), (BindType::Refused, 400, 201)]
    {
        rig.cloud.configure(|config| config.bind_type = rule);
        let without_type = json!({ "model": "m", "serial_number": format!("{rule:?} without") });
        let with_type = json!({ "type": "CUSTOM_CHRONO", "model": "m", "serial_number": format!("{rule:?} with") });
        assert_eq!(rig.post("/devices", &with_type).await.0, with, "{rule:?}");
        assert_eq!(rig.post("/devices", &without_type).await.0, without, "{rule:?}");
    }
    assert_eq!(rig.cloud.violations(), [""; 0], "a client may try both");
    for wrong in [
        json!({ "model": "m" }),
        json!({ "serial_number": "1" }),
        json!({ "model": "m", "serial_number": "" }),
        json!({ "model": "m", "serial_number": "1", "owner": "me" }),
    ] {
        assert_eq!(rig.post("/devices", &wrong).await.0, 400, "{wrong}");
    }
    assert_eq!(rig.cloud.violations().len(), 4);
}

#[tokio::test]
async fn devices_and_sessions_are_listed_in_pages_of_the_wanted_size() {
    for generation in [Generation::Legacy, Generation::OpenApi] {
        let rig = rig(SimCloudConfig { generation, ..two_companies() }).await;
        rig.cloud.configure(|config| config.devices.extend((0..4).map(|n| (format!("D{n}"), format!("mat {n}")))));
        rig.cloud.put_races(DEVICE, "heat", 5, 12);
        for path in ["/devices".to_owned(), format!("/sessions/device/{DEVICE}")] {
            let mut seen = Vec::new();
            for page in 1..=4 {
                let (status, value) = rig.get(&format!("{path}?page={page}&limit=2")).await;
                assert_eq!(status, 200);
                let value = if generation == Generation::Legacy { value } else { value["body"].clone() };
                let list = value["result"].as_array().unwrap();
                assert_eq!(list.len(), [2, 2, 1, 0][page - 1], "{path}: {value}");
                let told = json!({ "page": page, "limit": 2, "total": 5, "has_more": page < 3 });
                assert_eq!(value.get("pagination"), (generation != Generation::Legacy).then_some(&told));
                let id =
                    |one: &Value| one.get("token_session").unwrap_or(&one["deviceid"]).as_str().unwrap().to_owned();
                seen.extend(list.iter().map(id));
            }
            seen.dedup();
            assert_eq!(seen.len(), 5, "{path}");
            for wrong in ["limit=0", "limit=5001", "page=0", "limit=x", "size=3"] {
                assert_eq!(rig.get(&format!("{path}?{wrong}")).await.0, 400, "{path}: {wrong}");
            }
        }
    }
}

#[tokio::test]
async fn a_list_of_a_device_without_sessions_is_told_in_each_spelling() {
    let rig = rig(SimCloudConfig::default()).await;
    let path = format!("/sessions/device/{DEVICE}");
    for (spelling, status, result) in [
        (NoSession::Empty, 200, Some(json!([]))),
        (NoSession::NotFound, 404, None),
        (NoSession::Null, 200, Some(Value::Null)),
        (NoSession::Absent, 200, None),
        (NoSession::Text, 200, None),
    ] {
        rig.cloud.configure(|config| config.no_sessions = spelling);
        let (got, value) = rig.get(&path).await;
        assert_eq!((got.as_u16(), value.get("result").cloned()), (status, result), "{spelling:?}");
        let told = matches!(spelling, NoSession::NotFound | NoSession::Text);
        assert_eq!(value["description"] == "Sessions not found", told, "{spelling:?}");
    }
}

#[tokio::test]
async fn races_that_are_put_in_are_sessions_like_any_other() {
    let rig = rig(SimCloudConfig::default()).await;
    let tokens = rig.cloud.put_races(DEVICE, "heat", 3, 10_000);
    let sessions = rig.cloud.sessions(DEVICE);
    let told: Vec<_> = sessions.iter().map(|view| (&*view.token, view.active, view.passings)).collect();
    assert_eq!(told, [(&*tokens[0], false, 3334), (&*tokens[1], false, 3333), (&*tokens[2], true, 3333)]);
    assert!(sessions.is_sorted_by_key(|view| view.created_ms));
    assert!(sessions.windows(2).all(|two| two[0].span_ms.unwrap().1 < two[1].span_ms.unwrap().0));
    let (_, value) = rig.get(&format!("/passings/device/{DEVICE}?page=2")).await;
    let list = value["result"].as_array().unwrap();
    assert_eq!((list.len(), &list[0]["token_session"]), (5000, &json!(tokens[1])));
    assert_eq!((&list[0]["num_passing"], &list[0]["chip"]), (&json!(1667), &json!("SIM00167")));
    assert_eq!(rig.post("/passings", &body(&tokens[2], [3334])).await.0, 200);
    assert_eq!(rig.cloud.violations(), [""; 0]);
}
