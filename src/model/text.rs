//! Text for people: names from outside made harmless, and the short form of a token.

/// Makes characters visible that control a terminal or turn the reading order (line ends too).
pub(crate) fn printable(text: &str) -> String {
    let turns = |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if c.is_control() || turns(c) { '\u{fffd}' } else { c }).collect()
}

/// The last six characters of a token: enough to compare, not enough to use.
pub(crate) fn tail(token: &str) -> String {
    let skip = token.chars().count().saturating_sub(6);
    token.chars().skip(skip).collect()
}
