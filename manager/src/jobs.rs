//! Background jobs: named, stoppable, one failure never ends them. With several replicas every
//! replica runs every job; what a job takes it claims in the database.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gate::time::UnixMillis;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::app::App;

/// After a commit: how long a job waits for further ones, so that a busy process does not run it
/// for each.
const GATHER: Duration = Duration::from_millis(50);

/// The running jobs of a process.
pub struct Jobs {
    app: App,
    stop: watch::Sender<bool>,
    running: Vec<(&'static str, JoinHandle<()>)>,
}

/// How the jobs of this process fared: what is told of them elsewhere. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<Mutex<BTreeMap<&'static str, Fared>>>);

/// How one job fared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fared {
    /// When it ended last.
    pub last_run_at: UnixMillis,
    /// Whether it succeeded then.
    pub succeeded: bool,
    /// When it failed last; None: it has not since the process began.
    pub last_failure_at: Option<UnixMillis>,
    /// Why.
    pub last_error: Option<String>,
}

impl Board {
    /// Every job that has run, by name.
    pub fn all(&self) -> BTreeMap<&'static str, Fared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, job: &'static str, error: Option<String>, now: UnixMillis) {
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = Fared { last_run_at: now, succeeded: true, last_failure_at: None, last_error: None };
        let fared = jobs.entry(job).or_insert(first);
        (fared.last_run_at, fared.succeeded) = (now, error.is_none());
        if error.is_some() {
            (fared.last_failure_at, fared.last_error) = (Some(now), error);
        }
    }
}

/// Tells a job that the process is about to end.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<bool>);

impl Jobs {
    /// No jobs yet.
    pub fn new(app: App) -> Self {
        Self { app, stop: watch::Sender::new(false), running: Vec::new() }
    }

    /// What the jobs are given.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Runs `job` until it returns; it watches [`Stop`] itself.
    pub fn spawn<F, Fut>(&mut self, name: &'static str, job: F)
    where
        F: FnOnce(App, Stop) -> Fut,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let work = job(self.app.clone(), Stop(self.stop.subscribe()));
        self.running.push((name, tokio::spawn(work)));
    }

    /// Runs `step` again and again, `pause` apart. A failed step is logged and counted.
    pub fn every<F, Fut>(&mut self, name: &'static str, pause: Duration, step: F)
    where
        F: FnMut(App) -> Fut + Send + 'static,
        Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        self.repeat(name, pause, false, step);
    }

    /// As [`Jobs::every`], and soon after each commit of this process: one may have brought work.
    pub fn every_and_after_commits<F, Fut>(&mut self, name: &'static str, pause: Duration, step: F)
    where
        F: FnMut(App) -> Fut + Send + 'static,
        Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        self.repeat(name, pause, true, step);
    }

    fn repeat<F, Fut>(&mut self, name: &'static str, pause: Duration, after_commits: bool, mut step: F)
    where
        F: FnMut(App) -> Fut + Send + 'static,
        Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        self.spawn(name, move |app, mut stop| async move {
            loop {
                // Heard from before the step on: what is committed while it runs may be too late for it.
                let committed = app.db.committed();
                tokio::pin!(committed);
                committed.as_mut().enable();
                let result = step(app.clone()).await;
                let outcome = if result.is_ok() { "done" } else { "failed" };
                let error = result.as_ref().err().map(|error| format!("{error:#}"));
                app.job_board.note(name, error, app.now());
                app.metrics.add("keygate_job_runs_total", &[("job", name), ("outcome", outcome)], 1);
                // What failed is not tried again the sooner.
                let listening = after_commits && result.is_ok();
                if let Err(error) = result {
                    tracing::error!(job = name, "Job {name} failed and will be tried again: {error:#}");
                }
                let stopped = tokio::select! {
                    stopped = stop.within(pause) => stopped,
                    () = committed, if listening => stop.within(GATHER).await,
                };
                if stopped {
                    return;
                }
            }
        });
    }

    /// Tells every job to stop and waits for them, `grace` at most.
    pub async fn stop(self, grace: Duration) {
        // No receiver left means that every job has ended by itself.
        let _ = self.stop.send(true);
        for (name, mut job) in self.running {
            if tokio::time::timeout(grace, &mut job).await.is_err() {
                tracing::warn!(job = name, "Job {name} did not stop in time and was cut off");
                job.abort();
            }
        }
    }
}

impl Stop {
    /// Sleeps for `pause`, or until the process is about to end: then true.
    pub async fn within(&mut self, pause: Duration) -> bool {
        tokio::time::timeout(pause, self.0.wait_for(|stop| *stop)).await.is_ok()
    }

    /// Waits until the process is about to end.
    pub async fn requested(&mut self) {
        // An error means that the sender is gone: that is an end too.
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test]
    async fn a_failing_step_does_not_end_a_job_and_stopping_does() {
        let world = World::sqlite().await;
        let runs = Arc::new(AtomicU32::new(0));
        let mut jobs = Jobs::new(world.app.clone());
        let counter = runs.clone();
        jobs.every("test", Duration::from_millis(1), move |_| {
            let n = counter.fetch_add(1, Ordering::Relaxed);
            async move { if n == 0 { Err(anyhow::anyhow!("first")) } else { Ok(()) } }
        });
        while runs.load(Ordering::Relaxed) < 3 {
            tokio::task::yield_now().await;
        }
        jobs.stop(Duration::from_secs(5)).await;
        let after = runs.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(runs.load(Ordering::Relaxed), after);
        assert!(
            world.app.metrics.render().contains("keygate_job_runs_total{job=\"test\",outcome=\"failed\"} 1")
        );
        let fared = world.app.job_board.all().remove("test").expect("it ran");
        assert_eq!((fared.succeeded, fared.last_error.as_deref()), (true, Some("first")));
    }

    #[tokio::test]
    async fn a_job_that_hears_of_commits_runs_soon_after_one_and_stops_at_once() {
        let world = World::sqlite().await;
        let runs = Arc::new(AtomicU32::new(0));
        let mut jobs = Jobs::new(world.app.clone());
        let counter = runs.clone();
        jobs.every_and_after_commits("test", Duration::from_secs(3_600), move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
            async { Ok(()) }
        });
        for expected in 1..=3 {
            let ran = async {
                while runs.load(Ordering::Relaxed) < expected {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(10), ran).await.expect("soon after a commit");
            world
                .app
                .db
                .write("test.commit")
                .await
                .expect("a transaction")
                .commit()
                .await
                .expect("committed");
        }
        tokio::time::timeout(Duration::from_secs(10), jobs.stop(Duration::from_secs(60)))
            .await
            .expect("it does not sleep on");
    }
}
