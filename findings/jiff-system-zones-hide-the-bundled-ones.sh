#!/usr/bin/env bash
# What: jiff, crate "jiff" 1.0.1, feature "tzdb-bundle-always", on a system whose time zone
#   directory has fewer names than the bundled database (Debian 13 without tzdata-legacy has no
#   US/Eastern). Here TZDIR names such a directory.
# Expected: the program carries all zones, so a name that the system lacks is found in the bundle.
# Behaviour: as soon as the system has any zone, only the system is asked. The name is refused,
#   although jiff::tz::TimeZoneDatabase::bundled() knows it.
# For us: a zone that the system does not know is looked up in the bundled database.
set -euo pipefail
version=${1:-1.0.1}
zones=/usr/share/zoneinfo
[ -e "$zones/Europe/Madrid" ] || { echo "needs the system's time zones (Debian's package tzdata)"; exit 2; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cargo init --quiet --vcs none --name finding "$dir"
mkdir -p "$dir/zones/Europe"
cp -L "$zones/Europe/Madrid" "$dir/zones/Europe/"
cat >"$dir/Cargo.toml" <<EOF
[package]
name = "finding"
version = "0.0.0"
edition = "2021"
[dependencies]
jiff = { version = "=$version", features = ["tzdb-bundle-always"] }
EOF
cat >"$dir/src/main.rs" <<'EOF'
use jiff::tz::{TimeZone, TimeZoneDatabase};

fn main() {
    for name in ["Europe/Madrid", "US/Eastern"] {
        let default = TimeZone::get(name).is_ok();
        let bundled = TimeZoneDatabase::bundled().get(name).is_ok();
        println!("{name}: by default {default}, in the bundle {bundled}");
    }
}
EOF
(cd "$dir" && cargo build --quiet 2>/dev/null)
seen=$(TZDIR="$dir/zones" "$dir/target/debug/finding")
expected="Europe/Madrid: by default true, in the bundle true
US/Eastern: by default false, in the bundle true"
printf 'jiff %s\n%s\n' "$version" "$seen"
[ "$seen" = "$expected" ] || { printf 'This has changed. Seen before:\n%s\n' "$expected"; exit 1; }
