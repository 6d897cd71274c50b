//! What the reader of capture files must hold, whatever the file. First byte: bit 0 puts the right
//! first line before the rest. Second and third: where the file is cut.

use std::io::BufReader;

use passbridge::testing::link::capture::{CaptureError, CaptureReader, CaptureWriter, Header, PIECE, Record, What};

/// Bytes before the file.
pub const CONTROL: usize = 3;

/// What a file gave: its records, and whether it was read to its end.
struct Said {
    header: Header,
    records: Vec<Record>,
    error: Option<String>,
    cut: bool,
}

fn read(file: &[u8], at_once: usize) -> Option<Said> {
    let mut reader = match CaptureReader::new(BufReader::with_capacity(at_once, file)) {
        Ok(reader) => reader,
        Err(error) => {
            told(&error, file);
            return None;
        }
    };
    let (mut records, mut error) = (Vec::new(), None);
    for next in &mut reader {
        match next {
            Ok(record) => records.push(record),
            Err(why) => {
                told(&why, file);
                error = Some(why.to_string());
            }
        }
    }
    assert!(reader.next().is_none(), "after the end or an error there is nothing more");
    assert!(reader.line() <= 1 + file.iter().filter(|byte| **byte == b'\n').count() as u64);
    Some(Said { header: reader.header().clone(), records, error, cut: reader.cut() })
}

fn told(error: &CaptureError, file: &[u8]) {
    assert!(error.to_string().len() <= 300, "an error is a line, not the file");
    assert!(!matches!(error, CaptureError::Read { .. }), "memory does not fail: {} bytes", file.len());
}

/// One file. How many records it has.
///
/// # Panics
/// Where the reader does, or does not hold what it must.
pub fn run(data: &[u8]) -> u64 {
    let Some((control, file)) = data.split_first_chunk::<CONTROL>() else { return 0 };
    let file = match control[0] & 1 {
        1 => [b"# passbridge capture 1\n", file].concat(),
        _ => file.to_vec(),
    };
    let Some(whole) = read(&file, 8192) else { return 0 };
    let pieces = read(&file, 1 + usize::from(control[0] >> 4)).expect("as before");
    assert_eq!((&whole.records, &whole.error, whole.cut), (&pieces.records, &pieces.error, pieces.cut));
    assert_eq!(whole.header, pieces.header);
    bounded(&whole, &file);
    written_again(&whole);
    cut(&whole, &file, usize::from(u16::from_le_bytes([control[1], control[2]])) % (file.len() + 1));
    // None of them panics, whatever the header says.
    let _ = (whole.header.protocol(), whole.header.zone(), whole.header.began(), whole.header.settings());
    whole.records.len() as u64
}

fn bounded(said: &Said, file: &[u8]) {
    let size = |record: &Record| match &record.what {
        What::Bytes(_, bytes) => {
            assert!(!bytes.is_empty());
            bytes.len()
        }
        What::Connected(text) | What::Closed(text) => text.len() / 3, // a byte that is no text becomes three
        What::Lost(..) => 0,
    };
    assert!(said.records.iter().map(size).sum::<usize>() <= file.len());
}

/// What was read can be written, and is then read as the same.
fn written_again(said: &Said) {
    let mut file = Vec::new();
    let Ok(mut writer) = CaptureWriter::new(&mut file, &said.header) else { return }; // a value that grows when it is quoted
    for record in &said.records {
        writer.record(record).expect("memory does not fail");
    }
    let again = read(&file, 8192).expect("what was written");
    assert_eq!((again.error, again.cut), (None, false), "{}", String::from_utf8_lossy(&file));
    assert_eq!(again.header, said.header);
    let mut left = again.records.iter();
    for record in &said.records {
        let next = left.next().expect("as many");
        assert_eq!((next.at, next.connection), (record.at, record.connection));
        match (&record.what, &next.what) {
            (What::Bytes(direction, bytes), What::Bytes(same, first)) => {
                assert_eq!(direction, same);
                let mut bytes = bytes.strip_prefix(&first[..]).expect("the same bytes");
                while !bytes.is_empty() {
                    let Some(What::Bytes(_, more)) = left.next().map(|record| &record.what) else { panic!("cut off") };
                    assert!(more.len() <= PIECE);
                    bytes = bytes.strip_prefix(&more[..]).expect("the same bytes");
                }
            }
            (What::Connected(text), What::Connected(again)) | (What::Closed(text), What::Closed(again)) => {
                assert!(text.starts_with(&again[..]) && (again == text || again.len() > 1000), "{text:?} {again:?}");
            }
            (one, other) => assert_eq!(one, other),
        }
    }
    assert_eq!(left.count(), 0);
}

/// A file that ends anywhere has the records of the whole one up to there, the last one perhaps not
/// all of it.
fn cut(whole: &Said, file: &[u8], at: usize) {
    let Some(half) = read(&file[..at], 8192) else { return };
    let Some((last, sure)) = half.records.split_last() else { return };
    if half.cut {
        assert!(half.error.is_none() && whole.records.starts_with(sure));
        let of_whole = whole.records.get(sure.len()); // none where the rest of that line is no text
        let Some(of_whole) = of_whole.filter(|_| whole.error.is_none()) else { return };
        assert_eq!((of_whole.at, of_whole.connection), (last.at, last.connection));
        // Of a line that is cut in both, and that nobody wrote so, more may be understood in the
        // shorter one.
        let same_line = whole.cut && sure.len() + 1 == whole.records.len();
        if let (What::Bytes(_, bytes), What::Bytes(_, all)) = (&last.what, &of_whole.what) {
            assert!(all.starts_with(bytes) || same_line && bytes.starts_with(all), "{last:?} of {of_whole:?}");
        }
    } else {
        assert!(whole.records.starts_with(&half.records));
    }
}

/// Files to begin with.
pub fn inputs() -> Vec<Vec<u8>> {
    let lines: &[&[u8]] = &[
        b"# passbridge: 0.1.0\n# decoder: finish-mat\n# protocol: mylaps\n# began: 2026-07-26T08:00:00.123456Z\n",
        b"# timezone: Europe/Madrid\n# address: tcp://127.0.0.1:1\n# set.version: 2\n# set.name: \" a\\u0001\"\n# a remark\n",
        b"! 0.000000 1 connected 192.168.1.50:3097\n< 0.120034 1 Finish@Pong@$\n> 0.121100 1 Finish@AckPong@$\n",
        b"! 7.300000 1 lost < 4096 bytes\n! 9.000000 1 closed the other side closed the connection\n",
        b"< 0.5 2 \\x20a\\\\\\r\\n\\xff\\x00 Z\xc3\xbcrich\\x20\n\n# between\n> 1 2 b",
        b"< 1.000001 4294967295 \\t\r\n< 999999999.999999 1 x",
    ];
    let all = lines.concat();
    let files = lines
        .iter()
        .map(|line| line.to_vec())
        .chain([all.clone(), [&b"\xef\xbb\xbf# passbridge capture 1\n"[..], &all].concat()]);
    files
        .zip(0_u8..)
        .map(|(file, at)| [&[if at == 7 { 0x30 } else { at << 4 | 1 }, at * 23, at / 3], &file[..]].concat())
        .collect()
}
