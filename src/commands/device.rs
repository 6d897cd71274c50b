//! `device`: the timing devices of the account. It lists, shows, binds and unbinds them.
//!
//! Must hold: nothing is unbound unless a person typed which device, or gave the long option, after
//! the command has said what the cloud deletes with it.

use std::path::Path;

use clap::{Args, Subcommand};

use crate::cloud::rufus::account::{Binding, Call};
use crate::cloud::rufus::{Bound, CallError, Device as Known};
use crate::commands::account::table::{self, Cell, Column, Form, column, detail};
use crate::commands::account::{self};
use crate::commands::account::{Account, Progress, counted, failure, is_end, make, name, typed_answer};
use crate::commands::args::{Paths, TimesIn, print};
use crate::commands::{files, machine};
use crate::config::edit::ConfigText;
use crate::config::failure::Failure;
use crate::config::replace::replace;
use crate::daemon::logging;
use crate::model::text::printable;

/// The model of a machine that does not say what it is.
const MODEL: &str = "passbridge";

const COLUMNS: [Column; 14] = [
    column("deviceid", "ID"),
    column("alias", "NAME"),
    column("model", "MODEL"),
    column("serial_number", "SERIAL NUMBER"),
    column("sessions", "SESSIONS"),
    column("passings", "PASSINGS"),
    column("last_seen", "LAST SEEN"),
    column("device_status", "STATUS"),
    column("used_here", "USED HERE"),
    detail("type"),
    detail("firmware"),
    detail("creation_date"),
    detail("battery_percentage"),
    detail("charging"),
];
const BOUND: [Column; 6] = [
    column("deviceid", "ID"),
    column("serial_number", "SERIAL NUMBER"),
    column("model", "MODEL"),
    column("alias", "NAME"),
    detail("bound_before"),
    detail("written_to"),
];
const UNBOUND: [Column; 4] =
    [column("deviceid", "ID"), column("sessions", "SESSIONS"), column("passings", "PASSINGS"), detail("unbound")];

#[derive(Debug, Subcommand)]
pub(crate) enum DeviceCommand {
    /// List the devices of the account.
    List(DevicesArgs),
    /// Show one device. Without ID: the device of the configuration.
    Show(DeviceArgs),
    /// Bind this machine to the account as a device. A serial number that is bound already keeps its
    /// device.
    Bind(BindArgs),
    /// Unbind a device. The cloud deletes all of its sessions and passings.
    Unbind(UnbindArgs),
}

#[derive(Debug, Args)]
struct Shared {
    #[command(flatten)]
    place: Paths,
    #[command(flatten)]
    times: TimesIn,
    #[command(flatten)]
    form: Form,
}

#[derive(Debug, Args)]
pub(crate) struct DevicesArgs {
    #[command(flatten)]
    shared: Shared,
}

#[derive(Debug, Args)]
pub(crate) struct DeviceArgs {
    /// Identity of the device, or at least its last six characters.
    #[arg(value_name = "ID")]
    device: Option<String>,
    #[command(flatten)]
    shared: Shared,
}

#[derive(Debug, Args)]
pub(crate) struct BindArgs {
    /// Name of the device in the cloud.
    #[arg(long, value_name = "NAME", value_parser = name)]
    alias: Option<String>,
    /// Model of the device. Without it what the machine says of itself.
    #[arg(long, value_name = "MODEL", value_parser = name)]
    model: Option<String>,
    /// Write the id into the configuration, as `device_id` of `[cloud]`. Comments and everything else stay.
    #[arg(long)]
    write: bool,
    /// Serial number of the device. Without it that of this machine.
    #[arg(long, value_name = "NUMBER", value_parser = name)]
    serial: Option<String>,
    #[command(flatten)]
    shared: Shared,
}

#[derive(Debug, Args)]
pub(crate) struct UnbindArgs {
    /// Identity of the device, or at least its last six characters.
    #[arg(value_name = "ID")]
    device: String,
    /// Do not ask. All sessions and passings of the device are deleted in the cloud.
    #[arg(long)]
    yes_delete_everything: bool,
    #[command(flatten)]
    shared: Shared,
}

/// Runs the command.
///
/// # Errors
/// As [`failure`] says. Usage (64): the device is not there, or nobody agreed.
pub(crate) async fn run(what: DeviceCommand) -> Result<(), Failure> {
    match what {
        DeviceCommand::List(args) => list(&args.shared).await,
        DeviceCommand::Show(args) => show(args).await,
        DeviceCommand::Bind(args) => bind(args).await,
        DeviceCommand::Unbind(args) => unbind(args).await,
    }
}

async fn list(shared: &Shared) -> Result<(), Failure> {
    let account = Account::load(&shared.place)?;
    let asking = Progress::new("asking the cloud for the devices of the account");
    let listed = asking.over(account.client.devices()).await.map_err(failure)?;
    let rows: Vec<_> = listed.all.iter().map(|device| row(&account, device.id.as_deref(), device)).collect();
    let empty = "the account has no device; `passbridge device bind` makes this machine one";
    print(&table::list(shared.form, &COLUMNS, &rows, &shared.times.shown(), empty)?)?;
    match listed.cut {
        true => Err(Failure::unavailable(format!("the cloud has more devices; the list ends after {}", rows.len()))),
        false => Ok(()),
    }
}

