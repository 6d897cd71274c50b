#!/usr/bin/env bash
# What: the crate "config" 0.15.27, a TOML file with a list of tables, and the environment as a
#   second source (prefix APP, separators "_" and "__").
# Expected: a variable can set keys of tables; a list comes from the file alone, so a variable whose
#   name has brackets names no key of it.
# Behaviour: APP_DECODER[0]__ADDRESS changes the address of the first table of the list.
# For us: a variable that reaches into a list is refused by its name before the crate sees it.
set -euo pipefail
version=${1:-0.15.27}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cargo init --quiet --vcs none --name finding "$dir"
cat >"$dir/Cargo.toml" <<EOF
[package]
name = "finding"
version = "0.0.0"
edition = "2021"
[dependencies]
config = { version = "=$version", default-features = false, features = ["toml"] }
EOF
cat >"$dir/src/main.rs" <<'EOF'
fn main() {
    let file = "[[decoder]]\naddress = \"of the file\"\n[[decoder]]\naddress = \"second\"\n";
    let config = config::Config::builder()
        .add_source(config::File::from_str(file, config::FileFormat::Toml))
        .add_source(config::Environment::with_prefix("APP").prefix_separator("_").separator("__"))
        .build()
        .unwrap();
    println!("{}", config.get_string("decoder[0].address").unwrap());
    println!("{}", config.get_array("decoder").unwrap().len());
}
EOF
(cd "$dir" && cargo build --quiet 2>/dev/null)
seen=$(env 'APP_DECODER[0]__ADDRESS=of the environment' "$dir/target/debug/finding")
expected="of the environment
2"
printf 'config %s\n%s\n' "$version" "$seen"
[ "$seen" = "$expected" ] || { printf 'This has changed. Seen before:\n%s\n' "$expected"; exit 1; }
