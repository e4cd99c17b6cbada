//! How much clients and visitors may file: each form is a row with a history, and each step with it
//! mails its applicant and reviewers. Operators answer for what they do themselves.

use gate::time::UnixMillis;

use super::applicant::Applicant;
use super::error::ApplicationError;
use super::model::Application;
use super::{history, store, world};
use crate::db::Conn;

/// Forms of one applicant at most that are drafts, wait, or came back.
pub const MAX_OPEN: i64 = 50;
/// Times at most that one applicant hands a form in, or in again, within [`WINDOW_MS`].
pub const MAX_SUBMISSIONS: i64 = 100;
/// Over which those are counted.
pub const WINDOW_MS: i64 = 86_400_000;
/// Versions of a client's form from which on it is edited no more.
pub const MAX_VERSIONS: i64 = 500;
/// Versions of a visitor's form from which on it is edited no more: of each it may learn whether a
/// client of that name exists.
pub const MAX_VERSIONS_OF_VISITOR: i64 = 20;
/// When who has handed in too often tries again: by then some no longer count.
pub(super) const RETRY_AFTER_S: u32 = 3_600;

/// Err: the applicant has as many forms as it may. A client is held already: two at the same moment
/// are not one too many.
pub(super) async fn another(conn: &mut Conn, applicant: &Applicant) -> Result<(), ApplicationError> {
    if bounded(applicant) && store::count_open_by(conn, applicant).await? >= MAX_OPEN {
        return Err(ApplicationError::TooManyOpen);
    }
    Ok(())
}

/// Err: the form has been edited as often as it may.
pub(super) fn another_version(before: &Application) -> Result<(), ApplicationError> {
    let max = match before.applicant {
        Applicant::Operator(_) => return Ok(()),
        Applicant::Client(_) => MAX_VERSIONS,
        Applicant::Visitor { .. } => MAX_VERSIONS_OF_VISITOR,
    };
    if before.version < max { Ok(()) } else { Err(ApplicationError::TooManyVersions { max }) }
}

/// Err: the applicant has handed in as often as it may.
pub(super) async fn another_submission(
    conn: &mut Conn,
    form: &Application,
    now: UnixMillis,
) -> Result<(), ApplicationError> {
    if !bounded(&form.applicant) {
        return Ok(());
    }
    world::hold_client(conn, &form.form).await?;
    let since = UnixMillis(now.0.saturating_sub(WINDOW_MS));
    if history::submissions_by(conn, &form.applicant, since).await? >= MAX_SUBMISSIONS {
        return Err(ApplicationError::TooManySubmissions);
    }
    Ok(())
}

fn bounded(applicant: &Applicant) -> bool {
    match applicant {
        Applicant::Operator(_) => false,
        Applicant::Client(_) | Applicant::Visitor { .. } => true,
    }
}
