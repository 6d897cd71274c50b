//! What is drawn in a picture.

use std::collections::BTreeSet;
use std::io::Cursor;

/// The number of pixels of each colour in a PNG: red, green, blue.
pub fn colours(png: &[u8]) -> std::collections::BTreeMap<[u8; 3], usize> {
    let mut reader = png::Decoder::new(Cursor::new(png)).read_info().unwrap();
    let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut bytes).unwrap();
    let width = info.color_type.samples();
    let mut found = std::collections::BTreeMap::new();
    for pixel in bytes[..info.buffer_size()].chunks_exact(width) {
        *found.entry([pixel[0], pixel[1], pixel[2]]).or_default() += 1;
    }
    found
}

/// Number of colours that cover at least `least` pixels.
pub fn distinct(png: &[u8], least: usize) -> usize {
    let found: BTreeSet<_> = colours(png).into_iter().filter(|(_, count)| *count >= least).collect();
    found.len()
}
