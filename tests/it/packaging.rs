//! The package of Debian: what `systemd/package` packs agrees with the rest of the repository. That the package installs is seen
//! by hand (docs/evidence/packages.md).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap()
}

fn metadata() -> toml_edit::Table {
    let manifest: toml_edit::DocumentMut = read("Cargo.toml").parse().unwrap();
    manifest["package"]["metadata"]["deb"].as_table().unwrap().clone()
}

fn texts(value: &toml_edit::Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

/// The scripts that dpkg runs, by their path.
fn maintainer_scripts() -> Vec<PathBuf> {
    let names = ["preinst", "postinst", "prerm", "postrm"].map(|name| root().join("systemd/deb").join(name));
    names.into_iter().filter(|script| script.exists()).collect()
}

#[test]
fn one_version_is_in_the_manifest_in_the_changelog_and_in_that_of_debian() {
    let version = env!("CARGO_PKG_VERSION");
    let debian = read("systemd/deb/changelog");
    let revision = metadata()["revision"].as_str().unwrap().to_owned();
    let newest = format!("passbridge ({version}-{revision}) ");
    assert!(debian.starts_with(&newest), "systemd/deb/changelog does not begin with {newest:?}");
    let ours = read("CHANGELOG.md");
    let sections: Vec<&str> =
        ours.lines().filter_map(|line| line.strip_prefix("## ")?.split_whitespace().next()).collect();
    assert_eq!(sections.first(), Some(&version), "the newest section of CHANGELOG.md");
    // Each released version is in both.
    let entries: Vec<&str> = debian
        .lines()
        .filter_map(|line| line.strip_prefix("passbridge (")?.split_once(')'))
        .map(|(entry, _)| entry.rsplit_once('-').map_or(entry, |(upstream, _)| upstream))
        .collect();
    for section in sections {
        assert!(entries.contains(&section), "{section} of CHANGELOG.md is not in systemd/deb/changelog");
    }
}

/// cargo-deb puts what enables and starts the units in the place of the token. Without the token it refuses, or leaves it out.
#[test]
fn maintainer_scripts_have_the_token_and_the_shell_understands_them() {
    let scripts = maintainer_scripts();
    assert_eq!(scripts.len(), 3);
    for script in scripts {
        let text = fs::read_to_string(&script).unwrap();
        let name = script.display();
        assert!(text.starts_with("#!/bin/sh\nset -e\n"), "{name}");
        assert_eq!(text.lines().filter(|line| *line == "#DEBHELPER#").count(), 1, "{name}");
        let checked = Command::new("sh").arg("-n").arg(&script).output().unwrap();
        assert!(checked.status.success(), "{name}: {}", String::from_utf8_lossy(&checked.stderr));
    }
}

#[test]
fn a_raspberry_pi_with_armv6_is_refused_before_anything_is_installed() {
    let install = |package: &str, machine: &str| {
        let script = root().join("systemd/deb/preinst");
        let text = format!("uname() {{ echo {machine}; }}; set -- install; . {}", script.display());
        Command::new("sh").arg("-c").arg(text).env("DPKG_MAINTSCRIPT_ARCH", package).output().unwrap()
    };
    let refused = install("armhf", "armv6l");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("ARMv7") && said.contains("armv6l"), "{said}");
    // A 32-bit kernel says armv7l, or armv8l on a newer processor; a 64-bit one says aarch64.
    for (package, machine) in
        [("armhf", "armv7l"), ("armhf", "armv8l"), ("armhf", "aarch64"), ("arm64", "aarch64"), ("amd64", "x86_64")]
    {
        let output = install(package, machine);
        assert!(output.status.success() && output.stderr.is_empty(), "{package} on {machine}");
    }
}

/// A file below /etc would be one that apt asks about, and a unit that waits for the configuration would not say that the box is
/// not set up.
#[test]
fn the_package_has_what_it_names_and_no_file_that_apt_asks_about() {
    let deb = metadata();
    for asset in deb["assets"].as_array().unwrap() {
        let [source, dest, _mode] = texts(asset)[..] else { panic!("{asset}") };
        assert!(dest.starts_with("usr/"), "{dest}");
        let (dir, name) = source.rsplit_once('/').unwrap_or((".", source));
        let matches = |file: &str| match name.split_once('*') {
            Some((before, after)) => file.starts_with(before) && file.ends_with(after),
            None => file == name,
        };
        if !source.starts_with("target/release/") {
            let found = fs::read_dir(root().join(dir)).unwrap();
            assert!(
                found.map(|entry| entry.unwrap().file_name().into_string().unwrap()).any(|file| matches(&file)),
                "{source}"
            );
        }
    }
    for units in deb["systemd-units"].as_array().unwrap() {
        let name = units.as_inline_table().unwrap()["unit-name"].as_str().unwrap();
        let unit = read(&format!("systemd/{name}.service"));
        assert!(!unit.contains("ConditionPathExists=/etc"), "{name}");
    }
    for script in maintainer_scripts() {
        let text = fs::read_to_string(script).unwrap();
        let does = |line: &&str| !line.trim_start().starts_with("echo ");
        assert!(
            !text.lines().filter(does).any(|line| line.contains("rm -r")),
            "it removes a directory with what is in it"
        );
    }
}

/// The unit is the same for a package and for what is installed by hand, and both make the same user.
#[test]
fn the_service_runs_as_the_user_that_the_package_makes() {
    let unit = read("systemd/passbridge.service");
    let has = |line: &str| unit.lines().any(|it| it == line);
    let is_dynamic = unit.lines().any(|line| line.starts_with("DynamicUser="));
    assert!(has("User=passbridge") && has("Group=passbridge") && !is_dynamic);
    let users = read("systemd/deb/passbridge.sysusers");
    assert!(users.lines().any(|line| line.starts_with("u passbridge -")));
    assert!(users.lines().any(|line| line == "m passbridge dialout"));
    for file in ["systemd/deb/passbridge.sysusers", "systemd/deb/passbridge.tmpfile"] {
        let assets = metadata()["assets"].as_array().unwrap().clone();
        let dest = assets.iter().map(texts).find(|asset| asset[0] == file).map(|asset| asset[1].to_owned());
        assert!(dest.is_some_and(|dest| dest.ends_with("/passbridge.conf")), "{file}: cargo-deb goes by its name");
    }
}
