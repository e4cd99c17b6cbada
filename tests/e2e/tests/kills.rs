//! The manager killed (SIGKILL) at the commits of the last approval and of a send. After its restart
//! the key is issued exactly once, the form is consistent, a repeat with the same `Idempotency-Key`
//! is told the one truth, and the mail goes out once, or is told as maybe repeated.

use std::time::Duration;

use anyhow::{Context, Result};
use e2e::client::{self, Call};
use e2e::commits::Cut;
use e2e::forms::{Form, Team, apply, settled};
use e2e::wait;
use e2e::world::{Database, Plan, World};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(30);

struct Stage {
    world: World,
    team: Team,
    client: String,
    orders: String,
}

async fn stage(name: &str, database: Database, mail_delay_s: u64) -> Result<Stage> {
    let settings = vec![("credential_mail_delay_s", mail_delay_s.to_string())];
    let world = World::start(name, Plan { envoys: 0, database, settings, ..Plan::default() }).await?;
    let team = world.team().await?;
    let orders = world.api("orders", "/orders", json!({})).await?;
    let client = world.client("acme", json!({})).await?;
    Ok(Stage { world, team, client, orders })
}

impl Stage {
    /// A form that lacks its last signature.
    async fn form(&self) -> Result<Form> {
        let form = Form::save("/api/v1", &self.team.ann, apply(&self.client, 5, &[&self.orders])).await?;
        form.hand_in(&self.team.ann, "submit").await?;
        form.sign(&self.team.bob, "approve", "level 1").await?;
        Ok(form)
    }

    async fn keys(&self) -> Result<usize> {
        let keys = self.world.admin.get("/api/v1/keys?limit=200").await?;
        keys["items"].as_array().map(Vec::len).context("a list of keys")
    }

    /// Kills the manager while it is asked, and starts it again.
    async fn killed_while(&mut self, call: &Call, cut: impl Future<Output = Result<()>>) -> Result<()> {
        let (address, call) = (self.world.manager.address, call.clone());
        let asked =
            tokio::spawn(async move { client::http1(address, &call).await.map(|answer| answer.status) });
        cut.await?;
        self.world.manager.kill();
        if let Some(commits) = &self.world.commits {
            commits.heal();
        }
        // Broken off, or answered just before: either is a truth that the repeat has to agree with.
        drop(asked.await?);
        self.world.manager.start().await
    }
}

/// What a repeat is told after the crash: the one answer, or that it was carried out.
fn tells_the_truth(status: u16, code: &str) -> bool {
    status == 200 || (status, code) == (409, "already_carried_out")
}

#[test]
fn killed_at_the_commits_of_the_last_approval() -> Result<()> {
    e2e::run(async {
        let mut stage = stage("kill_approval", Database::CutPostgres, 600).await?;
        let mut issued = 0;
        for (statement, cut, carried_out) in [
            // The approval itself, whose transaction claims the key.
            ("idempotency.claim", Cut::Before, false),
            ("idempotency.claim", Cut::After, true),
            // The answer that is kept for a repeat.
            ("idempotency.answered", Cut::Before, true),
            ("idempotency.answered", Cut::After, true),
        ] {
            let form = stage.form().await?;
            let approval = form.approval(&stage.team.eve, &format!("{statement}-{cut:?}")).await?;
            let commits = stage.world.commits.clone().context("a proxy before the database")?;
            commits.arm(statement, "", cut);
            stage.killed_while(&approval, commits.until_cut(LIMIT)).await?;
            let shown = form.show(&stage.team.eve).await?;
            let state = if carried_out { "approved" } else { "pending_order" };
            assert_eq!(shown["state"], state, "{statement} {cut:?}");

            let told = settled(&stage.world, &approval).await?;
            assert!(tells_the_truth(told.status, &told.code()), "{statement} {cut:?}: {}", told.verdict());
            if !carried_out || (statement, cut) == ("idempotency.answered", Cut::After) {
                assert_eq!(told.status, 200, "{statement} {cut:?}: {}", told.text());
            }
            let again = settled(&stage.world, &approval).await?;
            assert_eq!(again.verdict(), told.verdict(), "the same each time");
            issued += 1;
            assert_eq!(stage.keys().await?, issued, "{statement} {cut:?}: one key for each form");
            assert_eq!(form.show(&stage.team.eve).await?["state"], "approved");
        }
        assert!(stage.world.manager.run(&["audit", "verify"])?.contains("whole"));
        Ok(())
    })
}

#[test]
fn killed_at_the_commits_of_a_send() -> Result<()> {
    e2e::run(async {
        let mut stage = stage("kill_send", Database::CutPostgres, 0).await?;
        let commits = stage.world.commits.clone().context("a proxy before the database")?;
        for (round, (statement, cut, arrives)) in [
            // Claimed or not: not sent yet.
            ("mail.claim", Cut::Before, 1),
            ("mail.claim", Cut::After, 1),
            // Accepted by the server, and not on record: sent again, and told.
            ("mail.sent", Cut::Before, 2),
            ("mail.sent", Cut::After, 1),
        ]
        .into_iter()
        .enumerate()
        {
            let to = format!("round-{round}@example.com");
            // A claim says whose mail it is; what is said of an accepted one names it by its id.
            let text = if statement == "mail.claim" { to.as_str() } else { "" };
            commits.arm(statement, text, cut);
            // It does not wait for the mail to go; its own words are of no interest here.
            let mut command = stage.world.manager.command(&["mail", "test", "--queue", "--to", &to])?;
            let mut queued = command.stdout(std::process::Stdio::null()).spawn()?;
            commits.until_cut(LIMIT).await?;
            stage.world.manager.kill();
            queued.wait()?;
            commits.heal();
            // Claims last for minutes: a day later this one has lapsed.
            stage.world.manager.set_day(i64::try_from(round)? + 1);
            stage.world.manager.start().await?;
            let sent = || async {
                let list = stage.world.admin.get("/api/v1/mails?limit=200").await.ok()?;
                let mail = list["items"].as_array()?.iter().find(|mail| mail["recipient"] == to.as_str())?;
                (mail["state"] == "sent").then(|| mail.clone())
            };
            let mail = wait::until("the mail to be sent", LIMIT, sent).await?;
            let arrived = stage.world.mail.mails().iter().filter(|mail| mail.to.contains(&to)).count();
            assert_eq!(arrived, arrives, "{statement} {cut:?}: {mail:#}");
            if arrived > 1 {
                assert_eq!(mail["maybe_repeated"], true, "{mail:#}");
            }
        }
        Ok(())
    })
}

#[test]
fn killed_at_any_moment_of_the_last_approval_on_sqlite() -> Result<()> {
    e2e::run(async {
        let mut stage = stage("kill_sqlite", Database::Sqlite, 600).await?;
        // An approval takes a few milliseconds: the pauses before the kill go over it and past its end.
        for round in 0..8u64 {
            let form = stage.form().await?;
            let approval = form.approval(&stage.team.eve, &format!("round-{round}")).await?;
            let pause = async {
                tokio::time::sleep(Duration::from_millis(round * round)).await;
                Ok(())
            };
            stage.killed_while(&approval, pause).await?;
            let told = settled(&stage.world, &approval).await?;
            assert!(tells_the_truth(told.status, &told.code()), "{round}: {}", told.text());
            assert_eq!(form.show(&stage.team.eve).await?["state"], "approved", "{round}");
            assert_eq!(stage.keys().await? as u64, round + 1, "one key for each form");
        }
        assert!(stage.world.manager.run(&["audit", "verify"])?.contains("whole"));
        Ok(())
    })
}
