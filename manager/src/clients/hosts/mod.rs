//! Host names in address bindings: the manager resolves them, gateways get the addresses.
//!
//! A name is only compared, never connected to. It is asked for every `host_refresh_s` seconds;
//! the last good answer serves for `host_keep_s` seconds, then the name means nobody, as it does
//! until it was resolved for the first time. Addresses of private networks are refused unless
//! `host_allow_private` says otherwise.

mod actions;
mod model;
mod resolver;
mod store;
#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

pub use actions::{Answered, hold, resolve_due};
pub(super) use actions::{follow, of_client};
pub use model::{Host, HostName, MAX_NAMES, Refusal};
pub use resolver::{Resolver, parse_servers};

use crate::app::App;
use crate::jobs::Jobs;

/// How often the worker looks for names that are due.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The worker that asks for what is due. A name that was just saved is not to wait for its next look.
pub fn start_jobs(jobs: &mut Jobs) {
    let opened: Arc<OnceLock<Resolver>> = Arc::default();
    jobs.every_and_after_commits("host_names", LOOK_EVERY, move |app: App| {
        let opened = opened.clone();
        async move { run(&app, &opened).await }
    });
}

async fn run(app: &App, opened: &OnceLock<Resolver>) -> anyhow::Result<()> {
    // Who binds nobody to a name needs no name server.
    if !actions::is_any_due(app).await? {
        return Ok(());
    }
    let resolver = match opened.get() {
        Some(resolver) => resolver,
        // The system's configuration may be readable later.
        None => {
            let resolver = Resolver::open(&app.config)?;
            opened.get_or_init(|| resolver)
        }
    };
    resolve_due(app, resolver).await?;
    Ok(())
}
