//! The cloud as this key and these devices see it. The check only asks questions, and creates and
//! sends nothing.

use super::report::{CheckReport, CheckVerdict};
use crate::cloud::rufus::{CallError, Client, ClientConfig};
use crate::config::{CloudConfig, Config, SessionMode};
use crate::model::clock::Wall;

/// Asks about every device to which passings are sent: whether it exists, and its active session.
pub(super) async fn cloud(config: &Config, report: &mut CheckReport) {
    let Some(cloud) = &config.cloud else { return };
    let Some(key) = cloud.api_key.clone() else { return }; // reported already
    let client = Client::new(ClientConfig {
        url: cloud.url.clone(),
        key,
        header: cloud.header,
        timeout: config.upload.timeout,
        clock: Wall::default(),
    });
    let client = match client {
        Ok(client) => client,
        Err(error) => return report.wrong("cloud", "", error.to_string()),
    };
    let mut devices: Vec<&str> = config.devices().into_keys().collect();
    if devices.is_empty() {
        devices.extend(cloud.device_id.as_deref()); // decoders that come later use it
    }
    for device in devices {
        match client.device(device).await {
            Ok(found) => {
                let alias = found.alias.as_deref().unwrap_or("without a name");
                report.ok("device", device, format!("{alias}; the key may read it"));
                session(&client, cloud, device, report).await;
            }
            Err(error) => {
                failed("device", device, &error, report);
                if error.is_offline() {
                    return; // the next device would only wait for the same time
                }
            }
        }
    }
}

async fn session(client: &Client, cloud: &CloudConfig, device: &str, report: &mut CheckReport) {
    match (client.active_session(device).await, cloud.session) {
        (Ok(Some(session)), _) => {
            let alias = session.alias.as_deref().unwrap_or("without a name");
            report.ok("session", device, format!("{alias} is active"));
        }
        (Ok(None), SessionMode::Create) => report.ok("session", device, "none is active; passbridge will open one"),
        (Ok(None), SessionMode::Active) => {
            let text = "none is active. To open one: sudo passbridge session open --alias NAME (or in the RUFUS Cloud, or set \
                        [cloud] session = \"create\")";
            report.add(CheckVerdict::Warn, "session", device, text);
        }
        (Err(error), _) => failed("session", device, &error, report),
    }
}

fn failed(check: &'static str, device: &str, error: &CallError, report: &mut CheckReport) {
    match error {
        // The cloud was reached and refused, so the key or the device must be changed here.
        CallError::KeyRefused { .. } | CallError::DeviceUnknown { .. } => {
            report.wrong(check, device, error.to_string())
        }
        _ => report.unreachable(check, device, error.to_string()),
    }
}
