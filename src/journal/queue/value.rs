//! Values as sled contains them, and the errors of the queue.

use std::io;

use serde::{Deserialize, Serialize};

/// Why the queue does not serve.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// The disk is full or fails. The stored data may be whole.
    #[error("{0}")]
    Disk(io::Error),
    /// The stored data cannot be trusted.
    #[error("{0}")]
    Corrupt(String),
}

impl From<sled::Error> for Broken {
    fn from(error: sled::Error) -> Self {
        match error {
            sled::Error::Io(error) if error.kind() != io::ErrorKind::UnexpectedEof => Self::Disk(error),
            other => Self::Corrupt(other.to_string()),
        }
    }
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

pub(super) fn postcard_bytes(value: &impl Serialize) -> Result<Vec<u8>, Broken> {
    postcard::to_stdvec(value).map_err(|error| Broken::Corrupt(error.to_string()))
}

pub(super) fn unsealed(value: &[u8]) -> Result<&[u8], Broken> {
    match value.split_first_chunk::<4>() {
        Some((crc, content)) if u32::from_le_bytes(*crc) == crc32fast::hash(content) => Ok(content),
        _ => Err(Broken::Corrupt("a value's checksum does not agree".into())),
    }
}

pub(super) fn unseal<'a, T: Deserialize<'a>>(value: &'a [u8]) -> Result<T, Broken> {
    postcard::from_bytes(unsealed(value)?).map_err(|error| Broken::Corrupt(error.to_string()))
}
