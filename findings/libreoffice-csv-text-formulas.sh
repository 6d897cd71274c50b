#!/usr/bin/env bash
# What: LibreOffice Calc 7.4 (Debian 12: libreoffice-calc), opening a CSV whose fields are formulas that
#   are nothing but text, ="0012E5": the usual way to keep leading zeros and to run nothing.
# Expected: the cell shows 0012E5, as in Excel, however LibreOffice is told to open the file. And a file
#   that begins with the byte order mark of UTF-8 is read as UTF-8.
# Behaviour: with "Evaluate formulas" off the cell shows ="0012E5", quotes and all. That is how the
#   dialog has it at first (EvaluateFormulas in share/registry/main.xcd: false), while a conversion
#   without that option evaluates. And a conversion without a filter reads the file as Latin-1, the
#   mark included.
# For us: `export --spreadsheet` writes such fields, and the documents say which box to tick. Nothing is
#   lost or run either way; tests/it/spreadsheet.rs tries both.
# It takes the soffice of the system (apt-get install libreoffice-calc): the package is too large to be
# installed in a temporary folder. Its profile is in one.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
printf '\xef\xbb\xbfchip\r\n"=""0012E5"""\r\n' >"$dir/table.csv"
cell() { # how the file is opened, in arguments; the cells as they are shown, line by line
    rm -rf "$dir/out"
    soffice "-env:UserInstallation=file://$dir/profile" --headless "$@" --convert-to xlsx \
        --outdir "$dir/out" "$dir/table.csv" >/dev/null 2>&1
    soffice "-env:UserInstallation=file://$dir/profile" --headless \
        --convert-to "csv:Text - txt - csv (StarCalc):44,34,76" --outdir "$dir/out" "$dir/out/table.xlsx" >/dev/null 2>&1
    tr '\n' ' ' <"$dir/out/table.csv"
}
seen="by default:    $(cell --infilter=CSV:44,34,76,1)
not evaluated: $(cell --infilter=CSV:44,34,76,1,,0,false,false,true,false,false,0,false)
evaluated:     $(cell --infilter=CSV:44,34,76,1,,0,false,false,true,false,false,0,true)
no filter:     $(cell)
the dialog:    $(tr -d '\n' <"$(dirname "$(readlink -f "$(command -v soffice)")")/../share/registry/main.xcd" |
    grep -o 'oor:name="CSVImport".*' | grep -o 'EvaluateFormulas"[^/]*<value>[a-z]*' | head -1 | grep -o '[a-z]*$')"
mark=$'\xc3\xaf\xc2\xbb\xc2\xbf'
bom=$'\xef\xbb\xbf'
expected="by default:    chip 0012E5 
not evaluated: chip \"=\"\"0012E5\"\"\" 
evaluated:     chip 0012E5 
no filter:     ${mark}chip 0012E5 
the dialog:    false"
seen=${seen//"$bom"/}
printf '%s\n%s\n' "$(soffice --version)" "$seen"
[ "$seen" = "$expected" ] || { printf 'This has changed. Seen before:\n%s\n' "$expected"; exit 1; }
