//! `keygate api …`

use clap::Subcommand;

use super::apis::import::cli as import;
use super::apis::matching::cli as matching;
use crate::app::App;

/// APIs, from the command line of the machine that holds the database.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bring in the operations of an OpenAPI 3 document, one API each; a repeated import updates them.
    Import(import::Import),
    /// Say which API gates would choose for a request, by which rule, and what nearly fits.
    Match(matching::Match),
}

/// Runs one command.
pub async fn run(app: &App, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Import(command) => import::run(app, command).await,
        Command::Match(command) => matching::run(app, command).await,
    }
}
