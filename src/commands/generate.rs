//! `completions` and `man`: what shells and `man` need, made from the definitions of the commands, so
//! that they cannot say anything else. The package ships what they write.

use std::path::{Path, PathBuf};

use clap::{Args, Command, ValueEnum};
use clap_complete::shells::{Bash, Fish, Zsh};
use clap_mangen::Man;

use crate::commands::args::print;
use crate::config::failure::Failure;

/// The name of the program, as it is typed.
const NAME: &str = "passbridge";

/// A shell of a box. Those of other systems would only make the program larger.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shell {
    Bash,
    Fish,
    Zsh,
}

impl Shell {
    fn completions(self, mut program: Command) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Bash => clap_complete::generate(Bash, &mut program, NAME, &mut out),
            Self::Fish => clap_complete::generate(Fish, &mut program, NAME, &mut out),
            Self::Zsh => clap_complete::generate(Zsh, &mut program, NAME, &mut out),
        }
        out
    }
}

/// `completions`
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// `man`
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// The directory, which is made if it is not there. Pages that are there are replaced.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// Writes the completions of `program` to standard output.
///
/// # Errors
/// I/O (74): standard output does not take them.
pub(crate) fn completions(args: &CompletionsArgs, program: Command) -> Result<(), Failure> {
    print(&String::from_utf8_lossy(&args.shell.completions(program)))
}

/// Writes a page for `program` and one for each of its commands, such as `passbridge-session-open.1`.
///
/// # Errors
/// I/O (74): the directory or a page cannot be written.
pub(crate) fn man(args: &ManArgs, program: Command) -> Result<(), Failure> {
    let cannot = |path: &Path, error: &std::io::Error| {
        Failure::io(format!(
            "{} cannot be written: {error}; is there room, and may this user write there?",
            path.display()
        ))
    };
    std::fs::create_dir_all(&args.dir).map_err(|error| cannot(&args.dir, &error))?;
    for (name, page) in pages(program) {
        let path = args.dir.join(name);
        std::fs::write(&path, page).map_err(|error| cannot(&path, &error))?;
    }
    Ok(())
}

/// The pages with the names of their files.
fn pages(program: Command) -> Vec<(String, Vec<u8>)> {
    // The commit is of the program, and would make other pages at each commit.
    let mut program = program.disable_help_subcommand(true).long_version(None::<&'static str>);
    program.build();
    let mut out = Vec::new();
    page(&program, &mut out);
    out
}

fn page(command: &Command, out: &mut Vec<(String, Vec<u8>)>) {
    let man = Man::new(command.clone()).manual("passbridge").source(format!("{NAME} {}", env!("CARGO_PKG_VERSION")));
    let mut page = Vec::new();
    // Writing to a Vec cannot fail.
    let _ = man.render(&mut page);
    // The pages have no date. clap_mangen writes nothing for it, so that the version would be taken for it.
    let title = format!(".TH {} 1 ", man.get_filename().trim_end_matches(".1"));
    let page = String::from_utf8_lossy(&page).replacen(&format!("{title} "), &format!("{title}\"\" "), 1);
    out.push((man.get_filename(), page.into_bytes()));
    command.get_subcommands().filter(|command| !command.is_hide_set()).for_each(|command| self::page(command, out));
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command as Program, Stdio};

    use super::*;
    use crate::cli;

    #[test]
    fn every_command_has_a_page_with_its_name_and_its_flags() {
        let pages = pages(cli::program());
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        for expected in ["passbridge.1", "passbridge-status.1", "passbridge-session-open.1", "passbridge-man.1"] {
            assert!(names.contains(&expected), "{names:?}");
        }
        for (name, page) in &pages {
            let page = String::from_utf8(page.clone()).unwrap();
            let title = format!(".TH {} 1 \"\" \"passbridge ", name.trim_end_matches(".1"));
            for part in [&title, ".SH NAME", ".SH SYNOPSIS", ".SH DESCRIPTION"] {
                assert!(page.contains(part), "{name} has no {part}");
            }
        }
        let status = pages.iter().find(|(name, _)| name == "passbridge-status.1").unwrap();
        let status = String::from_utf8(status.1.clone()).unwrap();
        assert!(status.contains("watch") && status.contains("state") && status.contains("json"), "{status}");
    }

    /// Runs only where mandoc is installed. The test above is what runs everywhere.
    #[test]
    fn mandoc_finds_no_error_in_a_page() {
        let lint = |page: &[u8]| {
            let mut lint = Program::new("mandoc");
            lint.args(["-T", "lint", "-W", "error"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
            let mut lint = lint.spawn().ok()?;
            lint.stdin.take()?.write_all(page).ok()?;
            let done = lint.wait_with_output().ok()?;
            Some((done.status.success(), String::from_utf8_lossy(&done.stdout).into_owned()))
        };
        let Some(bad) = lint(b"no page at all \\fQ\n.XX\n.SH") else { return };
        assert!(!bad.0 || !bad.1.is_empty(), "mandoc takes everything");
        for (name, page) in pages(cli::program()) {
            let (passed, said) = lint(&page).unwrap();
            assert!(passed, "{name}: {said}");
        }
    }

    #[test]
    fn every_shell_gets_a_text_that_knows_the_commands() {
        for shell in Shell::value_variants() {
            let text = String::from_utf8(shell.completions(cli::program())).unwrap();
            for word in ["status", "watch", "held-back", "import-boot"] {
                assert!(text.contains(word), "{shell:?} does not know {word}");
            }
        }
    }
}
