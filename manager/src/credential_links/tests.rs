use axum::body::Body;
use axum::http::Method;

use super::actions::{NewLink, create};
use super::model::{MAX_REFUSALS, REMEMBERED_MS};
use super::{Credentials, Secret, withdraw, withdraw_of_secret};
use crate::mail::About;
use crate::testing::{Answer, World};

const PAGE: &str = "/credentials";
const HOUR_MS: i64 = 3_600_000;
const API_KEY: &str = "YjQxNzJlMjFiMzAzM2Q5NWM2ZDYz";
const SECRET_KEY: &str = "YTk2MTQ2MjhhZDM1MjYwZDVkMTdj";

/// A link that opens for an hour, as it stands in the mail.
async fn link(world: &World) -> String {
    let credentials = Credentials {
        secret: Secret::KeyPair {
            api_key: API_KEY.into(),
            secret_key: SECRET_KEY.into(),
            key_name: "orders key".into(),
        },
        client_id: "partner-1".into(),
        client_name: "R&D".into(),
    };
    let now = world.app.now();
    let mut tx = world.app.db.write("test.link").await.expect("a transaction");
    let new = NewLink {
        shows: &About::new("key", "key_1"),
        secret: "sec_1",
        recipient: "a@example.com",
        credentials: &credentials,
        expires_at: gate::time::UnixMillis(now.0 + HOUR_MS),
    };
    let url = create(&mut tx, &world.app, new, now).await.expect("a link");
    tx.commit().await.expect("committed");
    url.to_string()
}

async fn open(world: &World, pasted: &str) -> Answer {
    let form = url::form_urlencoded::Serializer::new(String::new()).append_pair("code", pasted).finish();
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    world.anon().raw(Method::POST, PAGE, &headers, Body::from(form)).await
}

fn text(answer: &Answer) -> &str {
    answer.body.as_str().expect("a page")
}

fn shows(answer: &Answer) -> bool {
    let shown = text(answer).contains(SECRET_KEY);
    assert_eq!(answer.status, if shown { 200 } else { 410 }, "{}", answer.body);
    shown
}

async fn audited(world: &World, action: &str) -> Vec<serde_json::Value> {
    let auditor = world.operator(&format!("auditor_{}", world.app.random.number()), &["auditor"]).await;
    let list = auditor.get(&format!("/api/v1/audit?action={action}")).await.expect(200);
    list["items"].as_array().expect("entries").clone()
}

#[tokio::test]
async fn a_link_shows_the_pair_once() {
    for world in World::both().await {
        let url = link(&world).await;
        assert!(url.starts_with("http://127.0.0.1:8080/credentials#crl_"), "{url}");
        let first = open(&world, &url).await;
        assert!(shows(&first) && text(&first).contains(API_KEY) && text(&first).contains("R&amp;D"));
        assert!(!shows(&open(&world, &url).await));
        let revealed = audited(&world, "credential_links.reveal").await;
        assert_eq!(revealed.len(), 1);
        assert_eq!(revealed[0]["subject"], "key:key_1");
        assert_eq!(revealed[0]["detail"]["mailed_to"], "a@example.com");
        let refused = audited(&world, "credential_links.refuse").await;
        assert_eq!((refused.len(), &refused[0]["detail"]["reason"]), (1, &"revealed".into()));
    }
}

#[tokio::test]
async fn twenty_who_open_a_link_at_once_are_shown_it_once() {
    for world in World::both().await {
        let url = link(&world).await;
        let opened = all_at_once(&world, &url, 20).await;
        assert_eq!(opened.iter().filter(|answer| shows(answer)).count(), 1);
    }
}

async fn all_at_once(world: &World, url: &str, count: usize) -> Vec<Answer> {
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..count {
        let (anon, code) = (world.anon(), url.rsplit('#').next().expect("a code").to_string());
        calls.spawn(async move {
            let headers = [("content-type", "application/x-www-form-urlencoded")];
            anon.raw(Method::POST, PAGE, &headers, Body::from(format!("code={code}"))).await
        });
    }
    calls.join_all().await
}

#[tokio::test]
async fn whatever_follows_the_link_opens_nothing_and_is_told_not_to_keep_it() {
    for world in World::both().await {
        let url = link(&world).await;
        for _ in 0..3 {
            let page = world.anon().get(PAGE).await;
            assert_eq!(page.status, 200);
            for (header, value) in [
                ("cache-control", "no-store"),
                ("referrer-policy", "no-referrer"),
                ("x-frame-options", "DENY"),
                ("x-content-type-options", "nosniff"),
                ("content-type", "text/html; charset=utf-8"),
            ] {
                assert_eq!(page.header(header), Some(value));
            }
            let policy = page.header("content-security-policy").expect("a policy");
            for rule in
                ["default-src 'none'", "frame-ancestors 'none'", "form-action 'self'", "base-uri 'none'"]
            {
                assert!(policy.contains(rule) && !policy.contains("unsafe"), "{policy}");
            }
            world.anon().send(Method::HEAD, PAGE, &[], None).await;
        }
        assert!(shows(&open(&world, &url).await));
    }
}

