//! What was said to a simulated decoder, for a judge of what may be said. Bounded.

/// Connections of which it is remembered.
const LINKS_MAX: usize = 200;
/// Bytes of each.
const BYTES_MAX: usize = 64 * 1024;

/// A connection each.
#[derive(Default)]
pub(super) struct Heard(Vec<Vec<u8>>);

impl Heard {
    /// A connection begins: its number.
    pub(super) fn anew(&mut self) -> usize {
        if self.0.len() == LINKS_MAX {
            return LINKS_MAX; // forgotten
        }
        self.0.push(Vec::new());
        self.0.len() - 1
    }

    pub(super) fn take(&mut self, connection: usize, bytes: &[u8]) {
        if let Some(heard) = self.0.get_mut(connection) {
            let room = BYTES_MAX - heard.len();
            heard.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
    }

    pub(super) fn all(&self) -> Vec<Vec<u8>> {
        self.0.clone()
    }
}
