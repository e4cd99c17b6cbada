//! The manager killed (SIGKILL) at the commits of the last approval and of a send. After its restart
//! the key is issued exactly once, the form is consistent, a repeat with the same `Idempotency-Key`
//! is told the one truth, and the mail goes out once, or is told as maybe repeated.
//!
//! On PostgreSQL the commits are those of named statements; on SQLite all that there are, one after
//! the other, until a manager that is to die at the next one has done its work before it comes.

use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use e2e::client::{self, Call};
use e2e::commits::Cut;
use e2e::commits::sqlite::Executioner;
use e2e::forms::{Form, Team, apply, settled};
use e2e::wait;
use e2e::world::{Database, Plan, World};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(30);
/// An approval and a send have fewer commits than this, with those that happen beside them.
const MOST_COMMITS: u32 = 20;

struct Stage {
    world: World,
    team: Team,
    client: String,
    orders: String,
}

/// A mail on its way.
struct Sending {
    round: i64,
    to: String,
    /// The command that has left it in the outbox.
    queued: Child,
}

/// A mail that has gone.
#[derive(Debug)]
struct Sent {
    /// The manager has lived to record it.
    spared: bool,
    arrived: usize,
    maybe_repeated: bool,
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
    /// From now on the manager can be killed at a commit to SQLite.
    async fn mortal(&mut self) -> Result<Executioner> {
        let executioner = self.world.manager.executioner();
        self.world.manager.stop().await?;
        self.world.manager.start().await?;
        Ok(executioner)
    }

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

    /// Leaves the mail of a round in the outbox.
    fn send(&self, round: i64) -> Result<Sending> {
        let to = format!("round-{round}@example.com");
        Ok(Sending { round, queued: self.queue(&to)?, to })
    }

    /// Waits until the mail is sent, by the manager as it is or by its successor.
    async fn sent_or_killed(&mut self, sending: Sending, executioner: &Executioner) -> Result<Sent> {
        let Sending { round, to, mut queued } = sending;
        let ended = async || (executioner.has_struck() || self.sent(&to).await.is_some()).then_some(());
        wait::until("the mail to be sent, or a death", LIMIT, ended).await?;
        let spared = executioner.spare();
        queued.wait()?;
        if !spared {
            self.world.manager.until_dead(LIMIT).await?;
            // Claims last for minutes: a day later this one has lapsed.
            self.world.manager.set_day(round);
            self.world.manager.start().await?;
        }
        let mail = wait::until("the mail to be sent", LIMIT, async || self.sent(&to).await).await?;
        Ok(Sent { spared, arrived: self.arrived(&to), maybe_repeated: mail["maybe_repeated"] == true })
    }

    /// Leaves a mail in the outbox, without waiting for it to go.
    fn queue(&self, to: &str) -> Result<Child> {
        let mut command = self.world.manager.command(&["mail", "test", "--queue", "--to", to])?;
        // Its words are of no interest here.
        command.stdout(Stdio::null()).spawn().context("start keygate")
    }

    /// The mail of the log, once it is sent.
    async fn sent(&self, to: &str) -> Option<Value> {
        let list = self.world.admin.get("/api/v1/mails?limit=200").await.ok()?;
        let mail = list["items"].as_array()?.iter().find(|mail| mail["recipient"] == to)?;
        (mail["state"] == "sent").then(|| mail.clone())
    }

    /// How often the server has taken the mail.
    fn arrived(&self, to: &str) -> usize {
        self.world.mail.mails().iter().filter(|mail| mail.to.iter().any(|each| each == to)).count()
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
            let mut queued = stage.queue(&to)?;
            commits.until_cut(LIMIT).await?;
            stage.world.manager.kill();
            queued.wait()?;
            commits.heal();
            // Claims last for minutes: a day later this one has lapsed.
            stage.world.manager.set_day(i64::try_from(round)? + 1);
            stage.world.manager.start().await?;
            let mail = wait::until("the mail to be sent", LIMIT, async || stage.sent(&to).await).await?;
            let arrived = stage.arrived(&to);
            assert_eq!(arrived, arrives, "{statement} {cut:?}: {mail:#}");
            if arrived > 1 {
                assert_eq!(mail["maybe_repeated"], true, "{mail:#}");
            }
        }
        Ok(())
    })
}