async fn show(args: DeviceArgs) -> Result<(), Failure> {
    let shared = &args.shared;
    let account = Account::load(&shared.place)?;
    let asking = Progress::new("asking the cloud for the device");
    let found = async {
        let id = account.any_device(args.device.as_deref()).await?;
        let device = account.client.device(&id).await.map_err(failure)?;
        Ok::<_, Failure>((id, device))
    };
    let (id, device) = asking.over(found).await?;
    print(&table::one(shared.form, &COLUMNS, &row(&account, Some(&id), &device), &shared.times.shown())?)
}

/// The cells of [`COLUMNS`]. An answer about one device need not name it.
fn row(account: &Account, id: Option<&str>, device: &Known) -> Vec<Cell> {
    vec![
        Cell::Token(id.map(str::to_owned)),
        device.alias.as_deref().into(),
        device.model.as_deref().into(),
        device.serial_number.as_deref().into(),
        Cell::Number(device.sessions),
        Cell::Number(device.passings),
        Cell::Time(device.seen_ms),
        device.status.as_deref().into(),
        Cell::Flag(id.map(|id| account.devices().contains(&id))),
        device.kind.as_deref().into(),
        device.firmware.as_deref().into(),
        Cell::Time(device.created_ms),
        Cell::Number(device.battery),
        Cell::Flag(device.charging),
    ]
}

async fn bind(args: BindArgs) -> Result<(), Failure> {
    let shared = &args.shared;
    let root = Path::new("/");
    let Some(serial_number) = args.serial.clone().or_else(|| machine::serial_number(root)) else {
        return Err(Failure::usage("this machine has no serial number: say one with --serial, and keep to it"));
    };
    let model = args.model.clone().or_else(|| machine::model(root)).unwrap_or_else(|| MODEL.to_owned());
    let account = Account::load(&shared.place)?;
    // A file that cannot be changed is told before anything is bound.
    let text = args.write.then(|| config_text(&shared.place.config)).transpose()?;
    if args.write {
        files::must_take(&shared.place.config)?;
    }
    let binding = Binding { model, serial_number, alias: args.alias.clone() };
    let binding_it = Progress::new("binding the device");
    let Bound { device, before } = binding_it.over(account::bind(&account.client, &binding)).await?;
    let written = text.map(|text| write_id(&shared.place.config, text, &device)).transpose()?;
    if shared.form.json || shared.form.csv {
        let row = [
            Cell::token(&device),
            Some(&*binding.serial_number).into(),
            Some(&*binding.model).into(),
            binding.alias.as_deref().into(),
            Cell::Flag(Some(before)),
            Cell::Text(written.as_ref().map(|_| shared.place.config.display().to_string())),
        ];
        return print(&table::one(shared.form, &BOUND, &row, &shared.times.shown())?);
    }
    let (number, model) = (printable(&binding.serial_number), printable(&binding.model));
    print(&match before {
        true => {
            let kept = match &binding.alias {
                Some(alias) => format!(
                    "the device keeps the name that it has in the cloud: the name \"{}\" was not given to it\n",
                    printable(alias)
                ),
                None => String::new(),
            };
            format!("the serial number {number} was bound before, and keeps its device:\n{device}\n{kept}")
        }
        false => format!("bound, with the serial number {number} and the model {model}:\n{device}\n"),
    })?;
    let file = shared.place.config.display();
    print(&match written {
        Some(Written { old: Some(old), used: true }) if old != *device => format!(
            "{file} names it now, instead of {old}. Restart passbridge to take it over. What was numbered for the old \
             device follows with: passbridge resend --from-device {old} --to-device {device}\n"
        ),
        Some(Written { used: false, .. }) => format!(
            "{file} names it now in [cloud], and nothing goes there: the decoders have a device_id of their own, which counts first\n"
        ),
        Some(_) => format!("{file} names it now. Restart passbridge to take it over\n"),
        None if account.devices().contains(&&*device) => "the configuration names it already\n".to_owned(),
        None => format!(
            "to upload to it: device_id = \"{device}\" in [cloud] of {file}, or the same command with --write\n"
        ),
    })
}

/// Reads the configuration to change it.
fn config_text(file: &Path) -> Result<ConfigText, Failure> {
    let text = std::fs::read_to_string(file);
    let text = text.map_err(|error| Failure::io(format!("{} cannot be read: {error}", file.display())))?;
    Ok(ConfigText::parse(file, &text)?)
}

/// The configuration has the new id.
struct Written {
    /// The id that it had before.
    old: Option<String>,
    /// Reads go to the new device. A decoder may name another one.
    used: bool,
}

