//! The box's side of passings that the cloud holds, from the log beside a running daemon or without
//! one.

use std::path::{Path, PathBuf};

use crate::cloud::list::known::{BoxSide, Known, Whose};
use crate::cloud::rufus::FullPassing;
use crate::config::failure::Failure;
use crate::serve::control;

/// What the log of this box says. If it cannot be read, everything is unknown from then on.
pub(crate) struct Joined {
    data_dir: PathBuf,
    known: Option<Known>,
    /// The entry up to which the log was durable when that was asked last.
    durable: Option<u64>,
    trouble: Option<String>,
}

impl Joined {
    /// The whole log.
    pub(crate) fn all(data_dir: &Path, device: &str) -> Self {
        Self { data_dir: data_dir.to_owned(), known: Some(Known::all(data_dir, device)), durable: None, trouble: None }
    }

    /// The end of the log, for passings that arrive from now on.
    pub(crate) fn from_now_on(data_dir: &Path, device: &str) -> Self {
        let (known, trouble) = match Known::from_now_on(data_dir, device) {
            Ok(known) => (Some(known), None),
            Err(error) => (None, Some(error.to_string())),
        };
        Self { data_dir: data_dir.to_owned(), known, durable: None, trouble }
    }

    /// Says what the box knows about passings that the cloud just showed. A passing that does not name
    /// its session is of `session`.
    pub(crate) async fn look(&mut self, rows: &[FullPassing], session: Option<&str>) -> Vec<BoxSide> {
        match self.looked(rows, session).await {
            Ok(sides) => sides,
            Err(trouble) => {
                (self.known, self.trouble) = (None, Some(trouble));
                vec![BoxSide::unknown(); rows.len()]
            }
        }
    }

    async fn looked(&mut self, rows: &[FullPassing], session: Option<&str>) -> Result<Vec<BoxSide>, String> {
        let Some(known) = &mut self.known else { return Ok(vec![BoxSide::unknown(); rows.len()]) };
        // Nothing else of this process waits meanwhile: the commands run on the first thread.
        let mut look = |durable| known.look(rows, session, durable).map_err(|error| error.to_string());
        // The daemon writes what rides with the next group before it answers, which takes a moment. So
        // it is asked again only for passings that may have been sent since.
        if let Some(durable) = self.durable {
            let sides = look(durable)?;
            if sides.iter().all(|side| side.whose == Whose::Ours) {
                return Ok(sides);
            }
        }
        let durable = control::durable(&self.data_dir).await.map_err(|error| error.to_string())?;
        self.durable = Some(durable);
        look(durable)
    }

    /// Why the log could not be read, if that happened. I/O (74).
    pub(crate) fn trouble(&self) -> Option<Failure> {
        let why = self.trouble.as_ref()?;
        Some(Failure::io(format!(
            "the log in {} could not be read ({why}), so it is not known which passings are of this box",
            self.data_dir.display()
        )))
    }
}