#[test]
fn killed_at_every_commit_of_the_last_approval_on_sqlite() -> Result<()> {
    e2e::run(async {
        let mut stage = stage("kill_approval_sqlite", Database::Sqlite, 600).await?;
        let executioner = stage.mortal().await?;
        let (mut deaths, mut undisturbed) = (Vec::new(), false);
        let mut issued = 0;
        for (count, cut) in (1..=MOST_COMMITS).flat_map(|count| [(count, Cut::Before), (count, Cut::After)]) {
            let form = stage.form().await?;
            let approval = form.approval(&stage.team.eve, &format!("{count}-{cut:?}")).await?;
            executioner.arm(count, cut)?;
            let answered = client::http1(stage.world.manager.address, &approval).await.is_ok();
            let spared = executioner.spare();
            if !spared {
                stage.world.manager.until_dead(LIMIT).await?;
                stage.world.manager.start().await?;
                deaths.push(form.show(&stage.team.eve).await?["state"].clone());
            }
            let told = settled(&stage.world, &approval).await?;
            assert!(tells_the_truth(told.status, &told.code()), "{count} {cut:?}: {}", told.text());
            assert_eq!(form.show(&stage.team.eve).await?["state"], "approved", "{count} {cut:?}");
            issued += 1;
            assert_eq!(stage.keys().await?, issued, "{count} {cut:?}: one key for each form");
            undisturbed = answered && spared;
            if undisturbed {
                break;
            }
        }
        assert!(undisturbed, "it was killed at each of its commits: {deaths:?}");
        assert!(deaths.contains(&json!("pending_order")), "killed before it was approved: {deaths:?}");
        assert!(deaths.contains(&json!("approved")), "killed after it was approved: {deaths:?}");
        assert!(stage.world.manager.run(&["audit", "verify"])?.contains("whole"));
        Ok(())
    })
}

#[test]
fn killed_at_every_commit_of_a_send_on_sqlite() -> Result<()> {
    e2e::run(async {
        let mut stage = stage("kill_send_sqlite", Database::Sqlite, 0).await?;
        let executioner = stage.mortal().await?;
        let cuts = (1..=MOST_COMMITS).flat_map(|count| [(count, Cut::Before), (count, Cut::After)]);
        let mut rounds = 1..;
        let mut undisturbed = false;
        for ((count, cut), round) in cuts.zip(&mut rounds) {
            executioner.arm(count, cut)?;
            let sending = stage.send(round)?;
            let sent = stage.sent_or_killed(sending, &executioner).await?;
            let told = sent.arrived == 1 || sent.maybe_repeated;
            assert!(told && (1..=2).contains(&sent.arrived), "{count} {cut:?}: {sent:?}");
            undisturbed = sent.spared;
            if undisturbed {
                assert_eq!(sent.arrived, 1, "{count} {cut:?}: {sent:?}");
                break;
            }
        }
        assert!(undisturbed, "it was killed at each of its commits");

        // Whatever commits happen beside it: the next one after the server has taken the mail.
        for (cut, round) in [Cut::Before, Cut::After].into_iter().zip(rounds) {
            let armed = executioner.clone();
            stage.world.mail.before_accepting(move || armed.arm(1, cut).expect("an order to die"));
            let sending = stage.send(round)?;
            let taken = async || (stage.arrived(&sending.to) > 0).then_some(());
            wait::until("the server to have the mail", LIMIT, taken).await?;
            let sent = stage.sent_or_killed(sending, &executioner).await?;
            assert!(!sent.spared, "{cut:?}: {sent:?}");
            if matches!(cut, Cut::Before) {
                assert!(sent.arrived == 2 && sent.maybe_repeated, "not on record as sent: {sent:?}");
            } else {
                assert!(sent.arrived == 1 || sent.maybe_repeated, "{sent:?}");
            }
        }
        Ok(())
    })
}
