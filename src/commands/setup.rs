//! `setup`: from nothing to a box that reads. It asks for the key, the device, the decoders and their
//! zone, writes the configuration and the key, checks them, and starts the service.
//!
//! What must hold:
//! * **Nothing changes before the last answer.** Questions first, then a binding in the cloud if one
//!   is wanted, then the two files, the key before the configuration. Ctrl-C before that leaves the
//!   box as it was.
//! * **Only what was answered changes.** Every other key of the file and every comment stays.
//! * **What is written is a right configuration.** The text is loaded before it is written.
//! * **Each question has a flag.** Without a terminal nothing is asked, and a missing answer ends the
//!   command with the names of all flags that are missing.
//! * **The key is in no argument.** It is typed without being shown, or comes from a file, from
//!   standard input or from the environment.
//!
//! Rejected: proving the right to write with a request that is wrong on purpose. No document says that
//! it would change nothing.

mod account;
mod args;
mod ask;
mod decoders;
mod service;

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};

use self::account::{AccountAnswer, ChosenDevice};
use self::args::NAME;
pub(crate) use self::args::SetupArgs;
use self::ask::{Ask, Terminal};
use crate::cloud::rufus::Client;
use crate::cloud::rufus::account::Binding;
use crate::commands::check::{self, CheckArgs};
use crate::commands::{account as cloud_account, files};
use crate::config;
use crate::config::edit::ConfigText;
use crate::config::failure::Failure;
use crate::config::replace::replace;
use crate::model::text::printable;

const DATA_DIR: &str = "/var/lib/passbridge";
/// Stands for the id of a device that is bound only after everything else was checked.
const TO_BE_BOUND: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Sets the box up.
///
/// # Errors
/// 64: an answer is missing, or one that was given fits nothing. 65: the key cannot be one, or nothing
/// is recognised at an address. 69: the cloud or a decoder does not answer. 74 and 77: the files cannot be written. 77: the cloud
/// refuses the key. 78: the file that is there has a mistake. If the check at the end finds something,
/// its exit code. 130: Ctrl-C.
pub(crate) async fn run(args: SetupArgs) -> Result<(), Failure> {
    let terminal = Terminal::of_this_process();
    let attended = !args.no_input && io::stdin().is_terminal() && io::stderr().is_terminal();
    let setup = Setup { file: absolute(&args.config)?, ask: Ask { attended }, args };
    let plan = terminal.unless_interrupted(setup.plan(), "Nothing was changed.").await?;
    let Some(plan) = plan else {
        setup.ask.say("Nothing was changed.");
        return Ok(());
    };
    let bound = "Nothing was changed here. A device may have been bound in the cloud; the next try finds it again.";
    let plan = terminal.unless_interrupted(setup.bind(plan), bound).await?;
    setup.write(&plan)?;
    let done = "The configuration is written.";
    terminal.unless_interrupted(setup.check_and_start(), done).await
}

/// A path from the command line as the files and the service can use it.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

struct Setup {
    args: SetupArgs,
    /// The configuration file.
    file: PathBuf,
    ask: Ask,
}

/// Everything that is to be written.
struct Plan {
    text: ConfigText,
    /// The key and its file, if it is new.
    key: Option<(PathBuf, SecretString)>,
    /// A device that is to be bound first.
    bind: Option<(Client, Binding)>,
}

