//! Words that nobody can guess: identities of logins, tokens for one use.

use rustix::rand::{GetRandomFlags, getrandom};

/// Random bytes of a word: 128 bits, too many for guesses over a network.
const BYTES: usize = 16;

/// Returns a new word of 32 hexadecimal digits.
///
/// # Errors
/// The kernel gives no random bytes.
pub(crate) fn word() -> std::io::Result<Box<str>> {
    let mut bytes = [0_u8; BYTES];
    let mut filled = 0;
    while filled < BYTES {
        filled += getrandom(&mut bytes[filled..], GetRandomFlags::empty())?;
    }
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Whether two words are the same. The time of the comparison does not show how many characters
/// agree.
pub(crate) fn same_word(kept: &str, shown: &str) -> bool {
    let differ = kept.bytes().zip(shown.bytes()).fold(0_u8, |differ, (a, b)| std::hint::black_box(differ | (a ^ b)));
    kept.len() == shown.len() && differ == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_comes_twice_and_only_the_whole_word_is_the_same() {
        let (one, other) = (word().unwrap(), word().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.len(), 2 * BYTES);
        assert!(one.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert!(same_word(&one, &one) && !same_word(&one, &other));
        assert!(!same_word(&one, &one[..31]) && !same_word(&one, "") && !same_word("", &one));
    }
}