/// Writes the id of a device that is bound into the configuration.
fn write_id(file: &Path, mut text: ConfigText, device: &str) -> Result<Written, Failure> {
    let by_hand = format!("The device is bound: write device_id = \"{device}\" into [cloud] by hand");
    let old = text.get("cloud", "device_id").map(str::to_owned);
    text.set("cloud", "device_id", device);
    let text = text.to_string();
    let loaded = files::load(file, &text, true, &files::COMES_LATER).map_err(|errors| {
        let first = errors.first().map(ToString::to_string).unwrap_or_default();
        Failure::config(format!("{first}. {by_hand}"))
    })?;
    let devices = loaded.config.devices();
    // Decoders that come later will use it.
    let used = devices.is_empty() || devices.contains_key(device);
    let written = replace(file, text.as_bytes(), files::config_rights(file));
    written.map_err(|error| Failure::io(format!("{} cannot be written: {error}. {by_hand}", file.display())))?;
    Ok(Written { old, used })
}

/// What the cloud deletes with a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Lost {
    /// `None`: this key may not ask.
    sessions: Option<u64>,
    passings: Option<u64>,
}

impl Lost {
    fn in_words(self) -> String {
        let count = |count: Option<u64>, one: &str| match count {
            None => format!("all of its {one}s"),
            Some(count) => counted(count, one),
        };
        let told = format!("{} and {}", count(self.sessions, "session"), count(self.passings, "passing"));
        match self.sessions {
            Some(_) => told,
            None => format!("{told} (this key may not ask how many)"),
        }
    }
}

async fn unbind(args: UnbindArgs) -> Result<(), Failure> {
    let shared = &args.shared;
    let account = Account::load(&shared.place)?;
    let asking = Progress::new("asking the cloud what it deletes with the device");
    let (id, name, lost) = asking.over(what_is_lost(&account, &args.device)).await?;
    let named = name.map_or(String::new(), |name| format!(" ({})", printable(&name)));
    let here = match account.devices().contains(&&*id) {
        true => " This box uploads to it: its reads stay here then, and wait for another device.",
        false => "",
    };
    logging::say(&format!("unbinding device {id}{named} deletes {} in the cloud, for ever.{here}", lost.in_words()));
    if !args.yes_delete_everything {
        let asked = typed_answer("To go on, type the id of the device, or its last six characters:")?;
        let Some(typed) = asked else {
            let text = "nobody can be asked here: add --yes-delete-everything. Nothing was unbound";
            return Err(Failure::usage(text));
        };
        if !is_end(&id, &typed) {
            return Err(Failure::usage("that is not the id of the device. Nothing was unbound"));
        }
    }
    let unbinding = Progress::new("unbinding the device");
    unbinding.over(unbind_it(&account, &id)).await?;
    if shared.form.json || shared.form.csv {
        let row = [Cell::token(&id), Cell::Number(lost.sessions), Cell::Number(lost.passings), Cell::Flag(Some(true))];
        return print(&table::one(shared.form, &UNBOUND, &row, &shared.times.shown())?);
    }
    print(&format!("device {id} is unbound\n"))
}

/// The device, its name, and what the cloud deletes with it. A key that may only write gets no
/// counts.
async fn what_is_lost(account: &Account, typed: &str) -> Result<(String, Option<Box<str>>, Lost), Failure> {
    let id = account.only_device(typed).await?;
    let device = match account.client.device(&id).await {
        Ok(device) => device,
        Err(CallError::KeyRefused { .. }) => return Ok((id, None, Lost::default())),
        Err(error) => return Err(failure(error)),
    };
    let listed = account.client.sessions(&id).await.map_err(failure)?;
    let counted: Option<u64> = listed.all.iter().map(|info| info.session.passings).sum();
    // The count of the device may be of another moment, so the greater one is told.
    let most = |told: Option<u64>, counted: Option<u64>| told.max(counted);
    let sessions = most(device.sessions, u64::try_from(listed.all.len()).ok());
    Ok((id, device.alias, Lost { sessions, passings: most(device.passings, counted) }))
}

/// Unbinds the device. If the outcome is not known, the cloud is asked whether the device is there.
async fn unbind_it(account: &Account, id: &str) -> Result<(), Failure> {
    let error = match account.client.unbind(id).await {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    match error {
        CallError::KeyRefused { status, answer, .. } => Err(Failure::permission(format!(
            "the cloud does not let this key unbind a device. That takes a WRITE or READ_WRITE key with the right to unbind, \
             which is given where keys are made in the RUFUS Cloud. Nothing was unbound ({status}: {answer})"
        ))),
        error if error.certainly_not_applied() => Err(failure(error)),
        error => match make(Call::Unbind, async || account.client.unbind(id).await).await {
            Ok(()) | Err(CallError::DeviceUnknown { .. }) => Ok(()),
            Err(_) => Err(Failure::unavailable(format!(
                "{error}. Nobody knows whether the device was unbound: `passbridge device list` shows it, and a second unbind \
                 does no harm"
            ))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_deleted_is_told_as_far_as_it_is_known() {
        let lost = |sessions, passings| Lost { sessions, passings }.in_words();
        assert_eq!(lost(Some(3), Some(1)), "3 sessions and 1 passing");
        assert_eq!(lost(Some(0), None), "0 sessions and all of its passings");
        assert!(lost(None, None).contains("may not ask how many"));
    }
}