impl Setup {
    /// Asks for everything. `None`: the person does not want it written.
    async fn plan(&self) -> Result<Option<Plan>, Failure> {
        self.must_be_writable()?;
        let (mut text, is_new) = self.text()?;
        self.must_be_answered(&mut text.clone())?;
        if is_new {
            self.ask
                .say(&format!("{} is new. Ctrl-C ends this at any time, and nothing is changed.", self.file.display()));
        } else {
            self.ask.say(&format!("{} is there; what you do not change stays as it is.", self.file.display()));
        }
        self.set_names(&mut text, is_new)?;
        let answer = account::ask(&self.ask, &self.args, &self.file, &text).await?;
        let (mut key, mut bind) = (None, None);
        if let Some(AccountAnswer { url, key: new, device, client }) = answer {
            if text.get("cloud", "url") != Some(&url) {
                text.set("cloud", "url", &url);
            }
            match device {
                ChosenDevice::Kept => {}
                ChosenDevice::Known(id) => text.set("cloud", "device_id", &id),
                ChosenDevice::New(binding) => {
                    text.set("cloud", "device_id", TO_BE_BOUND);
                    bind = client.map(|client| (client, binding));
                }
            }
            let file = files::key_file(&self.file, &mut text);
            key = new.map(|key| (file, key));
        }
        decoders::ask(&self.ask, &self.args, &mut text).await?;
        let loaded =
            files::load(&self.file, &text.to_string(), true, &files::COMES_LATER).map_err(|wrong| told(&wrong))?;
        loaded.warnings.iter().for_each(|warning| self.ask.say(&format!("Note: {warning}")));
        let plan = Plan { text, key, bind };
        if self.ask.attended && !self.confirm(&plan, &loaded.config).await? {
            return Ok(None);
        }
        Ok(Some(plan))
    }

    /// The text of the file, and whether there is none yet. A mistake in it is to be corrected first,
    /// because nobody can say what a change would make of it.
    fn text(&self) -> Result<(ConfigText, bool), Failure> {
        let text = match std::fs::read_to_string(&self.file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((ConfigText::new(), true)),
            Err(error) => return Err(Failure::io(format!("{} cannot be read: {error}", self.file.display()))),
        };
        files::load(&self.file, &text, true, &files::COMES_LATER)
            .map_err(|wrong| Failure::config(format!("{}. Correct this first; nothing was changed", lines(&wrong))))?;
        Ok((ConfigText::parse(&self.file, &text)?, false))
    }

    fn must_be_writable(&self) -> Result<(), Failure> {
        let nearest = self.file.ancestors().skip(1).find(|dir| dir.exists()).unwrap_or(Path::new("/"));
        access(nearest, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| {
            Failure::permission(format!(
                "this user may not write in {} ({error}): run it with sudo, or name another file with --config",
                nearest.display()
            ))
        })
    }

    /// Without a terminal, every answer without a default must have its flag.
    fn must_be_answered(&self, text: &mut ConfigText) -> Result<(), Failure> {
        if self.ask.attended {
            return Ok(());
        }
        let mut missing = Vec::new();
        if !self.args.no_cloud {
            let key_file = files::key_file(&self.file, text);
            if !self.args.has_key() && config::reread_secret(&key_file).is_err() {
                missing.push("the API key: --key-file FILE, --key-stdin, or the environment variable PASSBRIDGE__CLOUD__API_KEY (or --no-cloud)");
            }
            if self.args.device.is_none() && !self.args.bind && !text.has("cloud") {
                missing.push("the device: --device ID or --bind (or --no-cloud)");
            }
        }
        if self.args.decoders.is_empty() && !self.args.no_decoder && !text.has("decoder") {
            missing.push("the decoders: --decoder ADDRESS (or --no-decoder)");
        }
        match missing.is_empty() {
            true => Ok(()),
            false => Err(Failure::usage(format!(
                "there is no terminal to ask at, and these answers are missing: {}",
                missing.join("; ")
            ))),
        }
    }

    fn set_names(&self, text: &mut ConfigText, is_new: bool) -> Result<(), Failure> {
        if let Some(name) = self.args.name.as_deref().or(is_new.then_some(NAME)) {
            text.set("", "name", name);
        }
        if let Some(dir) = &self.args.data_dir {
            let dir = absolute(dir)?;
            let shown = dir.to_str().ok_or_else(|| Failure::usage("--data-dir must be UTF-8 text"))?;
            text.set("", "data_dir", shown);
        } else if is_new {
            text.set("", "data_dir", DATA_DIR);
        }
        Ok(())
    }

