//! Several processes, and those that die while they send.

use gate::time::UnixMillis;

use super::super::super::model::CLAIM_MS;
use super::super::{MAX_UNANSWERED, begin, hand_over, record, store, take_back_lapsed};
use super::*;
use crate::db::Dialect;

#[tokio::test]
async fn two_managers_send_each_of_two_hundred_mails_once() {
    const MAILS: usize = 200;
    for world in World::both().await {
        let server = Server::start(Manner::accepts()).await;
        let transport = transport(&smtp(&server));
        for _ in 0..MAILS {
            write(&world.app, TestMail::sample(), 0).await;
        }
        let other = replica(&world).await;
        let (mut one, mut two) = (0, 0);
        while one + two < MAILS {
            let (a, b) = tokio::join!(run(&world.app, &transport), run(&other, &transport));
            (one, two) = (one + a.sent, two + b.sent);
        }
        assert_eq!(one + two, MAILS);
        assert!(one > 0 && two > 0, "both took part: {one} and {two}");
        let mut ids: Vec<_> =
            server.mails().iter().map(|mail| mail.message_id().expect("one").to_string()).collect();
        ids.sort();
        ids.dedup();
        assert_eq!((ids.len(), server.taken().len()), (MAILS, MAILS));
        assert_eq!(
            world.sql("UPDATE mails SET attempts = 1 WHERE attempts <> 1 OR maybe_repeated = 1").await,
            0
        );
    }
}

/// Where a process dies while it sends.
#[derive(Clone, Copy, Debug)]
enum Dies {
    AfterTheClaim,
    AfterTheMailWasTaken,
    WhileItIsRecorded,
}

#[tokio::test]
async fn a_process_that_dies_while_it_sends_is_replaced_and_the_log_says_so() {
    for dies in [Dies::AfterTheClaim, Dies::AfterTheMailWasTaken, Dies::WhileItIsRecorded] {
        for world in World::both().await {
            let server = Server::start(Manner::accepts()).await;
            let transport = transport(&smtp(&server));
            let reader = world.operator("ann", &["admin"]).await;
            let id = write(&world.app, KeyCredentials::sample(), 0).await;
            let dying = replica(&world).await;
            let begun = begin(&dying, &transport).await.expect("the database").expect("a mail");
            match dies {
                Dies::AfterTheClaim => {}
                Dies::AfterTheMailWasTaken => {
                    hand_over(&dying, &transport, &begun).await;
                }
                Dies::WhileItIsRecorded => {
                    let attempt = hand_over(&dying, &transport, &begun).await;
                    world.sql("ALTER TABLE mail_servers RENAME TO mail_servers_gone").await;
                    record(&dying, &begun, &attempt, &mut Delivered::default())
                        .await
                        .expect_err("no such table");
                    world.sql("ALTER TABLE mail_servers_gone RENAME TO mail_servers").await;
                }
            }
            drop((begun, dying));
            let taken = server.taken().len();
            assert_eq!(mail(&reader, &id).await["state"], "sending");

            world.advance_ms(CLAIM_MS);
            assert_eq!(run(&world.app, &transport).await, Delivered::default(), "{dies:?}: still claimed");
            world.advance_ms(1);
            assert_eq!(run(&world.app, &transport).await.sent, 1, "{dies:?}");
            let sent = mail(&reader, &id).await;
            assert_eq!(
                (&sent["state"], &sent["attempts"], &sent["maybe_repeated"]),
                (&json!("sent"), &json!(2), &json!(true)),
                "{dies:?}"
            );
            let outcomes: Vec<_> =
                sent["history"].as_array().expect("a list").iter().map(|one| &one["outcome"]).collect();
            assert_eq!(outcomes, ["no_word", "accepted"], "{dies:?}");
            let ids: Vec<_> =
                server.mails().iter().map(|mail| mail.message_id().expect("one").to_string()).collect();
            assert_eq!(ids.len(), taken + 1, "{dies:?}");
            assert!(ids.iter().all(|it| *it == ids[0]), "a repeat can be told: {ids:?}");
        }
    }
}

#[tokio::test]
async fn a_mail_that_kills_whoever_sends_it_is_given_up() {
    for world in World::both().await {
        let server = Server::start(Manner::accepts()).await;
        let transport = transport(&smtp(&server));
        let reader = world.operator("ann", &["admin"]).await;
        let id = write(&world.app, TestMail::sample(), 0).await;
        for _ in 0..MAX_UNANSWERED {
            assert!(begin(&world.app, &transport).await.expect("the database").is_some());
            world.advance_ms(CLAIM_MS + 1);
            take_back_lapsed(&world.app).await.expect("the database");
        }
        assert_eq!(run(&world.app, &transport).await, Delivered::default());
        let failed = mail(&reader, &id).await;
        assert_eq!(failed["state"], "failed");
        assert!(failed["error"].as_str().expect("a reason").contains("it may have arrived"));
    }
}

#[tokio::test]
async fn whoever_lost_its_claim_changes_nothing() {
    for world in World::both().await {
        let server = Server::start(Manner::accepts()).await;
        let transport = transport(&smtp(&server));
        let reader = world.operator("ann", &["admin"]).await;
        let id = write(&world.app, TestMail::sample(), 0).await;
        let begun = begin(&world.app, &transport).await.expect("the database").expect("a mail");
        let attempt = hand_over(&world.app, &transport, &begun).await;
        world.advance_ms(CLAIM_MS + 1);
        assert_eq!(run(&world.app, &transport).await.sent, 1);
        let before = mail(&reader, &id).await;
        record(&world.app, &begun, &attempt, &mut Delivered::default()).await.expect("the database");
        assert_eq!(mail(&reader, &id).await, before);
    }
}

#[tokio::test]
async fn giving_up_waits_for_no_mail_while_it_holds_the_row_of_a_server() {
    // SQLite has one writer at a time.
    let postgres = |world: &World| world.app.db.dialect() == Dialect::Postgres;
    for world in World::both().await.into_iter().filter(postgres) {
        let server = Server::start(dead()).await;
        let transport = transport(&smtp(&server));
        for _ in 0..2 {
            write(&world.app, TestMail::sample(), 0).await;
        }
        world.advance_ms(73 * HOUR_MS);
        let begun = begin(&world.app, &transport).await.expect("the database").expect("a mail");
        let attempt = hand_over(&world.app, &transport, &begun).await;
        let (_, address) = transport.servers().remove(0);
        // Another replica has claimed the other mail, and goes on to the row of the server.
        let mut claim = world.app.db.write("test.claim").await.expect("a transaction");
        let held = sqlx::query("UPDATE mails SET attempts = attempts WHERE state = 'waiting'");
        assert_eq!(held.execute(&mut *claim).await.expect("held").rows_affected(), 1);
        let probing = async {
            let rests = loop {
                let mut conn = world.app.db.read().await.expect("a connection");
                let server = store::server(&mut conn, &address).await.expect("a server");
                if server.failures > 0 {
                    break server;
                }
            };
            let later = UnixMillis(i64::MAX);
            assert!(store::take_probe(&mut claim, &rests, later, later).await.expect("the row"));
            claim.commit().await.expect("committed");
        };
        let mut did = Delivered::default();
        let both = async { tokio::join!(record(&world.app, &begun, &attempt, &mut did), probing) };
        let (recorded, ()) =
            tokio::time::timeout(std::time::Duration::from_secs(20), both).await.expect("nobody waits");
        recorded.expect("the database");
        assert_eq!(did.given_up, 2);
    }
}
