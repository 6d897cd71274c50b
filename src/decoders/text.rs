//! Bytes of a decoder as text.

use std::borrow::Cow;

/// ISO-8859-1, in which every byte is a character.
pub(super) fn latin_1(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.is_ascii() => Cow::Borrowed(text),
        _ => bytes.iter().map(|byte| char::from(*byte)).collect(),
    }
}

/// For texts whose encoding is not documented: UTF-8, or else ISO-8859-1.
pub(super) fn utf_8_or_latin_1(bytes: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(bytes).map_or_else(|_| latin_1(bytes), Cow::Borrowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_a_character_unless_it_is_a_part_of_one() {
        let umlaut = "Zürich".as_bytes();
        assert_eq!((&*utf_8_or_latin_1(umlaut), &*latin_1(umlaut)), ("Zürich", "ZÃ¼rich"));
        assert_eq!((&*utf_8_or_latin_1(b"Z\xfcrich"), &*latin_1(b"Z\xfcrich")), ("Zürich", "Zürich"));
        assert_eq!(latin_1(b"Zurich"), Cow::Borrowed("Zurich"));
    }
}