    /// Shows what will be written.
    async fn confirm(&self, plan: &Plan, config: &config::Config) -> Result<bool, Failure> {
        let mut lines = vec![format!("\nTo be written into {}:", self.file.display())];
        match &config.cloud {
            Some(cloud) => {
                let device = match (&plan.bind, &cloud.device_id) {
                    (Some((_, binding)), _) => format!("a new device with the serial number {}", binding.serial_number),
                    (None, Some(id)) => format!("device {id}"),
                    (None, None) => "the devices of the decoders".to_owned(),
                };
                lines.push(format!("  cloud    {} to {device}", cloud.url));
            }
            None => lines.push("  cloud    none: reads are kept on this box".to_owned()),
        }
        for decoder in &config.decoders {
            let zone = decoder.timezone.iana_name().unwrap_or("UTC");
            let (name, protocol, address) = (&decoder.name, decoder.protocol.name, &decoder.address);
            lines.push(format!("  decoder  {name}: {protocol} at {address}, its clock in {zone}"));
        }
        if config.decoders.is_empty() {
            lines.push("  decoder  none yet".to_owned());
        }
        lines.push(format!("  reads    are kept in {}", config.data_dir.display()));
        if let Some((file, _)) = &plan.key {
            lines.push(format!("  and the API key into {}", file.display()));
        }
        lines.iter().for_each(|line| self.ask.say(&printable_lines(line)));
        self.ask.yes("Write this?", true).await
    }

    /// Binds the device, if one is to be bound, and puts its id into the text.
    async fn bind(&self, mut plan: Plan) -> Result<Plan, Failure> {
        let Some((client, binding)) = &plan.bind else { return Ok(plan) };
        let key_file = plan.key.as_ref().map(|(file, _)| file);
        [&self.file].into_iter().chain(key_file).try_for_each(|file| files::must_take(file))?;
        let bound = cloud_account::bind(client, binding).await?;
        let which = if bound.before { "This serial number was bound before, as" } else { "Bound a new device:" };
        self.ask.say(&format!("{which} {}", printable(&bound.device)));
        if let (true, Some(alias)) = (bound.before, &binding.alias) {
            let kept = "The device keeps the name that it has in the cloud. The name";
            self.ask.say(&format!("{kept} \"{}\" was not given to it.", printable(alias)));
        }
        plan.text.set("cloud", "device_id", &bound.device);
        // The cloud chose the id, and it is a part of an address later.
        files::load(&self.file, &plan.text.to_string(), true, &files::COMES_LATER).map_err(|wrong| told(&wrong))?;
        Ok(plan)
    }

    /// Writes the key, and then the configuration. If the power fails in between, the old
    /// configuration has the new key.
    fn write(&self, plan: &Plan) -> Result<(), Failure> {
        if let Some((file, key)) = &plan.key {
            let text = Zeroizing::new(format!("{}\n", key.expose_secret()));
            replace(file, text.as_bytes(), files::key_rights(file))
                .map_err(|error| files::cannot_write(file, &error))?;
            self.ask.say(&format!("Wrote {}", file.display()));
        }
        let text = plan.text.to_string();
        if std::fs::read_to_string(&self.file).is_ok_and(|old| old == text) {
            self.ask.say(&format!("{} stays as it is", self.file.display()));
            return Ok(());
        }
        replace(&self.file, text.as_bytes(), files::config_rights(&self.file))
            .map_err(|error| files::cannot_write(&self.file, &error))?;
        self.ask.say(&format!("Wrote {}", self.file.display()));
        Ok(())
    }

    async fn check_and_start(&self) -> Result<(), Failure> {
        let checked = match self.args.no_check || self.args.offline {
            true => Ok(()),
            false => {
                self.ask.say("\nChecking, as `passbridge check --connect` does:");
                self.ask.flush();
                check::run(CheckArgs::after_setup(&self.file, self.args.timezone.clone())).await
            }
        };
        service::offer(&self.ask, &self.args, &self.file).await?;
        checked
    }
}

fn lines(wrong: &[config::ConfigError]) -> String {
    wrong.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// The failure for answers that make no right configuration.
fn told(wrong: &[config::ConfigError]) -> Failure {
    Failure::usage(format!("this would be no right configuration, so nothing was changed: {}", lines(wrong)))
}

/// [`printable`], but lines stay lines.
fn printable_lines(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}
