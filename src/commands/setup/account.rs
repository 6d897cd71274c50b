//! The API key and the device: which key, what it may do, and which device gets the passings.

use std::io::{self, IsTerminal, Read};
use std::path::Path;
use std::time::Duration;

use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;
use url::Url;

use super::args::{KEY_VARIABLE, NAME, SetupArgs, URL};
use super::ask::Ask;
use crate::cloud::rufus::account::Binding;
use crate::cloud::rufus::{self, CallError, Client, ClientConfig, Listed};
use crate::commands::account::{Progress, failure, name};
use crate::commands::{files, machine};
use crate::config::edit::ConfigText;
use crate::config::failure::Failure;
use crate::config::{self, KeyHeader};
use crate::model::clock::Wall;
use crate::model::text::{printable, tail};

/// Longest wait for an answer. A person waits for it.
const TIMEOUT: Duration = Duration::from_secs(20);
/// The model of a machine that has no name of its own.
const MODEL: &str = "passbridge";
/// A longer name of a device is cut in the list, because each device has one line there.
const ALIAS_SHOWN: usize = 40;
/// A key has a few dozen characters.
const KEY_LIMIT: u64 = 4096;

/// What is known about the cloud after the questions.
pub(super) struct AccountAnswer {
    pub(super) url: String,
    /// The key, if it is not in its file already.
    pub(super) key: Option<SecretString>,
    pub(super) device: ChosenDevice,
    /// `None`: the cloud was not to be asked.
    pub(super) client: Option<Client>,
}

/// The device that gets the passings.
pub(super) enum ChosenDevice {
    /// The one of the file.
    Kept,
    /// Another one.
    Known(String),
    /// One that is bound at the end.
    New(Binding),
}

/// Asks for key and device. `None`: there is to be no cloud.
pub(super) async fn ask(
    ask: &Ask,
    args: &SetupArgs,
    file: &Path,
    text: &ConfigText,
) -> Result<Option<AccountAnswer>, Failure> {
    if args.no_cloud {
        return Ok(None);
    }
    let url =
        args.url.clone().or_else(|| text.get("cloud", "url").map(str::to_owned)).unwrap_or_else(|| URL.to_owned());
    let had = config::reread_secret(&files::key_file(file, &mut text.clone())).ok().map(|(key, _)| key);
    let mut given = given(args)?;
    loop {
        let (key, is_new) = match (given.take(), &had) {
            (Some(key), _) => (key, true),
            (None, Some(key)) if !ask.attended || ask.yes("Use the API key that is there?", true).await? => {
                (key.clone(), false)
            }
            _ => match typed(ask).await? {
                Some(key) => (key, true),
                None => return Ok(None),
            },
        };
        let new = is_new.then(|| key.clone());
        if args.offline {
            let device = args.device.clone().map_or(ChosenDevice::Kept, ChosenDevice::Known);
            return Ok(Some(AccountAnswer { url, key: new, device, client: None }));
        }
        let client = client(&url, key, text)?;
        match listed(ask, &client, &url).await {
            Ok(devices) => {
                ask.say("The key may read. Whether it may also write shows with the first passing: its access type must be READ_WRITE.");
                let device = device(ask, args, text, &client, &devices).await?;
                return Ok(Some(AccountAnswer { url, key: new, device, client: Some(client) }));
            }
            Err(error @ CallError::KeyRefused { .. }) if ask.attended => ask.say(&refused(&error)),
            Err(error @ CallError::KeyRefused { .. }) => return Err(Failure::permission(refused(&error))),
            Err(error) => return Err(failure(error)),
        }
    }
}

/// The key that a flag or the environment gives.
fn given(args: &SetupArgs) -> Result<Option<SecretString>, Failure> {
    let checked = |bytes: &[u8], from: &str| {
        config::secret_of(bytes).map(Some).map_err(|why| Failure::data(format!("no API key from {from}: {why}")))
    };
    if let Some(file) = &args.key_file {
        let shown = file.display().to_string();
        let (key, _) = config::reread_secret(file).map_err(|why| match why.kind {
            io::ErrorKind::InvalidData => Failure::data(format!("no API key in {shown}: {why}")),
            _ => Failure::io(format!("no API key in {shown}: {why}")),
        })?;
        return Ok(Some(key));
    }
    if args.key_stdin {
        let stdin = io::stdin();
        if stdin.is_terminal() {
            return Err(Failure::usage(
                "--key-stdin takes the key from a pipe or a file; at a terminal leave it out, and the key is asked for and not shown",
            ));
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_LIMIT as usize + 1));
        let read = stdin.lock().take(KEY_LIMIT + 1).read_to_end(&mut bytes);
        read.map_err(|error| Failure::io(format!("standard input cannot be read: {error}")))?;
        return checked(&bytes, "standard input");
    }
    match std::env::var(KEY_VARIABLE).map(Zeroizing::new) {
        Ok(text) => checked(text.as_bytes(), KEY_VARIABLE),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(Failure::data(format!("{KEY_VARIABLE} is no text"))),
    }
}

/// Asks for the key until one could be one. `None`: there is to be no cloud.
async fn typed(ask: &Ask) -> Result<Option<SecretString>, Failure> {
    use secrecy::ExposeSecret;
    loop {
        let Some(key) = ask.secret("API key of the RUFUS Cloud (it is not shown; Enter alone: no cloud yet)").await?
        else {
            return Ok(None);
        };
        match config::secret_of(key.expose_secret().as_bytes()) {
            Ok(key) => return Ok(Some(key)),
            Err(_) => ask.say("That is more than one word. A key is one word, such as ror- and 20 letters and digits."),
        }
    }
}

