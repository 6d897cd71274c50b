//! The bytes that were sent to a simulated decoder, so that a test can check them against the
//! allowed commands. Bounded.

/// The number of connections that are remembered.
const LINKS_MAX: usize = 200;
/// The number of bytes that are remembered of each.
const BYTES_MAX: usize = 64 * 1024;

/// The bytes of each connection.
#[derive(Default)]
pub(super) struct Heard(Vec<Vec<u8>>);

impl Heard {
    /// A connection begins. Returns its number.
    pub(super) fn anew(&mut self) -> usize {
        if self.0.len() == LINKS_MAX {
            return LINKS_MAX; // its bytes are not remembered
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
