//! What is told of a job.

use gate::time::UnixMillis;

use crate::jobs::Fared;

/// How long a replica that no longer tells of itself is remembered.
pub const REMEMBERED_MS: i64 = 86_400_000;

/// A job of a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRun {
    /// `rp_…`: one life of a process.
    pub replica: String,
    /// Its name.
    pub job: String,
    /// How it fared.
    pub fared: Fared,
    /// When the replica last told of itself.
    pub reported_at: UnixMillis,
}
