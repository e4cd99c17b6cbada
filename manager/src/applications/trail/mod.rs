//! All that happened to a form, to be read from top to bottom: round by round, what was written to
//! whom about it, and what the audit trail says.

mod view;

use std::collections::BTreeMap;

use gate::time::UnixMillis;

use super::error::ApplicationError;
use super::model::{Application, Step};
use super::worklist::{detail_in, waiting_since};
use super::world;
use crate::app::App;
use crate::audit::{self, Recorded, Search};
use crate::mail::{self, Mail};
use crate::operators::{Actor, Permission};

pub use view::TrailView;

/// Mails and audit entries of one form that a trail shows at most, the newest.
pub const MAX_SHOWN: i64 = 500;

/// All that happened to a form.
#[derive(Clone, Debug)]
pub struct Trail {
    /// The form.
    pub application: Application,
    /// Its ways through the levels, the first one first; none while it was never submitted.
    pub rounds: Vec<Round>,
    /// Every step, oldest first, with how long the form stood before it.
    pub steps: Vec<Told>,
    /// What was written about it, oldest first; None: the reader may not see mails.
    pub mails: Option<Vec<Mail>>,
    /// The audit entries about it, oldest first; None: the reader may not see them.
    pub audit: Option<Vec<Recorded>>,
    /// What those who acted are called.
    pub names: BTreeMap<String, String>,
}

/// One way of a form through its levels, from a submission on.
#[derive(Clone, Debug)]
pub struct Round {
    /// From 1.
    pub round: u32,
    /// When it was submitted.
    pub submitted_at: UnixMillis,
    /// Level after level, as far as it came; the last one may still wait.
    pub levels: Vec<Level>,
}

/// A level of a round.
#[derive(Clone, Debug)]
pub struct Level {
    /// From 1.
    pub level: u32,
    /// When it began to wait.
    pub since: UnixMillis,
    /// What was said; None: it still waits, or the form was withdrawn or cancelled meanwhile.
    pub step: Option<Step>,
}

/// A step, and how long the form stood before it.
#[derive(Clone, Debug)]
pub struct Told {
    /// What happened.
    pub step: Step,
    /// Milliseconds since the step before; 0 of the first.
    pub after_ms: i64,
}

/// The trail of a form that the caller may see.
pub async fn of(app: &App, caller: &Actor, id: &str) -> Result<Trail, ApplicationError> {
    let mut read = app.db.snapshot().await?;
    let detail = detail_in(&mut read, app, caller.into(), id).await?;
    let (application, history) = (detail.application, detail.history);
    let mails = match caller.may(Permission::MailRead) {
        true => Some(mail::about(&mut read, "application", &application.id, MAX_SHOWN).await?),
        false => None,
    };
    let audit = match caller.may(Permission::AuditRead) {
        true => {
            let subject = Some(format!("application:{}", application.id));
            let search = Search { subject, ..Search::default() };
            let mut entries = audit::search(&mut read, &search, MAX_SHOWN).await?;
            entries.truncate(usize::try_from(MAX_SHOWN).unwrap_or(usize::MAX));
            entries.reverse();
            Some(entries)
        }
        false => None,
    };
    let names = world::names_of(&mut read, &history).await?;
    let rounds = rounds_of(&application, &history);
    let before = std::iter::once(None).chain(history.iter().map(|step| Some(step.at)));
    let told = history.iter().zip(before).map(|(step, before)| Told {
        step: step.clone(),
        after_ms: before.map_or(0, |before| step.at.0 - before.0),
    });
    Ok(Trail { rounds, steps: told.collect(), mails, audit, names, application })
}

/// The rounds that a history tells of.
fn rounds_of(application: &Application, history: &[Step]) -> Vec<Round> {
    let mut rounds: Vec<Round> = Vec::new();
    for step in history {
        match step.action.as_str() {
            "submit" | "resubmit" => {
                let round = u32::try_from(rounds.len() + 1).unwrap_or(u32::MAX);
                let levels = vec![Level { level: 1, since: step.at, step: None }];
                rounds.push(Round { round, submitted_at: step.at, levels });
            }
            "approve" | "return" | "reject" => {
                let Some(round) = rounds.last_mut() else { continue };
                let Some(level) = round.levels.last_mut() else { continue };
                let next = level.level + 1;
                level.step = Some(step.clone());
                if step.action == "approve" && step.state == "pending_order" {
                    round.levels.push(Level { level: next, since: step.at, step: None });
                }
            }
            _ => {}
        }
    }
    debug_assert!(
        waiting_since(application).is_none()
            || rounds.last().and_then(|round| round.levels.last()).is_some_and(|level| level.step.is_none()),
        "a form that waits has a level that nobody has signed"
    );
    rounds
}
