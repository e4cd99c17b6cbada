//! A server that does not answer: when it is left in peace, and who stands in.

use super::super::super::tests::{with_secondary, write_to};
use super::super::{LANES, MAX_UNANSWERED};
use super::*;

#[tokio::test]
async fn a_folder_that_is_gone_is_a_server_that_rests() {
    for world in World::both().await {
        let reader = world.operator("ann", &["admin"]).await;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("mails");
        let config =
            Config { mail_transport: MailTransport::File, mail_file_dir: path.clone(), ..Config::default() };
        let transport = transport(&config);
        std::fs::remove_dir(&path).expect("removed");
        let id = write(&world.app, TestMail::sample(), 0).await;
        assert!(run(&world.app, &transport).await.put_back > 0);
        let waiting = mail(&reader, &id).await;
        assert_eq!((&waiting["state"], &waiting["attempts"]), (&json!("waiting"), &json!(0)));
        std::fs::create_dir(&path).expect("made");
        assert_eq!(run(&world.app, &transport).await, Delivered::default(), "it rests");
        world.advance_ms(5_000);
        assert_eq!(run(&world.app, &transport).await.sent, 1);
        assert_eq!(mail(&reader, &id).await["via"], "file");
    }
}

#[tokio::test]
async fn a_server_that_is_dead_for_an_hour_loses_nothing_and_is_left_in_peace() {
    const MAILS: usize = 20;
    for world in World::both().await {
        let server = Server::start(dead()).await;
        let transport = transport(&smtp(&server));
        let reader = world.operator("ann", &["admin"]).await;
        for n in 0..MAILS {
            write_to(&world.app, &format!("r{n:02}@example.com"), TestMail::sample(), n as i64).await;
        }
        world.advance_ms(MAILS as i64);
        let other = replica(&world).await;
        for _ in 0..HOUR_MS / 5_000 {
            run(&world.app, &transport).await;
            run(&other, &transport).await;
            world.advance_ms(5_000);
        }
        // After 5, 10, 20, 40 s, then each minute; at first by all lanes at once.
        let asked = server.conversations();
        assert!((60..=62 + LANES).contains(&asked), "{asked} conversations");
        let waiting = reader.get("/api/v1/mails?state=waiting&limit=100").await.expect(200);
        let waiting = waiting["items"].as_array().expect("items").clone();
        assert_eq!(waiting.len(), MAILS);
        for one in &waiting {
            assert_eq!((&one["attempts"], &one["maybe_repeated"]), (&json!(0), &json!(false)), "{one}");
        }
        assert!(waiting.iter().any(|one| one["error"].as_str().is_some_and(|e| e.contains("greeting"))));

        server.turns(Manner::accepts());
        world.advance_ms(60_000);
        assert_eq!(run(&world.app, &transport).await, Delivered { sent: MAILS, ..Delivered::default() });
        let order: Vec<usize> =
            server.taken().iter().map(|mail| mail.recipient[1..3].parse().expect("a number")).collect();
        for (place, number) in order.iter().enumerate() {
            assert!(place.abs_diff(*number) <= LANES, "in the order in which they were due: {order:?}");
        }
    }
}

#[tokio::test]
async fn only_one_conversation_tries_whether_a_server_is_well_again() {
    for world in World::both().await {
        let server = Server::start(dead()).await;
        let transport = transport(&smtp(&server));
        for n in 0..8 {
            write_to(&world.app, &format!("r{n}@example.com"), TestMail::sample(), 0).await;
        }
        run(&world.app, &transport).await;
        let before = server.conversations();
        world.advance_ms(60_000);
        let others = [replica(&world).await, replica(&world).await];
        tokio::join!(run(&world.app, &transport), run(&others[0], &transport), run(&others[1], &transport));
        assert_eq!(server.conversations(), before + 1);
    }
}

