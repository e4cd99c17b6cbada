//! A mail that is not taken: when it is tried again, and when it is given up.

use super::super::super::tests::write_to;
use super::*;

#[tokio::test]
async fn a_busy_server_is_asked_again_later_and_a_refusal_is_final() {
    for world in World::both().await {
        let server = Server::start(busy()).await;
        let transport = transport(&smtp(&server));
        let reader = world.operator("ann", &["admin"]).await;
        let id = write(&world.app, TestMail::sample(), 0).await;

        assert_eq!(run(&world.app, &transport).await, Delivered { postponed: 1, ..Delivered::default() });
        let waiting = mail(&reader, &id).await;
        assert_eq!(
            (&waiting["state"], &waiting["next_attempt_at"]),
            (&json!("waiting"), &json!(World::START.0 + 15_000))
        );
        assert!(waiting["error"].as_str().expect("a reason").contains("451"), "{waiting}");
        world.advance_ms(14_999);
        assert_eq!(run(&world.app, &transport).await, Delivered::default());

        server.turns(refuses());
        world.advance_ms(1);
        assert_eq!(run(&world.app, &transport).await, Delivered { given_up: 1, ..Delivered::default() });
        let failed = mail(&reader, &id).await;
        assert_eq!((&failed["state"], &failed["attempts"]), (&json!("failed"), &json!(2)));
        assert!(failed["error"].as_str().expect("a reason").contains("550"), "{failed}");
        let outcomes: Vec<_> =
            failed["history"].as_array().expect("a list").iter().map(|one| &one["outcome"]).collect();
        assert_eq!(outcomes, ["postponed", "refused"]);

        // Nothing secret was in it: it can be sent again, as a mail of its own.
        server.turns(Manner::accepts());
        let again = reader.post(&format!("/api/v1/mails/{id}/resend"), json!({})).await.expect(201);
        assert_eq!(run(&world.app, &transport).await.sent, 1);
        assert_eq!(server.mails()[0].subject(), Some("【Keygate】Test mail"));
        assert_eq!(mail(&reader, again["id"].as_str().expect("an id")).await["state"], "sent");
    }
}

#[tokio::test]
async fn a_refusal_of_the_sender_waits_for_other_settings() {
    for world in World::both().await {
        let relay = Fault::Says("554 5.7.1 <anna@example.com>: Relay access denied");
        let server = Server::start(Manner::fails(At::Recipient, relay)).await;
        let transport = transport(&smtp(&server));
        let reader = world.operator("ann", &["admin"]).await;
        let id = write(&world.app, TestMail::sample(), 0).await;
        assert_eq!(run(&world.app, &transport).await.postponed, 1);
        assert_eq!(mail(&reader, &id).await["state"], "waiting");
        server.turns(Manner::accepts());
        world.advance_ms(15_000);
        assert_eq!(run(&world.app, &transport).await.sent, 1);
    }
}

#[tokio::test]
async fn what_no_server_takes_for_three_days_is_given_up_visibly() {
    for world in World::both().await {
        let server = Server::start(dead()).await;
        let transport = transport(&smtp(&server));
        let reader = world.operator("ann", &["admin"]).await;
        let (old, older) = (
            write_to(&world.app, "b@example.com", KeyCredentials::sample(), 0).await,
            write_to(&world.app, "a@example.com", TestMail::sample(), 0).await,
        );
        world.advance_ms(72 * HOUR_MS - 1);
        let young = write_to(&world.app, "c@example.com", TestMail::sample(), 0).await;
        assert_eq!(run(&world.app, &transport).await.given_up, 0);
        world.advance_ms(60_000);
        assert_eq!(run(&world.app, &transport).await.given_up, 2);
        for id in [&old, &older] {
            let failed = mail(&reader, id).await;
            assert_eq!(failed["state"], "failed");
            let error = failed["error"].as_str().expect("a reason");
            assert!(error.contains("within 72 h") && error.contains("greeting"), "{error}");
        }
        assert_eq!(mail(&reader, &young).await["state"], "waiting");
        assert_eq!(world.sql("UPDATE mails SET attempts = attempts WHERE context_sealed IS NULL").await, 2);
    }
}

#[tokio::test]
async fn a_server_that_is_busy_for_three_days_ends_it_too() {
    for world in World::both().await {
        let server = Server::start(busy()).await;
        let transport = transport(&smtp(&server));
        write(&world.app, TestMail::sample(), 0).await;
        let mut attempts = 0;
        loop {
            let did = run(&world.app, &transport).await;
            attempts += 1;
            if did.given_up == 1 {
                break;
            }
            assert_eq!(did.postponed, 1, "attempt {attempts}");
            world.advance_ms(HOUR_MS);
        }
        assert_eq!(attempts, 73, "each hour, from hour 0 to hour 72");
        assert_eq!(run(&world.app, &transport).await, Delivered::default());
    }
}

#[tokio::test]
async fn a_mail_that_a_server_stumbles_over_does_not_hold_the_others_up() {
    for fault in
        [Fault::HangsUp, Fault::Babbles, Fault::Says("421 4.3.0 too much"), Fault::Says("451 4.7.0 no")]
    {
        for at in [At::Recipient, At::Data, At::Message] {
            let world = World::sqlite().await;
            let poison = Manner { only_for: Some("poison@example.com"), ..Manner::fails(at, fault) };
            let server = Server::start(poison).await;
            let transport = transport(&smtp(&server));
            let reader = world.operator("ann", &["admin"]).await;
            let bad = write_to(&world.app, "poison@example.com", TestMail::sample(), 0).await;
            world.advance_ms(1);
            for n in 0..6 {
                write_to(&world.app, &format!("r{n}@example.com"), TestMail::sample(), 0).await;
            }
            // The server may rest in between, for seconds.
            let mut sent = 0;
            for _ in 0..3 {
                sent += run(&world.app, &transport).await.sent;
                world.advance_ms(5_000);
            }
            assert_eq!(sent, 6, "{at:?} {fault:?}");
            assert_eq!(mail(&reader, &bad).await["state"], "waiting", "{at:?} {fault:?}");
        }
    }
}
