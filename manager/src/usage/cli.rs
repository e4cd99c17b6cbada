//! `keygate usage`: reports, on this machine's database.

use super::actions::{self, Asked};
use super::csv::{Line, table};
use super::http::{AnswersView, CallsView, asked, calls_filter};
use crate::app::App;
use crate::search::{days, several};

/// Rows that are printed at most.
const MAX_ROWS: i64 = 10_000;

/// What was called, and how it was answered.
#[derive(clap::Args)]
pub struct Command {
    /// How calls that were let in were answered and how long that took, instead of all calls.
    #[arg(long)]
    answers: bool,
    /// minute, hour, day, month, or total: everything together.
    #[arg(long, default_value = "day")]
    bucket: String,
    /// First day, yyyy-MM-dd in the installation's zone; without it as many as the bucket suggests.
    #[arg(long)]
    from: Option<String>,
    /// Last day; without it today.
    #[arg(long)]
    until: Option<String>,
    /// Tell apart by these: client, credential, api, result; with --answers client, api, status.
    #[arg(long, value_name = "NAMES")]
    by: Option<String>,
    /// Of this client alone.
    #[arg(long)]
    client: Option<String>,
    /// Of this API alone, by its uid.
    #[arg(long)]
    api: Option<String>,
    /// With this result alone: admitted, refused, or the code of a refusal.
    #[arg(long, conflicts_with = "answers")]
    result: Option<String>,
}

/// Prints a table (CSV), newest first.
pub async fn run(app: &App, command: Command) -> anyhow::Result<()> {
    let told = |problem: crate::problem::Problem| anyhow::anyhow!("{}", problem.detail);
    let range = days(command.from.as_deref(), command.until.as_deref(), &app.config.zone()).map_err(told)?;
    // A day that is not named is open: the report has its own idea of it.
    let from = range.filter(|_| command.from.is_some()).map(|range| range.from.0);
    let until = range.filter(|_| command.until.is_some()).map(|range| range.until.0);
    let names: &[&str] = if command.answers {
        &["client", "api", "status"]
    } else {
        &["client", "credential", "api", "result"]
    };
    let by = several("by", command.by.as_deref(), names).map_err(told)?;
    let filter = calls_filter(None, command.api, command.result);
    let mut asked: Asked = asked(app, Some(&command.bucket), (from, until), &by, filter).map_err(told)?;
    asked.filter.client = command.client;
    if command.answers {
        let rows = actions::answers(app, &asked, None, MAX_ROWS + 1).await?;
        print(app, rows.into_iter().map(AnswersView::from).collect())
    } else {
        let rows = actions::calls(app, &asked, None, MAX_ROWS + 1).await?;
        print(app, rows.into_iter().map(CallsView::from).collect())
    }
}

fn print<T: Line>(app: &App, mut rows: Vec<T>) -> anyhow::Result<()> {
    let more = rows.len() as i64 > MAX_ROWS;
    rows.truncate(MAX_ROWS as usize);
    print!("{}", table(&rows, &app.config.zone()));
    if more {
        eprintln!("there are more: these are the newest {MAX_ROWS}; ask for less time, or a larger --bucket");
    }
    Ok(())
}
