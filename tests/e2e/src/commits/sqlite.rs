//! Kills a manager on SQLite at one of its commits, whatever its transaction is about.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Cut;

/// The variable that names the file to `kill_at_commit.c`.
pub const VARIABLE: &str = "E2E_KILL_AT_COMMIT";

/// What a manager that was started with it is told.
#[derive(Clone, Debug)]
pub struct Executioner {
    order: PathBuf,
}

impl Executioner {
    /// For the manager that lives in `folder`.
    pub fn of(folder: &Path) -> Self {
        Self { order: folder.join("kill-at-commit") }
    }

    /// The file with the order.
    pub fn order(&self) -> &Path {
        &self.order
    }

    /// The manager dies at its `count`th commit from now on (1 = the next).
    pub fn arm(&self, count: u32, cut: Cut) -> Result<()> {
        let cut = match cut {
            Cut::Before => "before",
            Cut::After => "after",
        };
        // Renamed into its place: the manager never reads half an order.
        let draft = self.order.with_extension("draft");
        std::fs::write(&draft, format!("{count:2} {cut}")).context("write the order to die")?;
        std::fs::rename(draft, &self.order).context("write the order to die")
    }

    /// Whether the order was carried out, or is at this moment.
    pub fn has_struck(&self) -> bool {
        !self.order.exists()
    }

    /// Takes the order back; whether there was one still, and the manager lives.
    pub fn spare(&self) -> bool {
        std::fs::remove_file(&self.order).is_ok()
    }
}