#[tokio::test]
async fn a_link_ends_at_its_expiry_and_with_what_it_shows() {
    for world in World::both().await {
        let (late, in_time) = (link(&world).await, link(&world).await);
        world.advance_ms(HOUR_MS - 1);
        assert!(shows(&open(&world, &in_time).await));
        world.advance_ms(1);
        let refused = open(&world, &late).await;
        assert!(!shows(&refused) && text(&refused).contains("ask the person who administers"));

        for whole_key in [true, false] {
            let url = link(&world).await;
            let now = world.app.now();
            let mut tx = world.app.db.write("test.withdraw").await.expect("a transaction");
            withdraw_of_secret(&mut tx, "key_1", "sec_2", now).await.expect("of another secret");
            withdraw(&mut tx, &About::new("key", "key_2"), now).await.expect("of another key");
            withdraw(&mut tx, &About::new("client", "key_1"), now).await.expect("of another kind");
            match whole_key {
                true => withdraw(&mut tx, &About::new("key", "key_1"), now).await.expect("withdrawn"),
                false => withdraw_of_secret(&mut tx, "key_1", "sec_1", now).await.expect("withdrawn"),
            }
            tx.commit().await.expect("committed");
            assert!(!shows(&open(&world, &url).await));
        }
        // Nothing is kept of what can be opened no more.
        assert_eq!(world.sql("DELETE FROM credential_links WHERE content_sealed IS NOT NULL").await, 0);
    }
}

#[tokio::test]
async fn what_was_not_opened_in_time_is_erased_and_forgotten_later() {
    for world in World::both().await {
        link(&world).await;
        assert_eq!(
            world
                .sql(&format!("DELETE FROM credential_links WHERE content_sealed LIKE '%{SECRET_KEY}%'"))
                .await,
            0
        );
        world.advance_ms(2 * HOUR_MS);
        world.run_due().await;
        let erased =
            "UPDATE credential_links SET refusals = 0 WHERE content_sealed IS NULL AND state = 'expired'";
        assert_eq!(world.sql(erased).await, 1);
        world.advance_ms(REMEMBERED_MS);
        world.run_due().await;
        assert_eq!(world.sql("DELETE FROM credential_links").await, 0);
    }
}

#[tokio::test]
async fn wrong_codes_are_counted_audited_and_end_the_link() {
    for world in World::both().await {
        let (guessed, spared) = (link(&world).await, link(&world).await);
        let wrong = |url: &str| format!("{}.AAAA", url.rsplit_once('.').expect("a code").0);
        for _ in 1..MAX_REFUSALS {
            assert!(!shows(&open(&world, &wrong(&spared)).await));
        }
        assert!(shows(&open(&world, &spared).await), "one guess before the bound");
        for _ in 0..MAX_REFUSALS + 5 {
            assert!(!shows(&open(&world, &wrong(&guessed)).await));
        }
        assert!(!shows(&open(&world, &guessed).await), "at the bound");
        let refused = audited(&world, "credential_links.refuse").await;
        assert_eq!(refused.len() as i64, 2 * MAX_REFUSALS - 1, "what is audited is bounded");
        assert!(refused.iter().all(|entry| entry["detail"]["reason"] == "wrong_code"));
        // What names no link costs nothing.
        for nonsense in ["", "x", "crl_nobody.AAAA", "<script>", &"x".repeat(10_000)] {
            assert!(!shows(&open(&world, nonsense).await));
        }
        assert_eq!(audited(&world, "credential_links.refuse").await.len(), refused.len());
    }
}

#[tokio::test]
async fn the_page_speaks_the_language_that_the_browser_asks_for() {
    let world = World::sqlite().await;
    for (accepted, tag, words) in [("zh-TW,zh;q=0.9", "zh-Hant-TW", "立即顯示"), ("fr", "en", "Show it now")]
    {
        let page = world.anon().send(Method::GET, PAGE, &[("accept-language", accepted)], None).await;
        assert_eq!(
            (page.header("content-language"), page.header("vary")),
            (Some(tag), Some("Accept-Language"))
        );
        assert!(text(&page).contains(words));
    }
}

#[tokio::test]
async fn a_code_that_was_guessed_begins_no_writing() {
    let world = World::sqlite().await;
    // Whoever wants to write waits until this ends.
    let writing = world.app.db.write("test.write").await.expect("a transaction");
    assert!(!shows(&open(&world, "crl_guessed.c2VjcmV0").await));
    drop(writing);
}

#[tokio::test]
async fn the_trail_tells_the_address_that_the_proxy_tells() {
    let [world, _] = World::both_with(|config| config.behind_proxy("x-address")).await;
    let url = link(&world).await;
    let form = url::form_urlencoded::Serializer::new(String::new()).append_pair("code", &url).finish();
    let headers = [("content-type", "application/x-www-form-urlencoded"), ("x-address", "192.0.2.7")];
    assert!(shows(&world.anon().raw(Method::POST, PAGE, &headers, Body::from(form)).await));
    assert_eq!(audited(&world, "credential_links.reveal").await[0]["detail"]["address"], "192.0.2.7");
}
