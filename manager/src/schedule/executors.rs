//! Who does which kind of work.

use std::collections::BTreeMap;
use std::pin::Pin;

use super::model::{Every, Outcome, Task};
use crate::app::App;
use crate::db::Conn;

/// An executor at work.
pub type Work<'a> = Pin<Box<dyn Future<Output = anyhow::Result<Outcome>> + Send + 'a>>;

/// Does one piece of work, within the transaction that also ends it. It holds SQLite's only
/// writer: database work alone, and no more of it than fits in a moment ([`Outcome::More`]).
///
/// Own rows, quotas, changes, audit: in this order, as everywhere.
pub type Executor = for<'a> fn(&'a App, &'a mut Conn, &'a Task) -> Work<'a>;

/// Every kind of work, with who does it.
#[derive(Clone, Debug, Default)]
pub struct Executors {
    kinds: BTreeMap<&'static str, Executor>,
    recurring: Vec<(&'static str, Every)>,
}

impl Executors {
    /// Work that is planned piece by piece. `kind` is `<capability>.<action>`.
    ///
    /// ```ignore
    /// executors.on("approvals.remind", |app, conn, task| Box::pin(reminders::remind(app, conn, task)));
    /// ```
    pub fn on(&mut self, kind: &'static str, executor: Executor) {
        assert!(self.kinds.insert(kind, executor).is_none(), "{kind} has two executors");
    }

    /// Work that is due every so often.
    pub fn recurring(&mut self, kind: &'static str, every: Every, executor: Executor) {
        self.on(kind, executor);
        self.recurring.push((kind, every));
    }

    /// Their names.
    pub fn kinds(&self) -> Vec<&'static str> {
        self.kinds.keys().copied().collect()
    }

    pub(super) fn of(&self, kind: &str) -> Option<Executor> {
        self.kinds.get(kind).copied()
    }

    pub(super) fn periods(&self) -> &[(&'static str, Every)] {
        &self.recurring
    }
}
