//! `keygate audit …`

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Subcommand;

use super::actions;
use super::chain::{Anchor, MAX_FAULTS};
use crate::app::App;

/// The audit trail, from the command line of the machine that holds the database.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Follow the chain of hashes from the first entry to the last; name what was changed,
    /// removed or moved.
    Verify {
        /// A file with an anchor, from `keygate audit anchor`: the trail must still contain it.
        #[arg(long, value_name = "FILE")]
        anchor: Option<PathBuf>,
    },
    /// Print the end of the trail as it is now (JSON), to be kept away from this machine.
    Anchor,
}

/// Runs one command. Err: the trail is not whole, or cannot be read.
pub async fn run(app: &App, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Verify { anchor } => {
            let anchor = anchor.as_deref().map(read_anchor).transpose()?;
            let found = actions::verify(app, anchor.as_ref()).await?;
            if found.is_whole() {
                println!("the audit trail is whole: {} entries", found.entries);
                if let Some(anchor) = anchor {
                    println!("it contains the anchor at entry {} of {}", anchor.seq, anchor.installation);
                }
                return Ok(());
            }
            for fault in &found.faults {
                println!("{fault}");
            }
            if found.faults.len() == MAX_FAULTS {
                println!("there may be more: only {MAX_FAULTS} are named");
            }
            bail!("the audit trail is broken")
        }
        Command::Anchor => {
            println!("{}", serde_json::to_string(&actions::anchor(app).await?)?);
            Ok(())
        }
    }
}

fn read_anchor(file: &Path) -> anyhow::Result<Anchor> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("cannot read the anchor {}", file.display()))?;
    let anchor: Anchor = serde_json::from_str(&text).with_context(|| {
        format!("{} is no anchor: it is to hold what `keygate audit anchor` printed", file.display())
    })?;
    if anchor.seq < 1 || anchor.hash.len() != 64 {
        bail!("{} is no anchor: seq is 1 or more, hash has 64 characters", file.display());
    }
    Ok(anchor)
}
