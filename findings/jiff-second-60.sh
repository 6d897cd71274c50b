#!/usr/bin/env bash
# What: jiff, crate "jiff" 1.0.1, parsing a civil time of day with second 60.
# Expected: a leap second is refused where no leap second is, or it becomes the following second,
#   so that times keep their order.
# Behaviour: second 60 is taken in every minute. It becomes second 59 and keeps its fraction, so
#   12:30:60.5 is read as 12:30:59.5, which is earlier than 12:30:59.7.
# For us: a decoder's stamp with second 60 is rejected before jiff sees it, in every protocol.
set -euo pipefail
version=${1:-1.0.1}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cargo init --quiet --vcs none --name finding "$dir"
cat >"$dir/Cargo.toml" <<EOF
[package]
name = "finding"
version = "0.0.0"
edition = "2021"
[dependencies]
jiff = { version = "=$version", default-features = false, features = ["std"] }
EOF
cat >"$dir/src/main.rs" <<'EOF'
fn main() {
    for text in ["12:30:59.7", "12:30:60.5", "00:00:60"] {
        let time: jiff::civil::Time = text.parse().unwrap();
        println!("{text} -> {time}");
    }
}
EOF
seen=$(cd "$dir" && cargo run --quiet 2>/dev/null)
expected="12:30:59.7 -> 12:30:59.7
12:30:60.5 -> 12:30:59.5
00:00:60 -> 00:00:59"
printf 'jiff %s\n%s\n' "$version" "$seen"
[ "$seen" = "$expected" ] || { printf 'This has changed. Seen before:\n%s\n' "$expected"; exit 1; }
