//! `keygate keys …`

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Subcommand;

use super::actions;
use super::http::ImportJson;
use crate::app::App;

/// Bytes of a file with a secret at most: beyond this it is another file.
const MAX_SECRET_FILE_BYTES: u64 = 4_096;

/// DGRK keys, from the command line of the machine that holds the database.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bring in a pair that was made elsewhere, so that its holder need not change anything.
    Import {
        /// Whose key it becomes: a client id.
        #[arg(long)]
        client: String,
        /// The public API key.
        #[arg(long)]
        api_key: String,
        /// File that holds the secret key, `-` for standard input: command lines are seen by others.
        #[arg(long, value_name = "FILE")]
        secret_file: PathBuf,
        /// What people call it.
        #[arg(long)]
        name: String,
        /// First day, yyyy-MM-dd; default: today.
        #[arg(long, value_name = "DATE")]
        effective_date: Option<String>,
        /// Last day, yyyy-MM-dd.
        #[arg(long, value_name = "DATE")]
        expiry_date: String,
        /// How often it may be used in all; -1 = unlimited.
        #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
        quota: i64,
        /// What it may call: the uid of an API; repeat for several.
        #[arg(long = "api", required = true)]
        apis: Vec<String>,
    },
}

/// Runs one command.
pub async fn run(app: &App, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Import { client, api_key, secret_file, name, effective_date, expiry_date, quota, apis } => {
            let secret_key = read_secret(&secret_file)?;
            let asked =
                ImportJson { client, api_key, secret_key, name, effective_date, expiry_date, quota, apis };
            let (new, pair) = asked.parse(app).map_err(|problem| {
                anyhow::anyhow!("{}: {}", problem.field.unwrap_or_default(), problem.detail)
            })?;
            let key = actions::import(app, new, pair, "cli").await?;
            println!("key: {}", key.id);
            Ok(())
        }
    }
}

/// The secret in `file` (`-`: standard input), without the line's end.
pub(super) fn read_secret(file: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin()
            .take(MAX_SECRET_FILE_BYTES + 1)
            .read_to_string(&mut text)
            .context("standard input")?;
    } else {
        std::fs::File::open(file)
            .and_then(|open| open.take(MAX_SECRET_FILE_BYTES + 1).read_to_string(&mut text))
            .with_context(|| format!("cannot read the secret from {}", file.display()))?;
    }
    if text.len() as u64 > MAX_SECRET_FILE_BYTES {
        bail!("{} is too long to hold nothing but a secret key", file.display());
    }
    let secret = text.trim();
    if secret.is_empty() {
        bail!("{} is empty: it is to hold the secret key and nothing else", file.display());
    }
    Ok(secret.to_owned())
}
