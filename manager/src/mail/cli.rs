//! `keygate mail …`

use clap::Subcommand;

use super::{log, trial};
use crate::app::App;

/// Mails, from the command line.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Whether the settings are right: a conversation with the server now.
    Test(trial::cli::Test),
    /// What became of which mail.
    Log(log::cli::List),
    /// One mail.
    Show(log::cli::Show),
}

/// Runs one command.
pub async fn run(app: &App, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Test(command) => trial::cli::run(app, command).await,
        Command::Log(command) => log::cli::list(app, command).await,
        Command::Show(command) => log::cli::show(app, command).await,
    }
}
