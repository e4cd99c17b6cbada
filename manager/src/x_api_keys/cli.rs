//! `keygate x-api-keys …`

use clap::Subcommand;

use super::actions;
use super::http::Import;
use crate::app::App;

/// X-Api-Keys, from the command line of the machine that holds the database.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bring in a key that was made elsewhere, by its hash, so that its holder need not change
    /// anything.
    Import {
        /// Whose key it becomes: a client id.
        #[arg(long)]
        client: String,
        /// What people call it.
        #[arg(long)]
        alias: String,
        /// SHA-256 of the key's text, 64 hexadecimal digits (digiRunner: api_key_en).
        #[arg(long, value_name = "HEX")]
        sha256: String,
        /// What is shown of the key, such as YjN***GJm (digiRunner: api_key_mask).
        #[arg(long)]
        mask: String,
        /// First day, yyyy-MM-dd; default: today.
        #[arg(long, value_name = "DATE")]
        effective_date: Option<String>,
        /// Last day, yyyy-MM-dd.
        #[arg(long, value_name = "DATE")]
        expiry_date: String,
        /// What it opens: the id of one of the client's groups; repeat for several.
        #[arg(long = "group", required = true)]
        groups: Vec<String>,
    },
}

/// Runs one command.
pub async fn run(app: &App, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Import { client, alias, sha256, mask, effective_date, expiry_date, groups } => {
            let asked = Import { client, alias, sha256, mask, effective_date, expiry_date, groups };
            let (new, trace) = asked.parse(app).map_err(|problem| {
                anyhow::anyhow!("{}: {}", problem.field.unwrap_or_default(), problem.detail)
            })?;
            let key = actions::import(app, "cli", new, trace).await?;
            println!("X-Api-Key: {}", key.id);
            Ok(())
        }
    }
}
