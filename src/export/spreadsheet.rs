//! A table that a spreadsheet leaves as it is.
//!
//! A spreadsheet that opens a CSV file guesses: chip `0012E5` becomes the number 1200000,
//! `00012345` becomes 12345, the end of 18 digits is lost, a time becomes a date that keeps
//! hundredths only, and a field that begins with `=`, `+`, `-` or `@` is run as a formula. No
//! quoting prevents that. So each text is written as the one formula that is nothing but that text,
//! `="0012E5"`, which LibreOffice, Excel and Gnumeric show as it is. Numbers that they keep stay
//! numbers. In a LibreOffice that is told to evaluate no formula, which its dialog is at first, the
//! text is whole inside the formula; the documents say which box to tick.
//!
//! Not chosen: an apostrophe in front, which stays visible and becomes a part of the chip.

/// Excel takes no longer text within a formula.
const PIECE: usize = 250;
/// Digits that a spreadsheet keeps.
const DIGITS: usize = 15;

/// The file begins with it, so that Excel reads UTF-8.
pub(super) const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// A field that must stay text.
pub(super) fn text(value: &str) -> String {
    if value.is_empty() {
        return String::new();
    }
    let clean: Vec<char> = value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let quoted = |piece: &[char]| format!("\"{}\"", piece.iter().collect::<String>().replace('"', "\"\""));
    format!("={}", clean.chunks(PIECE).map(quoted).collect::<Vec<_>>().join("&"))
}

/// A field that is a number where a spreadsheet keeps it as one.
pub(super) fn number(value: String) -> String {
    let digits = value.strip_prefix('-').unwrap_or(&value);
    let is_kept = digits.len() <= DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_kept { value } else { text(&value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a spreadsheet shows of a field: the text of a formula that is nothing but text.
    fn shown(field: &str) -> String {
        let Some(formula) = field.strip_prefix('=') else { return field.to_owned() };
        let (mut shown, mut rest) = (String::new(), formula);
        loop {
            rest = rest.strip_prefix('"').expect("a piece begins with a quote");
            loop {
                let end = rest.find('"').expect("a piece ends with a quote");
                shown.push_str(&rest[..end]);
                rest = &rest[end + 1..];
                match rest.strip_prefix('"') {
                    Some(more) => {
                        shown.push('"');
                        rest = more;
                    }
                    None => break,
                }
            }
            match rest.strip_prefix('&') {
                Some(more) => rest = more,
                None => break,
            }
        }
        assert_eq!(rest, "", "nothing of it is more than text: {field}");
        shown
    }

    #[test]
    fn chips_times_and_formulas_are_shown_as_they_are_and_run_nothing() {
        let long = "0d0a".repeat(500);
        for value in [
            "0012E5",
            "00012345",
            "123456789012345678",
            "65E2",
            "2026-07-05T10:20:30.127Z",
            "10:20:30.134",
            "=cmd|' /C calc'!A0",
            "=HYPERLINK(\"http://x\",\"y\")",
            "+1",
            "-51",
            "@SUM(1+1)",
            "\"&A1&\"",
            "\"\"",
            "é 中",
            &long,
        ] {
            assert_eq!(shown(&text(value)), value);
            let longest = text(value).split("\"&\"").map(str::len).max();
            assert!(longest <= Some(2 * PIECE + 3), "{value}");
        }
        assert_eq!(shown(&text("\t=1+1\r\n")), " =1+1  ", "a control character is a blank");
        assert_eq!(text(""), "");
    }

    #[test]
    fn a_number_stays_one_only_where_all_of_its_digits_do() {
        for kept in ["", "0", "17", "-51", "999999999999999"] {
            assert_eq!(number(kept.to_owned()), kept);
        }
        for text in ["1000000000000000", "18446744073709551615", "1e5", "F1"] {
            assert_eq!(number(text.to_owned()), format!("=\"{text}\""));
        }
    }
}