fn client(url: &str, key: SecretString, text: &ConfigText) -> Result<Client, Failure> {
    let wrong = |what: String| Failure::usage(format!("the address of the cloud, {}: {what}", printable(url)));
    let address = Url::parse(url).map_err(|error| wrong(format!("{error}; it looks like {URL}")))?;
    if !matches!(address.scheme(), "http" | "https") || !address.username().is_empty() || address.password().is_some() {
        return Err(Failure::usage(format!("the address of the cloud must look like {URL}, without a user in it")));
    }
    let header = match text.get("cloud", "header") {
        Some("x-api-key") => KeyHeader::XApiKey,
        Some("api_key") => KeyHeader::ApiKey,
        _ => KeyHeader::Both,
    };
    let config = ClientConfig { url: address, key, header, timeout: TIMEOUT, clock: Wall::default() };
    Client::new(config).map_err(|error| Failure::usage(error.to_string()))
}

/// The devices of the account. While the cloud does not answer, a person may try again.
async fn listed(ask: &Ask, client: &Client, url: &str) -> Result<Listed<rufus::Device>, CallError> {
    loop {
        let listed = Progress::new("asking the cloud for its devices").over(client.devices()).await;
        match listed {
            Err(error) if ask.attended && !matches!(error, CallError::KeyRefused { .. }) => {
                ask.say(&format!("{}: {}", printable(url), printable(&error.to_string())));
                if !ask.yes("Try again?", true).await.unwrap_or(false) {
                    return Err(error);
                }
            }
            listed => return listed,
        }
    }
}

/// What to do about a key that the cloud refuses. A key that may only write is refused in the same
/// way as one that does not exist.
fn refused(error: &CallError) -> String {
    format!(
        "{}. A key of the access type WRITE is refused here, too: passbridge asks the cloud for the active session. Make a key with \
         the access type READ_WRITE in the web pages of the RUFUS Cloud, and copy the whole of it",
        printable(&error.to_string())
    )
}

async fn device(
    ask: &Ask,
    args: &SetupArgs,
    text: &ConfigText,
    client: &Client,
    devices: &Listed<rufus::Device>,
) -> Result<ChosenDevice, Failure> {
    if let Some(id) = &args.device {
        let known = devices.all.iter().any(|device| device.id.as_deref() == Some(id));
        if !known {
            // The list may be cut, and a device of another company is not there at all.
            client.device(id).await.map_err(failure)?;
        }
        return Ok(ChosenDevice::Known(id.clone()));
    }
    if args.bind {
        return binding(ask, args, text).await.map(ChosenDevice::New);
    }
    if !ask.attended {
        return Ok(ChosenDevice::Kept);
    }
    let now = text.get("cloud", "device_id");
    let with_id = devices.all.iter().filter_map(|device| Some((device.id.as_deref()?, device)));
    let known: Vec<_> = with_id.collect();
    let mut items: Vec<String> = known.iter().map(|(id, device)| shown(id, device)).collect();
    items.extend(["Bind this box as a new device".to_owned(), "Type the id of a device".to_owned()]);
    let default = known.iter().position(|(id, _)| Some(*id) == now).unwrap_or(0);
    let chosen = ask.choose("Device that gets the passings", items, default).await?;
    if let Some((id, _)) = known.get(chosen) {
        return Ok(if Some(*id) == now { ChosenDevice::Kept } else { ChosenDevice::Known((*id).to_owned()) });
    }
    if chosen == known.len() {
        return binding(ask, args, text).await.map(ChosenDevice::New);
    }
    let default = now.map(str::to_owned);
    loop {
        let check = |typed: &str| config::device_id(typed).map(|_| ());
        let id = ask.line("Id of the device, as its page in the RUFUS Cloud shows it", default.clone(), check).await?;
        match client.device(&id).await {
            Ok(_) => return Ok(ChosenDevice::Known(id)),
            Err(error @ CallError::DeviceUnknown { .. }) => ask.say(&printable(&error.to_string())),
            Err(error) => return Err(failure(error)),
        }
    }
}

/// A device as a line of the list.
fn shown(id: &str, device: &rufus::Device) -> String {
    let alias = printable(device.alias.as_deref().unwrap_or("without a name"));
    let alias = match alias.chars().count() > ALIAS_SHOWN {
        true => alias.chars().take(ALIAS_SHOWN).chain("…".chars()).collect(),
        false => alias,
    };
    let sessions = match device.sessions {
        None => String::new(),
        Some(1) => ", 1 session".to_owned(),
        Some(count) => format!(", {count} sessions"),
    };
    format!("{alias} (id …{}{sessions})", printable(&tail(id)))
}

/// What this box is bound with.
async fn binding(ask: &Ask, args: &SetupArgs, text: &ConfigText) -> Result<Binding, Failure> {
    let root = Path::new("/");
    let of_the_box = args.name.clone().or_else(|| text.get("", "name").map(str::to_owned));
    let of_the_box = of_the_box.unwrap_or_else(|| NAME.to_owned());
    let own = args.serial.clone().or_else(|| machine::serial_number(root));
    let is_name = |typed: &str| name(typed).map(|_| ());
    let (alias, serial_number) = match ask.attended && !args.bind {
        true => {
            let alias = ask.line("Name of the new device", Some(of_the_box), is_name).await?;
            (alias, ask.line("Its serial number", own, is_name).await?)
        }
        false => {
            let missing =
                "this machine has no serial number: say one with --serial NUMBER, and always the same for this box";
            let serial = own.filter(|serial| !serial.trim().is_empty()).ok_or_else(|| Failure::usage(missing))?;
            (args.alias.clone().unwrap_or(of_the_box), serial)
        }
    };
    let model = args.model.clone().or_else(|| machine::model(root)).unwrap_or_else(|| MODEL.to_owned());
    Ok(Binding { model, serial_number, alias: Some(alias) })
}