#[tokio::test]
async fn the_second_server_stands_in_while_the_first_rests() {
    for world in World::both().await {
        let (first, second) = (Server::start(dead()).await, Server::start(Manner::accepts()).await);
        let transport = transport(&with_secondary(smtp(&first), &second));
        let reader = world.operator("ann", &["admin"]).await;
        let id = write(&world.app, TestMail::sample(), 0).await;
        assert_eq!(run(&world.app, &transport).await.sent, 1);
        let sent = mail(&reader, &id).await;
        assert_eq!((&sent["via"], &sent["attempts"]), (&json!("secondary"), &json!(1)));
        let outcomes: Vec<_> =
            sent["history"].as_array().expect("a list").iter().map(|one| &one["outcome"]).collect();
        assert_eq!(outcomes, ["unavailable", "accepted"]);

        // The first one rests: it is not even asked.
        write(&world.app, TestMail::sample(), 0).await;
        assert_eq!(run(&world.app, &transport).await.sent, 1);
        assert_eq!((first.conversations(), second.conversations()), (1, 2));

        // It is well again, which one mail finds out.
        first.turns(Manner::accepts());
        world.advance_ms(5_000);
        write(&world.app, TestMail::sample(), 0).await;
        assert_eq!(run(&world.app, &transport).await.sent, 1);
        assert_eq!((first.taken().len(), second.conversations()), (1, 2));

        // Both dead: back as it was; the second one is tried though the first one answers by then.
        first.turns(dead());
        second.turns(dead());
        let last = write(&world.app, TestMail::sample(), 0).await;
        assert!(run(&world.app, &transport).await.put_back > 0);
        let error = mail(&reader, &last).await["error"].as_str().expect("a reason").to_string();
        assert_eq!(error.matches("greeting").count(), 2, "{error}");
        first.turns(Manner::accepts());
        second.turns(Manner::accepts());
        world.advance_ms(5_000);
        assert_eq!(run(&world.app, &transport).await.sent, 1);
        let untouched = world
            .sql(&format!(
                "UPDATE mail_servers SET failures = failures WHERE paused_until = {}",
                World::START.0 + 10_000
            ))
            .await;
        assert_eq!(untouched, 1, "the second one, which was not needed, may be tried by the next mail");
    }
}

#[tokio::test]
async fn a_lost_answer_is_told_and_the_second_server_is_not_asked_at_once() {
    for world in World::both().await {
        let (first, second) =
            (Server::start(loses_the_answer()).await, Server::start(Manner::accepts()).await);
        let transport = transport(&with_secondary(smtp(&first), &second));
        let reader = world.operator("ann", &["admin"]).await;
        let id = write(&world.app, TestMail::sample(), 0).await;

        assert_eq!(run(&world.app, &transport).await.postponed, 1);
        assert_eq!((first.taken().len(), second.conversations()), (1, 0));
        let waiting = mail(&reader, &id).await;
        assert_eq!((&waiting["state"], &waiting["maybe_repeated"]), (&json!("waiting"), &json!(true)));

        // Refused by the first one: the second one takes it.
        first.turns(busy());
        world.advance_ms(15_000);
        assert_eq!(run(&world.app, &transport).await.sent, 1);
        let sent = mail(&reader, &id).await;
        assert_eq!(
            (&sent["state"], &sent["via"], &sent["maybe_repeated"]),
            (&json!("sent"), &json!("secondary"), &json!(true))
        );
        assert_eq!(first.mails()[0].message_id(), second.mails()[0].message_id(), "a repeat can be told");
    }
}

#[tokio::test]
async fn a_server_that_never_answers_gets_a_mail_a_few_times_only() {
    for world in World::both().await {
        let server = Server::start(loses_the_answer()).await;
        let transport = transport(&smtp(&server));
        let reader = world.operator("ann", &["admin"]).await;
        let id = write(&world.app, TestMail::sample(), 0).await;
        for _ in 0..10 {
            run(&world.app, &transport).await;
            world.advance_ms(HOUR_MS);
        }
        assert_eq!(server.taken().len(), MAX_UNANSWERED as usize);
        let failed = mail(&reader, &id).await;
        assert_eq!((&failed["state"], &failed["maybe_repeated"]), (&json!("failed"), &json!(true)));
    }
}
