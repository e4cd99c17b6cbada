//! `keygate usage`: reports, on this machine's database.

use super::actions;
use super::csv::{Line, table};
use super::http::{Extent, asked, calls_filter};
use super::model::{Answers, Calls, Filter, Row};
use super::store::Counted;
use super::view::{AnswersView, CallsView};
use crate::app::App;
use crate::search::days;

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
    let range = days(command.from.as_deref(), command.until.as_deref(), &app.config.zone()).map_err(told)?;
    // A day that is not named is open: the report has its own idea of it.
    let from = range.filter(|_| command.from.is_some()).map(|range| range.from.0);
    let until = range.filter(|_| command.until.is_some()).map(|range| range.until.0);
    let names: &[&str] = if command.answers {
        &["client", "api", "status"]
    } else {
        &["client", "credential", "api", "result"]
    };
    let extent = Extent {
        bucket: Some(&command.bucket),
        from,
        until,
        group_by: command.by.as_deref(),
        ..Extent::default()
    };
    let filter = Filter {
        client: command.client.clone(),
        ..calls_filter(None, command.api.clone(), command.result.clone()).map_err(told)?
    };
    if command.answers {
        print::<Answers, AnswersView>(app, extent, names, filter).await
    } else {
        print::<Calls, CallsView>(app, extent, names, filter).await
    }
}

async fn print<C, V>(app: &App, extent: Extent<'_>, names: &[&str], filter: Filter) -> anyhow::Result<()>
where
    C: Counted,
    V: From<Row<C>> + Line,
{
    let asked = asked(app, extent, names, filter, None).map_err(told)?;
    let mut rows = actions::rows::<C>(app, &asked, None, MAX_ROWS + 1).await?;
    let more = rows.len() as i64 > MAX_ROWS;
    rows.truncate(MAX_ROWS as usize);
    let rows: Vec<V> = rows.into_iter().map(V::from).collect();
    print!("{}", table(&rows, &app.config.zone()));
    if more {
        eprintln!("there are more: these are the newest {MAX_ROWS}; ask for less time, or a larger --bucket");
    }
    Ok(())
}

/// A refusal in words: what is told of a `group_by` is told of `--by` here.
fn told(problem: crate::problem::Problem) -> anyhow::Error {
    anyhow::anyhow!("{}", problem.detail.replace("group_by", "--by"))
}
