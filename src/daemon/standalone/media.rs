//! Labels of media, read without a lock.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::base::Errno;
use crate::base::limits::PAGE_BYTES;
use crate::format::label::{COPY_BYTES, Label, Places, far_area};

/// One copy of a label, where it stands.
pub(super) struct Copy {
    /// Its offset in the medium.
    pub(super) at: u64,
    /// What it says, or why it cannot be believed.
    pub(super) read: Result<Label, String>,
}

/// All copies of the label of the medium at `path`; `volume_length` says where the near area stands, a sound far copy does
/// too.
///
/// # Errors
/// The medium cannot be opened or measured.
pub(super) fn copies(path: &Path, volume_length: Option<u64>) -> io::Result<Vec<Copy>> {
    let mut file = File::open(path)?;
    let length = file.seek(SeekFrom::End(0))?;
    let mut found = Vec::new();
    let far = far_area(length);
    if let Some(far) = far {
        found.extend([far, far + COPY_BYTES].map(|at| copy(&file, at)));
    }
    let known =
        volume_length.or_else(|| found.iter().find_map(|copy| Some(copy.read.as_ref().ok()?.volume_length)));
    if let Some(near) = known.and_then(|known| Places::new(known, length).ok()).map(Places::near_area)
        && Some(near) != far
    {
        found.extend([near, near + COPY_BYTES].map(|at| copy(&file, at)));
    }
    Ok(found)
}

fn copy(file: &File, at: u64) -> Copy {
    let read = || {
        let mut bytes = vec![0; PAGE_BYTES];
        let errno = |error: io::Error| {
            format!("cannot be read: {}", Errno::from_raw(error.raw_os_error().unwrap_or(5)))
        };
        file.read_exact_at(&mut bytes, at).map_err(errno)?;
        let length = Label::copy_length(&bytes, at).map_err(|damage| damage.to_string())?;
        bytes.resize(length, 0);
        file.read_exact_at(&mut bytes, at).map_err(errno)?;
        Label::decode(&bytes, at).map_err(|damage| damage.to_string())
    };
    Copy { at, read: read() }
}

/// The newest sound label among `copies`.
pub(super) fn newest(copies: &[Copy]) -> Option<&Label> {
    copies.iter().filter_map(|copy| copy.read.as_ref().ok()).max_by_key(|label| label.sequence)
}
