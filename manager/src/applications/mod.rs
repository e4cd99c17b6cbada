//! Forms: to obtain a key (`KA`), to change one (`KU`), to revoke one (`KR`), to become a client
//! (`CR`), and their way through the levels of approval. The last signature issues the key, changes
//! or revokes it, or makes the client. Operators, clients and visitors file them ([`Applicant`]).

mod actions;
mod applicant;
mod body;
pub mod bounds;
pub mod cli;
mod due;
mod effects;
mod error;
mod form;
mod history;
mod http;
mod mails;
mod model;
mod number;
mod picking;
mod review;
mod row;
mod signing;
mod store;
#[cfg(test)]
mod tests;
mod trail;
mod turn;
mod undelivered;
mod view;
mod waiting;
mod worklist;
mod world;

pub use actions::{delete, edit, file_in, save, stop, submit, withdraw};
pub use applicant::{Applicant, Caller};
pub use body::{EditedForm, NewForm};
pub use due::{apply_due, cancel_all_of, end_all_of};
pub use error::ApplicationError;
pub use form::{FieldFault, Fields, Form, MAX_DESCRIPTION_CHARS};
pub use http::routes;
pub use model::{Action, Application, MAX_COMMENT_CHARS, State, Step};
pub use review::remarks;
pub use store::{count_open_of, lock_all_of, open_of};
pub use view::{ApplicationView, DetailView, MovedView};
pub use waiting::{Waiting, report_stuck, warnings};
pub use worklist::{Detail, Filter, Found, Item, Place, View, detail, list};

/// Reviewers who are reminded, levels that others may sign too, credentials that could not be mailed.
pub fn executors(executors: &mut crate::schedule::Executors) {
    executors.on(waiting::REMIND, |app, conn, task| Box::pin(waiting::remind(app, conn, task)));
    executors
        .on(crate::mail::TELL_UNDELIVERED, |app, conn, task| Box::pin(undelivered::tell(app, conn, task)));
    executors.on(waiting::ESCALATE, |app, conn, task| Box::pin(waiting::escalate(app, conn, task)));
}

/// Scheduled changes are made within seconds of 00:00 of their day; administrators are told within a
/// minute of a form that nobody can sign.
pub fn start_jobs(jobs: &mut crate::jobs::Jobs) {
    jobs.every("applications.apply_due", std::time::Duration::from_secs(5), |app| async move {
        due::apply_due(&app).await?;
        Ok(())
    });
    jobs.every("applications.report_stuck", std::time::Duration::from_secs(60), |app| async move {
        waiting::report_stuck(&app).await?;
        Ok(())
    });
}
