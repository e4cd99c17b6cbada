//! What probes, metrics and warnings tell, on both databases.

use serde_json::json;

use super::super::contexts::{MailContext as _, TestMail};
use super::super::smtp::server::{At, Fault, Manner, Server};
use super::super::tests::{run, smtp, transport, with_secondary, write};
use super::{Warning, warnings};
use crate::app::App;
use crate::config::Config;
use crate::testing::World;

/// Does not take mails from here, whoever they are for.
fn closed() -> Manner {
    Manner::fails(At::Recipient, Fault::Says("554 5.7.1 <anna@example.com>: Relay access denied"))
}

async fn warned(app: &App) -> Vec<Warning> {
    warnings(&mut app.db.read().await.expect("a connection"), app).await.expect("the database answers")
}

#[tokio::test]
async fn without_a_transport_everybody_is_told_that_mails_wait() {
    for world in World::both().await {
        write(&world.app, TestMail::sample(), 10_000).await;
        let [warning] = &warned(&world.app).await[..] else { panic!("one warning") };
        assert_eq!(warning.code, "mail_not_configured");
        assert!(warning.message.contains("1 mail waits"), "{}", warning.message);
        assert!(warning.message.contains("smtp_host"), "{}", warning.message);

        let mail = |ready: serde_json::Value| ready["mail"].clone();
        let ready = mail(world.anon().get("/readyz").await.expect(200));
        assert_eq!((&ready["status"], &ready["waiting"]), (&json!("degraded"), &json!(1)));
        assert_eq!(
            (&ready["due"], &ready["oldest_unsent_s"]),
            (&json!(0), &json!(null)),
            "its time has not come"
        );
        assert_eq!(ready["warnings"][0]["code"], "mail_not_configured");

        world.advance_ms(10_000 + 61_000);
        let ready = mail(world.anon().get("/readyz").await.expect(200));
        assert_eq!((&ready["due"], &ready["oldest_unsent_s"]), (&json!(1), &json!(61)));
        let metrics = world.anon().get("/metrics").await.expect(200);
        let metrics = metrics.as_str().expect("text");
        for line in
            ["keygate_mails_waiting 1\n", "keygate_mails_due 1\n", "keygate_mails_oldest_due_seconds 61\n"]
        {
            assert!(metrics.contains(line), "{metrics}");
        }
    }
}

#[tokio::test]
async fn a_failed_attempt_is_told_until_a_mail_goes_out_again() {
    let server = Server::start(closed()).await;
    let config = smtp(&server);
    let with_server = |settings: &mut Config| *settings = config.clone();
    for world in World::both_with(with_server).await {
        server.turns(closed());
        let transport = transport(&config);
        assert_eq!(warned(&world.app).await, [], "nothing has been tried yet");

        write(&world.app, TestMail::sample(), 0).await;
        run(&world.app, &transport).await;
        let [warning] = &warned(&world.app).await[..] else { panic!("one warning") };
        assert_eq!(warning.code, "mail_failing");
        assert!(warning.message.contains("554"), "{}", warning.message);
        assert!(!warning.clone().without_details().message.contains("554"));
        let ready = world.anon().get("/readyz").await.expect(200);
        assert_eq!((&ready["status"], &ready["mail"]["status"]), (&json!("ready"), &json!("degraded")));
        assert_eq!(ready["mail"]["last_failure_at"], World::START.0);
        assert!(!ready.to_string().contains("anna@example.com"), "{ready}");

        server.turns(Manner::accepts());
        world.advance_ms(3_600_000);
        run(&world.app, &transport).await;
        assert_eq!(warned(&world.app).await, []);
        let ready = world.anon().get("/readyz").await.expect(200);
        assert_eq!((&ready["mail"]["status"], &ready["mail"]["waiting"]), (&json!("ok"), &json!(0)));
        assert_eq!(ready["mail"]["last_success_at"], World::START.0 + 3_600_000);
    }
}

#[tokio::test]
async fn a_refusal_of_one_recipient_is_told_and_counted_until_another_mail_goes_out() {
    for answer in ["451 4.7.1 <anna@example.com>: Greylisted", "550 5.1.1 <anna@example.com>: no such user"] {
        let server = Server::start(Manner::fails(At::Recipient, Fault::Says(answer))).await;
        let config = smtp(&server);
        for world in World::both_with(|settings| *settings = config.clone()).await {
            server.turns(Manner::fails(At::Recipient, Fault::Says(answer)));
            write(&world.app, TestMail::sample(), 0).await;
            run(&world.app, &transport(&config)).await;
            let codes: Vec<_> = warned(&world.app).await.iter().map(|warning| warning.code).collect();
            assert_eq!(codes, ["mail_failing"], "{answer}");
            let ready = world.anon().get("/readyz").await.expect(200);
            let given_up = i64::from(answer.starts_with("550"));
            assert_eq!(ready["mail"]["failed_last_day"], json!(given_up), "{answer}");
            server.turns(Manner::accepts());
            world.advance_ms(86_400_000);
            write(&world.app, TestMail::sample(), 0).await;
            run(&world.app, &transport(&config)).await;
            assert_eq!(warned(&world.app).await, [], "{answer}");
            let ready = world.anon().get("/readyz").await.expect(200);
            assert_eq!(ready["mail"]["failed_last_day"], 0, "that was yesterday");
        }
    }
}

#[tokio::test]
async fn a_server_for_which_the_other_stands_in_is_told_to_probes_alone() {
    let first = Server::start(Manner::fails(At::Greeting, Fault::HangsUp)).await;
    let second = Server::start(Manner::accepts()).await;
    let config = with_secondary(smtp(&first), &second);
    for world in World::both_with(|settings| *settings = config.clone()).await {
        write(&world.app, TestMail::sample(), 0).await;
        assert_eq!(run(&world.app, &transport(&config)).await.sent, 1);
        assert_eq!(warned(&world.app).await, [], "mails go out");
        let ready = world.anon().get("/readyz").await.expect(200);
        let [warning] = &ready["mail"]["warnings"].as_array().expect("a list")[..] else { panic!("{ready}") };
        assert_eq!(
            (&ready["mail"]["status"], &warning["code"]),
            (&json!("degraded"), &json!("mail_server_failing"))
        );
        let message = warning["message"].as_str().expect("a sentence");
        assert!(message.contains(&format!("127.0.0.1:{} fails", first.port)), "{message}");
    }
}

#[test]
fn addresses_of_people_are_left_out() {
    for (text, expected) in [
        ("mx:25, recipient: 550 <anna@example.com>: unknown", "mx:25, recipient: 550 <address> unknown"),
        ("nobody here", "nobody here"),
        ("a@b\nc", "<address>\nc"),
    ] {
        assert_eq!(super::without_addresses(text), expected);
    }
}
