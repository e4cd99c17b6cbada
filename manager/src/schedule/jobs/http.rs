//! `GET /api/v1/jobs`.

use axum::extract::State;
use gate::time::UnixMillis;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::actions;
use super::model::JobRun;
use crate::app::App;
use crate::http::{Json, Permission, Routes};
use crate::problem::Problem;

/// `/api/v1/jobs`.
pub fn routes() -> Routes {
    Routes::of("jobs").permitted(&[Permission::TasksRead], routes!(list))
}

/// The jobs of all replicas.
#[derive(Serialize, ToSchema)]
#[schema(as = Jobs)]
struct JobsJson {
    /// By name and replica.
    items: Vec<JobJson>,
}

/// A background job of a replica. Instants are UTC ms.
#[derive(Serialize, ToSchema)]
#[schema(as = Job)]
struct JobJson {
    job: String,
    /// One life of a process.
    replica: String,
    #[schema(value_type = i64)]
    last_run_at: UnixMillis,
    /// Its last run did what it was to do.
    succeeded: bool,
    /// Null: it has not failed in this life.
    #[schema(value_type = Option<i64>)]
    last_failure_at: Option<UnixMillis>,
    /// Why it failed then.
    last_error: Option<String>,
    /// When the replica last told of itself: each does every 30 s, and is forgotten after a day.
    #[schema(value_type = i64)]
    reported_at: UnixMillis,
}

impl From<JobRun> for JobJson {
    fn from(run: JobRun) -> Self {
        Self {
            job: run.job,
            replica: run.replica,
            last_run_at: run.fared.last_run_at,
            succeeded: run.fared.succeeded,
            last_failure_at: run.fared.last_failure_at,
            last_error: run.fared.last_error,
            reported_at: run.reported_at,
        }
    }
}

/// Show how the background jobs of all replicas fare.
#[utoipa::path(get, path = "/api/v1/jobs")]
async fn list(State(app): State<App>) -> Result<Json<JobsJson>, Problem> {
    let items = actions::all(&app).await?.into_iter().map(JobJson::from).collect();
    Ok(Json(JobsJson { items }))
}
