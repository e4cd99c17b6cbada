//! `keygate tasks …`

use clap::Subcommand;
use gate::time::UnixMillis;

use super::actions;
use super::model::{Task, TaskState};
use super::store::{self, Filter};
use crate::app::App;
use crate::http::MAX_PAGE;
use crate::validity::print_instant;

/// Scheduled work, from the command line.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List scheduled work in the order in which it is due, one piece a line.
    List {
        /// `<capability>.<action>`.
        #[arg(long)]
        kind: Option<String>,
        /// waiting, running, done, failed or cancelled.
        #[arg(long, value_parser = TaskState::NAMES)]
        state: Option<String>,
    },
    /// Show a piece of work.
    Show {
        /// `task_…`.
        id: String,
    },
    /// Have the running server do a piece of work that failed, was cancelled or waits at once.
    Retry {
        /// `task_…`.
        id: String,
    },
    /// Cancel a piece of work that waits or failed.
    Cancel {
        /// `task_…`.
        id: String,
    },
}

/// Runs one command.
pub async fn run(app: &App, command: Command) -> anyhow::Result<()> {
    match command {
        Command::List { kind, state } => list(app, &Filter { kind, state, ..Filter::default() }).await,
        Command::Show { id } => {
            let found = store::by_id(&mut *app.db.read().await?, &id).await?;
            let task = found.ok_or(actions::ScheduleError::NotFound { id })?;
            show(app, &task);
            Ok(())
        }
        Command::Retry { id } => {
            show(app, &actions::retry(app, &id, "cli").await?);
            Ok(())
        }
        Command::Cancel { id } => {
            show(app, &actions::cancel_one(app, &id, "cli").await?);
            Ok(())
        }
    }
}

async fn list(app: &App, filter: &Filter) -> anyhow::Result<()> {
    let mut after = (UnixMillis(i64::MIN), String::new());
    loop {
        let mut conn = app.db.read().await?;
        let tasks = store::list(&mut conn, filter, (after.0, &after.1), i64::from(MAX_PAGE)).await?;
        for task in &tasks {
            let due = print_instant(task.due_at, &app.config.zone());
            let came = task.result.as_deref().or(task.last_error.as_deref()).unwrap_or_default();
            let about = format!("{}:{}", task.about.kind, task.about.id);
            println!("{}  {due}  {:<9}  {}  {about}  {came}", task.id, task.state.name(), task.kind);
        }
        match tasks.last() {
            Some(last) if tasks.len() == MAX_PAGE as usize => after = (last.due_at, last.id.clone()),
            Some(_) | None => return Ok(()),
        }
    }
}

fn show(app: &App, task: &Task) {
    let at = |at: UnixMillis| print_instant(at, &app.config.zone());
    println!("task: {}", task.id);
    println!("kind: {}", task.kind);
    println!("about: {}:{}", task.about.kind, task.about.id);
    println!("due: {}", at(task.due_at));
    match task.state {
        TaskState::Waiting { next_attempt_at } => println!("state: waiting until {}", at(next_attempt_at)),
        TaskState::Running { claimed_until } => {
            println!("state: running, until {} at most", at(claimed_until))
        }
        TaskState::Done { finished_at }
        | TaskState::Failed { finished_at }
        | TaskState::Cancelled { finished_at } => {
            println!("state: {} at {}", task.state.name(), at(finished_at));
        }
    }
    println!("attempts: {}", task.attempts);
    for (name, text) in [("result", &task.result), ("error", &task.last_error)] {
        if let Some(text) = text {
            println!("{name}: {text}");
        }
    }
}
