//! Something that is to happen.

use gate::time::UnixMillis;

/// Something that is to happen by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// When; what is late stands first.
    pub due_at: UnixMillis,
    /// What: the kind of a task, `applications.apply`, `catalog.enable_api`, `catalog.disable_api`.
    pub kind: String,
    /// Of what: `key`, `application`, `api` …
    pub about_kind: String,
    /// Its id.
    pub about_id: String,
    /// The task, where it is one.
    pub task: Option<String>,
}
