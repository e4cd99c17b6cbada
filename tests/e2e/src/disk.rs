//! A disk that is full when the test says so, for a manager on SQLite: see `full_disk.c`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The variable that names the file with the room that is left.
pub const VARIABLE: &str = "E2E_DISK_ROOM";

/// The disk below one manager's database.
#[derive(Clone, Debug)]
pub struct Disk {
    room: PathBuf,
}

impl Disk {
    /// Of the manager that lives in `folder`.
    pub fn of(folder: &Path) -> Self {
        Self { room: folder.join("disk-room") }
    }

    /// The file with the room that is left.
    pub fn room(&self) -> &Path {
        &self.room
    }

    /// From now on there is room for so many bytes more.
    pub fn leave(&self, bytes: u64) -> Result<()> {
        let draft = self.room.with_extension("draft");
        std::fs::write(&draft, format!("{bytes:12}")).context("say how much room is left")?;
        std::fs::rename(draft, &self.room).context("say how much room is left")
    }

    /// There is room again.
    pub fn free(&self) -> Result<()> {
        std::fs::remove_file(&self.room).context("make room")
    }
}
