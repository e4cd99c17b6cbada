//! `keygate mail …`

use clap::Subcommand;

use super::{log, templates, trial};
use crate::app::App;

/// Mails, from the command line.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Whether the settings are right: a conversation with the server now.
    Test(trial::cli::Test),
    /// What became of which mail.
    Log(log::cli::List),
    /// One mail.
    Show(log::cli::One),
    /// Send a mail of the log once more.
    Resend(log::cli::One),
    /// Take a mail back that waits.
    Cancel(log::cli::One),
    /// Print a mail with an example's values.
    Preview(templates::cli::PreviewCommand),
    /// The texts of mails.
    #[command(subcommand)]
    Template(templates::cli::Command),
}

/// Runs one command.
pub async fn run(app: &App, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Test(command) => trial::cli::run(app, command).await,
        Command::Log(command) => log::cli::list(app, command).await,
        Command::Show(command) => log::cli::show(app, command).await,
        Command::Resend(command) => log::cli::resend(app, command).await,
        Command::Cancel(command) => log::cli::cancel(app, command).await,
        Command::Preview(command) => templates::cli::preview(&app.config, command),
        Command::Template(command) => templates::cli::run(&app.config, command),
    }
}
