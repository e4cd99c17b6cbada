//! Mail servers that refuse, hang, hang up and die, and a real manager that has mails for them: what
//! reaches the reviewers and the client in the end, what whoever hands a form in is told meanwhile,
//! and what the mail log says of it.

use std::time::Duration;

use anyhow::{Context, Result};
use e2e::api;
use e2e::cast::Pair;
use e2e::client::{self, Call};
use e2e::forms::{Form, Team, apply};
use e2e::smtp::{At, Catcher, Does, Fault, Mail};
use e2e::wait;
use e2e::world::{Database, Plan, World};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(30);
const BOB: &str = "bob@example.com";
const CLIENT: &str = "acme@example.com";

struct Stage {
    world: World,
    team: Team,
    client: String,
    orders: String,
    /// Days since the first.
    day: i64,
}

async fn stage(name: &str, database: Database, settings: &[(&'static str, String)]) -> Result<Stage> {
    let mut settings = settings.to_vec();
    settings.push(("credential_mail_delay_s", "0".to_owned()));
    // Days pass here, and nobody needs reminding.
    settings.push(("review_reminder_h", "0".to_owned()));
    let world = World::start(name, Plan { envoys: 0, database, settings, ..Plan::default() }).await?;
    let team = world.team().await?;
    let orders = world.api("orders", "/orders", json!({})).await?;
    let client = world.client("acme", json!({})).await?;
    let stage = Stage { world, team, client, orders, day: 0 };
    stage.until_none_waits().await?;
    Ok(stage)
}

impl Stage {
    /// A form that is handed in, which has a mail to bob written; and what the answer said.
    async fn hand_in(&self) -> Result<(Form, Value)> {
        let mut form = apply(&self.client, 5, &[&self.orders]);
        form["effective_date"] = wait::day(self.day).into();
        let form = Form::save("/api/v1", &self.team.ann, form).await?;
        let answer = form.hand_in(&self.team.ann, "submit").await?;
        Ok((form, answer))
    }

    /// Of the mail log: the mail to `recipient` about `about`, if it is written.
    async fn logged(&self, recipient: &str, about: &str) -> Result<Option<Value>> {
        let list = self.world.admin.get(&format!("/api/v1/mails?limit=200&about={about}")).await?;
        let mails = list["items"].as_array().context("a list of mails")?;
        let Some(mail) = mails.iter().find(|mail| mail["recipient"] == recipient) else { return Ok(None) };
        Ok(Some(self.world.admin.get(&format!("/api/v1/mails/{}", api::text(mail, "id")?)).await?))
    }

    /// The same, once it is as `seen` wants it.
    async fn until_logged(
        &self,
        what: &str,
        recipient: &str,
        about: &str,
        seen: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        wait::until(what, LIMIT, async || {
            self.logged(recipient, about).await.ok().flatten().filter(|mail| seen(mail))
        })
        .await
    }

    async fn until_sent(&self, recipient: &str, about: &str) -> Result<Value> {
        self.until_logged("the mail to be sent", recipient, about, |mail| mail["state"] == "sent").await
    }

    /// What arrived for `recipient` whose text or subject has `needle`.
    fn arrived(&self, at: &Catcher, recipient: &str, needle: &str) -> Vec<Mail> {
        let about_it = |mail: &Mail| mail.text.contains(needle) || mail.subject.contains(needle);
        let to_it = |mail: &Mail| mail.to.iter().any(|to| to == recipient);
        at.mails().into_iter().filter(|mail| to_it(mail) && about_it(mail)).collect()
    }

    /// Whatever was to wait has waited: pauses of servers, times between attempts.
    async fn next_day(&mut self) -> Result<()> {
        self.world.manager.stop().await?;
        self.day += 1;
        self.world.manager.set_day(self.day);
        self.world.manager.start().await
    }

    /// What `/readyz` says of mails, once each is sent or given up.
    async fn until_none_waits(&self) -> Result<Value> {
        wait::until("the end of all mails", LIMIT, async || {
            self.health().await.ok().filter(|health| health["waiting"] == 0)
        })
        .await
    }

    /// What `/readyz` says of mails, once the last failure was that of `step`. A server that takes no
    /// mail at all is asked with whichever is due longest.
    async fn until_failing(&self, step: &str) -> Result<Value> {
        wait::until(step, LIMIT, async || {
            let health = self.health().await.ok()?;
            health["last_error"].as_str().is_some_and(|told| told.contains(step)).then_some(health)
        })
        .await
    }

    /// What `/readyz` says of mails.
    async fn health(&self) -> Result<Value> {
        let answer = client::http1(self.world.manager.address, &Call::get("/readyz")).await?;
        assert_eq!(answer.status, 200, "mails that do not go make nothing unready: {}", answer.text());
        Ok(answer.json()["mail"].clone())
    }
}

fn number(answer: &Value) -> Result<String> {
    api::text(answer, "number")
}

fn about(form: &Form) -> String {
    format!("application:{}", form.id)
}

fn outcomes(mail: &Value) -> Vec<&str> {
    let history = mail["history"].as_array().map(Vec::as_slice).unwrap_or_default();
    history.iter().filter_map(|attempt| attempt["outcome"].as_str()).collect()
}

fn error(mail: &Value) -> &str {
    mail["error"].as_str().unwrap_or_default()
}

fn warnings(answer: &Value) -> Vec<&str> {
    let warnings = answer["warnings"].as_array().map(Vec::as_slice).unwrap_or_default();
    warnings.iter().filter_map(|warning| warning["code"].as_str()).collect()
}

#[test]
fn a_mail_that_is_refused_for_now_is_sent_later() -> Result<()> {
    e2e::run(async {
        let mut stage = stage("mail_refused_for_now", Database::Sqlite, &[]).await?;
        let mail = stage.world.mail.clone();
        for at in [At::Recipient, At::Message] {
            mail.turns(Some(Fault::new(at, Does::Says(451, "4.3.0 Try again later")).only(BOB)));
            let (form, answer) = stage.hand_in().await?;
            let about = about(&form);
            let failed = |mail: &Value| mail["attempts"] == 1 && mail["state"] == "waiting";
            let waits = stage.until_logged("a failed attempt", BOB, &about, failed).await?;
            assert_eq!(outcomes(&waits), ["postponed"], "{waits:#}");
            assert!(error(&waits).contains("451 4.3.0 Try again later"), "{waits:#}");
            assert!(waits["next_attempt_at"].is_i64(), "{waits:#}");
            stage.until_failing("451 4.3.0 Try again later").await?;

            mail.turns(None);
            stage.next_day().await?;
            let sent = stage.until_sent(BOB, &about).await?;
            assert_eq!(outcomes(&sent), ["postponed", "accepted"], "{sent:#}");
            assert_eq!((&sent["attempts"], &sent["maybe_repeated"]), (&json!(2), &json!(false)), "{sent:#}");
            assert_eq!(stage.arrived(&mail, BOB, &number(&answer)?).len(), 1);
            assert_eq!(stage.health().await?["status"], "ok");
        }
        Ok(())
    })
}

#[test]
fn a_mail_that_is_refused_for_good_is_told_to_whoever_causes_the_next() -> Result<()> {
    e2e::run(async {
        let stage = stage("mail_refused_for_good", Database::Sqlite, &[]).await?;
        let mail = stage.world.mail.clone();
        mail.turns(Some(Fault::new(
            At::Recipient,
            Does::Says(550, "5.1.1 No such mailbox <bob@example.com>"),
        )));
        let (form, answer) = stage.hand_in().await?;
        assert_eq!(warnings(&answer), [""; 0], "nothing had failed yet");
        let given_up = |mail: &Value| mail["state"] == "failed";
        let failed = stage.until_logged("the mail to be given up", BOB, &about(&form), given_up).await?;
        assert_eq!((outcomes(&failed), &failed["attempts"]), (vec!["refused"], &json!(1)), "{failed:#}");
        assert!(error(&failed).contains("RCPT TO: 550 5.1.1 No such mailbox"), "{failed:#}");
        assert!(failed["failed_at"].is_i64(), "{failed:#}");

        let health = stage.until_none_waits().await?;
        assert_eq!(health["status"], "degraded", "{health:#}");
        let told = health["last_error"].as_str().unwrap_or_default();
        assert!(told.contains("550 5.1.1 No such mailbox"), "{health:#}");
        assert!(!health.to_string().contains(BOB), "probes need not know who gets mails: {health:#}");
        assert_eq!(warnings(&health), ["mail_failing"], "{health:#}");

        // Submitting and approving are done all the same, and say so.
        let (_, answer) = stage.hand_in().await?;
        assert_eq!((&answer["state"], warnings(&answer)), (&json!("pending_order"), vec!["mail_failing"]));
        let answer = form.sign(&stage.team.bob, "approve", "level 1").await?;
        assert_eq!((&answer["level"], warnings(&answer)), (&json!(2), vec!["mail_failing"]), "{answer:#}");

        // With another mailbox it goes out from the log.
        stage.until_none_waits().await?;
        mail.turns(None);
        let resend = format!("/api/v1/mails/{}/resend", api::text(&failed, "id")?);
        stage.world.admin.post(&resend, Value::Null).await?;
        stage.until_sent(BOB, &about(&form)).await?;
        assert_eq!(stage.arrived(&mail, BOB, &number(&form.show(&stage.team.ann).await?)?).len(), 1);
        let health = stage.health().await?;
        assert_eq!((&health["status"], warnings(&health)), (&json!("ok"), vec![]), "{health:#}");
        Ok(())
    })
}

#[test]
fn a_server_that_hangs_is_left_after_its_time() -> Result<()> {
    e2e::run(async {
        let mut stage = stage("mail_hangs", Database::Sqlite, &[]).await?;
        let mail = stage.world.mail.clone();
        stage.world.manager.set_haste(20);
        for (at, step, outcome, arrives) in [
            (At::Greeting, "greeting: no answer in time (30 s)", None, 1),
            (At::Recipient, "RCPT TO: no answer in time (30 s)", Some("postponed"), 1),
            // The server has it, and does not say so.
            (At::Message, "message: no answer in time (60 s)", Some("answer_lost"), 2),
        ] {
            let fault = Fault::new(at, Does::Hangs);
            mail.turns(Some(if at == At::Greeting { fault } else { fault.only(BOB) }));
            stage.next_day().await?;
            let (form, answer) = stage.hand_in().await?;
            let about = about(&form);
            stage.until_failing(step).await?;
            let left = |mail: &Value| mail["state"] == "waiting" && error(mail).contains(step);
            let waits = stage.until_logged("a mail that was left", BOB, &about, left).await?;
            assert_eq!(outcomes(&waits).first().copied(), outcome, "{waits:#}");

            mail.turns(None);
            stage.next_day().await?;
            let sent = stage.until_sent(BOB, &about).await?;
            assert_eq!(sent["maybe_repeated"], arrives > 1, "{sent:#}");
            assert_eq!(stage.arrived(&mail, BOB, &number(&answer)?).len(), arrives, "{at:?}: {sent:#}");
        }
        Ok(())
    })
}

#[test]
fn an_answer_that_is_cut_off_has_the_mail_sent_again_on_sqlite() -> Result<()> {
    e2e::run(cut_after_the_mail("mail_cut_sqlite", Database::Sqlite))
}

#[test]
fn an_answer_that_is_cut_off_has_the_mail_sent_again_on_postgres() -> Result<()> {
    e2e::run(cut_after_the_mail("mail_cut_postgres", Database::Postgres))
}

async fn cut_after_the_mail(name: &str, database: Database) -> Result<()> {
    let mut stage = stage(name, database, &[]).await?;
    let mail = stage.world.mail.clone();
    let (form, _) = stage.hand_in().await?;
    mail.turns(Some(Fault::new(At::Message, Does::HangsUp).only(CLIENT)));
    form.approve(&stage.team).await?;
    let keys = stage.world.admin.get(&format!("/api/v1/keys?client={}", stage.client)).await?;
    let about = format!("key:{}", api::text(&keys["items"][0], "id")?);

    // The server has it, and its answer is lost: nobody can know.
    let unanswered = |mail: &Value| mail["maybe_repeated"] == true;
    let waits = stage.until_logged("a lost answer", CLIENT, &about, unanswered).await?;
    assert_eq!((&waits["state"], outcomes(&waits)), (&json!("waiting"), vec!["answer_lost"]), "{waits:#}");
    assert!(error(&waits).contains("message: the server hung up"), "{waits:#}");
    assert_eq!(stage.arrived(&mail, CLIENT, "API Key: ").len(), 1);

    mail.turns(None);
    stage.next_day().await?;
    let sent = stage.until_sent(CLIENT, &about).await?;
    assert_eq!(outcomes(&sent), ["answer_lost", "accepted"], "{sent:#}");
    assert_eq!(sent["maybe_repeated"], true, "{sent:#}");
    let [first, second] = <[Mail; 2]>::try_from(stage.arrived(&mail, CLIENT, "API Key: "))
        .map_err(|mails| anyhow::anyhow!("twice, not {}", mails.len()))?;
    assert!(!first.id.is_empty() && first.id == second.id, "one Message-ID, so that readers see one mail");
    assert_eq!(Pair::in_mail(&first)?.secret_key, Pair::in_mail(&second)?.secret_key, "one key");
    Ok(())
}

#[test]
fn a_server_that_was_dead_loses_nothing_on_sqlite() -> Result<()> {
    e2e::run(dead_meanwhile("mail_dead_sqlite", Database::Sqlite))
}

#[test]
fn a_server_that_was_dead_loses_nothing_on_postgres() -> Result<()> {
    e2e::run(dead_meanwhile("mail_dead_postgres", Database::Postgres))
}

async fn dead_meanwhile(name: &str, database: Database) -> Result<()> {
    let mut stage = stage(name, database, &[]).await?;
    let mail = stage.world.mail.clone();
    mail.dies().await;
    let (first, answer) = stage.hand_in().await?;
    stage.until_failing("connecting: ").await?;
    let mut numbers = vec![number(&answer)?];
    for _ in 0..3 {
        let (_, answer) = stage.hand_in().await?;
        assert_eq!(warnings(&answer), ["mail_failing"]);
        numbers.push(number(&answer)?);
    }
    first.approve(&stage.team).await?;
    let health = stage.health().await?;
    assert_eq!(health["status"], "degraded", "{health:#}");
    let due = health["due"].as_i64().unwrap_or_default();
    assert!(due > 4, "reviewers, applicant and client: {health:#}");

    // Dead for a day, over a restart: they grow older, and no attempt counts against them.
    stage.next_day().await?;
    let health = wait::until("another refused connection", LIMIT, async || {
        let later = stage.health().await.ok()?;
        (later["last_failure_at"].as_i64() > health["last_failure_at"].as_i64()).then_some(later)
    })
    .await?;
    assert!(health["oldest_unsent_s"].as_i64() >= Some(86_000), "{health:#}");
    assert_eq!(health["due"], due, "{health:#}");
    let waiting = |mail: &Value| mail["state"] == "waiting";
    let waits = stage.until_logged("a mail that waits", BOB, &about(&first), waiting).await?;
    assert_eq!(outcomes(&waits), [""; 0], "{waits:#}");

    // A trial that goes well ends the server's rest.
    mail.listen()?;
    stage.world.manager.run(&["mail", "test", "--to", "admin@example.com"])?;
    let all = wait::until("all mails to be sent", LIMIT, async || {
        let list = stage.world.admin.get("/api/v1/mails?limit=200").await.ok()?;
        let mails = list["items"].as_array()?.clone();
        mails.iter().all(|mail| mail["state"] == "sent").then_some(mails)
    })
    .await?;
    assert!(all.iter().all(|mail| mail["maybe_repeated"] == false), "{all:#?}");
    assert_eq!(mail.mails().len(), all.len() + 1, "each once, and the trial");
    for number in &numbers {
        assert_eq!(stage.arrived(&mail, BOB, number).len(), 1);
    }
    Pair::in_mail(stage.arrived(&mail, CLIENT, "API Key: ").first().context("the client's mail")?)?;
    let health = stage.health().await?;
    assert_eq!((&health["status"], &health["due"]), (&json!("ok"), &json!(0)), "{health:#}");
    Ok(())
}

#[test]
fn the_secondary_server_stands_in_but_not_for_a_lost_answer() -> Result<()> {
    e2e::run(async {
        let second = Catcher::start()?;
        let settings = [
            ("smtp_secondary_host", "\"127.0.0.1\"".to_owned()),
            ("smtp_secondary_port", second.address.port().to_string()),
            ("smtp_secondary_security", "\"none\"".to_owned()),
        ];
        let mut stage = stage("mail_secondary", Database::Sqlite, &settings).await?;
        let first = stage.world.mail.clone();

        // Refused for now, refused for good: the second one is asked in the same attempt.
        for (refusal, outcome) in [
            (Does::Says(451, "4.3.0 Try again later"), "postponed"),
            (Does::Says(550, "5.1.1 No such mailbox"), "refused"),
        ] {
            first.turns(Some(Fault::new(At::Recipient, refusal)));
            let (form, answer) = stage.hand_in().await?;
            let sent = stage.until_sent(BOB, &about(&form)).await?;
            assert_eq!((&sent["via"], &sent["attempts"]), (&json!("secondary"), &json!(1)), "{sent:#}");
            assert_eq!(outcomes(&sent), [outcome, "accepted"], "{sent:#}");
            assert_eq!(stage.arrived(&second, BOB, &number(&answer)?).len(), 1);
            let health = stage.health().await?;
            assert_eq!(warnings(&health), ["mail_server_failing"], "mails go out, by one of two: {health:#}");
        }

        // Perhaps it has arrived: the second one would make two of it at once.
        first.turns(Some(Fault::new(At::Message, Does::HangsUp).only(BOB)));
        let (form, answer) = stage.hand_in().await?;
        let unanswered = |mail: &Value| mail["maybe_repeated"] == true;
        stage.until_logged("a lost answer", BOB, &about(&form), unanswered).await?;
        let number = number(&answer)?;
        let arrived = |stage: &Stage| {
            (stage.arrived(&first, BOB, &number).len(), stage.arrived(&second, BOB, &number).len())
        };
        assert_eq!(arrived(&stage), (1, 0));

        // Dead, with what waits since.
        first.dies().await;
        stage.next_day().await?;
        let sent = stage.until_sent(BOB, &about(&form)).await?;
        assert_eq!(sent["via"], "secondary", "{sent:#}");
        assert_eq!(outcomes(&sent), ["answer_lost", "unavailable", "accepted"], "{sent:#}");
        assert_eq!(arrived(&stage), (1, 1));

        // Both dead: it waits for either.
        second.dies().await;
        let (form, _) = stage.hand_in().await?;
        let both = wait::until("a refused connection", LIMIT, async || {
            let health = stage.health().await.ok()?;
            (warnings(&health) == ["mail_failing"]).then_some(health)
        })
        .await?;
        assert!(both["last_error"].as_str().is_some_and(|told| told.contains("connecting: ")), "{both:#}");
        let waiting = |mail: &Value| mail["state"] == "waiting";
        stage.until_logged("a mail that waits", BOB, &about(&form), waiting).await?;
        second.listen()?;
        stage.next_day().await?;
        assert_eq!(stage.until_sent(BOB, &about(&form)).await?["via"], "secondary");
        Ok(())
    })
}
