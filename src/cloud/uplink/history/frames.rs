//! What a decoder of a history sends.

use super::Decoder;
use super::script::Sent;
use crate::decoders::{Frame, Framed, Reject};
use crate::model::chip::{ChipRead, Label, Marker, Position};

impl Decoder {
    pub(super) fn frames(&mut self, sent: Sent) -> Vec<Framed> {
        match sent {
            Sent::Read { chip, after_ms } => {
                self.clock += after_ms.max(1);
                let (s, ms) = (self.clock / 1000, self.clock % 1000);
                let stamp = format!("2026-05-03T{:02}:{:02}:{:02}.{ms:03}", s / 3600 % 24, s / 60 % 60, s % 60);
                let code = if chip == 0 { format!("BAD-{}", self.name) } else { format!("C{chip}-{}", self.name) };
                let mut read = ChipRead::new(code, stamp.parse().unwrap());
                let number = self.reads.len() as u64 + 1;
                read.position = Some(Position { unit: None, file: Some(Label::Number(1)), number });
                let framed = Framed { frame: Frame::Read(read), raw: format!("raw\t{stamp}").into_bytes().into() };
                self.reads.push(framed.clone());
                vec![framed]
            }
            Sent::Again(count) => self.reads[self.reads.len().saturating_sub(usize::from(count))..].to_vec(),
            Sent::Marker => {
                let marker = Marker {
                    kind: "gun".into(),
                    name: None,
                    stamp: None,
                    reader: None,
                    location: None,
                    position: None,
                    through: None,
                };
                vec![Framed { frame: Frame::Marker(marker), raw: b"gun"[..].into() }]
            }
            Sent::Rejected => vec![Framed { frame: Frame::Rejected(Reject::Unfinished), raw: b"\xff\n\0?"[..].into() }],
        }
    }
}
