//! The endpoint as a browser sees it, and its codes, on both databases.

mod attacks;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use axum::http::{Method, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use url::Url;

use super::{Redemption, redeem};
use crate::testing::{Answer, Caller, World};
use crate::wrong_passwords::MAX_WRONG;

const REDIRECT: &str = "https://app.example/callback";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const PASSWORD: &str = "secret-1";

/// The client acme with [`REDIRECT`] and the group partners, and the user ann.
struct Stage<'w> {
    world: &'w World,
    admin: Caller,
    group: String,
    user: String,
}

impl<'w> Stage<'w> {
    async fn set(world: &'w World) -> Self {
        let admin = world.operator("root", &["admin"]).await;
        let group = admin.post("/api/v1/groups", json!({ "name": "partners" })).await.expect(201);
        let group = group["id"].as_str().expect("an id").to_owned();
        world.client("acme").await;
        admin.post("/api/v1/clients/acme/groups", json!({ "groups": [group] })).await.expect(200);
        let stage = Self { world, admin, group, user: String::new() };
        stage.settings(&["authorization_code", "refresh_token"], &[REDIRECT]).await;
        let user = json!({ "name": "ann", "display_name": "Ann <b>Lee", "password": PASSWORD });
        let user = stage.admin.post("/api/v1/users", user).await.expect(201);
        Self { user: user["id"].as_str().expect("an id").to_owned(), ..stage }
    }

    async fn settings(&self, grants: &[&str], urls: &[&str]) {
        let terms = json!({ "validity": 1, "unit": "hours", "uses": 0 });
        let body = json!({ "grant_types": grants, "access_token": terms, "refresh_token": terms,
                           "redirect_urls": urls });
        self.admin.put("/api/v1/clients/acme/token-settings", body).await.expect(200);
    }

    async fn ask(&self, more: &[(&str, &str)]) -> Answer {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        let named = |name: &str| more.iter().any(|(other, _)| *other == name);
        for (name, value) in
            [("client_id", "acme"), ("redirect_uri", REDIRECT), ("response_type", "code"), ("state", "s&1")]
        {
            if !named(name) {
                query.append_pair(name, value);
            }
        }
        query.extend_pairs(more.iter().filter(|(_, value)| *value != "-"));
        self.world.anon().get(&format!("/oauth/authorize?{}", query.finish())).await
    }

    /// Sends a page's form, as the browser that got the page.
    async fn send(&self, page: &Answer, fields: &[(&str, &str)]) -> Answer {
        self.send_as(&cookie_of(page), &request_of(page), fields, &[]).await
    }

    async fn send_as(
        &self,
        cookie: &str,
        request: &str,
        fields: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("request", request);
        form.extend_pairs(fields);
        let mut all = vec![("content-type", "application/x-www-form-urlencoded"), ("cookie", cookie)];
        all.extend(headers);
        self.world.anon().raw(Method::POST, "/oauth/authorize", &all, Body::from(form.finish())).await
    }

    async fn sign_in(&self, page: &Answer) -> Answer {
        let fields = [("username", "ann"), ("password", PASSWORD), ("action", "sign_in")];
        self.send(page, &fields).await
    }

    /// The code that comes of a request with these parameters.
    async fn code(&self, more: &[(&str, &str)]) -> String {
        let mut answer = self.sign_in(&self.ask(more).await).await;
        if answer.status == 200 {
            answer = self.send(&answer, &[("action", "allow")]).await;
        }
        answered(&answer, "code").expect("a code")
    }

    /// Redeems in a transaction of its own: what came of it, in a word.
    async fn redeem(&self, client: &str, code: &str, redirect: &str, verifier: Option<&str>) -> String {
        let app = &self.world.app;
        let mut tx = app.db.write("test.redeem").await.expect("a transaction");
        let redemption = redeem(&mut tx, client, code, redirect, verifier, app.now()).await.expect("asked");
        tx.commit().await.expect("written");
        match redemption {
            Redemption::Redeemed(redeemed) => {
                assert_eq!(redeemed.user.id, self.user);
                format!("redeemed {}", redeemed.scope.join(" "))
            }
            Redemption::Refused => "refused".into(),
            Redemption::Replayed { .. } => "replayed".into(),
        }
    }
}

fn text(answer: &Answer) -> &str {
    answer.body.as_str().unwrap_or_default()
}

/// What stands in the hidden field.
fn request_of(page: &Answer) -> String {
    let text = text(page);
    let (_, rest) = text.split_once("name=\"request\" value=\"").unwrap_or_else(|| panic!("no form: {text}"));
    rest.split('"').next().expect("its end").replace("&#x2f;", "/").replace("&#x3d;", "=")
}

fn cookie_of(page: &Answer) -> String {
    let set = page.header("set-cookie").expect("a cookie");
    set.split(';').next().expect("a pair").to_owned()
}

/// A parameter of the URL that the browser is sent to; it must be the client's.
fn answered(answer: &Answer, name: &str) -> Option<String> {
    assert_eq!(answer.status, 303, "{:#}", answer.body);
    let location = url::Url::parse(answer.header("location").expect("a location")).expect("a URL");
    assert!(location.as_str().starts_with(REDIRECT), "{location}");
    location.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

#[tokio::test]
async fn a_user_signs_in_allows_and_brings_the_client_a_code() {
    for world in World::both().await {
        let stage = Stage::set(&world).await;
        let more = [("code_challenge", CHALLENGE), ("code_challenge_method", "S256")];
        let page = stage.ask(&more).await;
        assert_eq!(page.status, 200);
        assert!(text(&page).contains("acme Ltd.") && text(&page).contains("Sign in"), "{}", text(&page));
        for (name, value) in [
            ("cache-control", "no-store"),
            ("referrer-policy", "no-referrer"),
            ("x-frame-options", "DENY"),
            ("content-language", "en"),
        ] {
            assert_eq!(page.header(name), Some(value));
        }
        let policy = page.header("content-security-policy").expect("a policy");
        assert!(
            policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
        // A client may lead people on, and no list of ours knows where to.
        assert!(!policy.contains("form-action"), "{policy}");
        assert!(!policy.contains("script"), "{policy}");
        let cookie = page.header("set-cookie").expect("a cookie");
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"), "{cookie}");

        let consent = stage.sign_in(&page).await.and_is(200);
        assert!(text(&consent).contains("Ann &lt;b&gt;Lee"), "{}", text(&consent));
        assert!(text(&consent).contains("partners"));
        let answer = stage.send(&consent, &[("action", "allow")]).await;
        assert_eq!(answered(&answer, "state").as_deref(), Some("s&1"));
        assert_eq!(answered(&answer, "iss").as_deref(), Some(world.app.config.issuer().as_str()));
        assert!(answer.header("set-cookie").expect("it ends").contains("Max-Age=0"));
        let code = answered(&answer, "code").expect("a code");
        let redeemed = format!("redeemed {}", stage.group);
        assert_eq!(stage.redeem("acme", &code, REDIRECT, Some(VERIFIER)).await, redeemed);

        // What was allowed is not asked again, until it is withdrawn.
        let answer = stage.sign_in(&stage.ask(&more).await).await;
        assert!(answered(&answer, "code").is_some());
        let consents = format!("/api/v1/users/{}/consents", stage.user);
        let listed = stage.admin.get(&consents).await.expect(200);
        assert_eq!(listed["items"][0]["client"], "acme");
        assert_eq!(listed["items"][0]["scope"], json!([stage.group]));
        stage.admin.delete(&format!("{consents}/acme")).await.expect(204);
        stage.admin.delete(&format!("{consents}/acme")).await.problem(404, "not_found");
        stage.sign_in(&stage.ask(&more).await).await.and_is(200);

        let trail = stage.admin.get("/api/v1/audit?action=authorization.").await.expect(200).to_string();
        for action in ["authorization.allow", "authorization.issue_code", "authorization.withdraw"] {
            assert!(trail.contains(action), "{trail}");
        }
        assert!(!trail.contains(&code), "a code is a secret");
        let kept =
            world.sql(&format!("UPDATE authorization_codes SET id = id WHERE sha256 = '{code}'")).await;
        assert_eq!(kept, 0, "its hash is kept");
    }
}

impl Answer {
    #[track_caller]
    fn and_is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{:#}", self.body);
        self
    }
}

#[tokio::test]
async fn nobody_is_sent_to_a_redirect_url_that_is_not_proven() {
    let world = World::sqlite().await;
    let stage = Stage::set(&world).await;
    for (more, status, part) in [
        (vec![("client_id", "-")], 400, "Missing required parameter: client_id"),
        (vec![("client_id", "nobody")], 400, "no client"),
        (vec![("redirect_uri", "-")], 400, "Missing required parameter: redirect_uri"),
        (vec![("redirect_uri", "https://app.example/callback/")], 400, "The redirect_uri mismatch"),
        (
            vec![("redirect_uri", "https://app.example@evil.example/callback")],
            400,
            "The redirect_uri mismatch",
        ),
        (vec![("redirect_uri", "https://app.example.evil.example/callback")], 400, "mismatch"),
        (vec![("redirect_uri", "https://app.example/callback#x")], 400, "mismatch"),
        (vec![("redirect_uri", "https://app.example/%63allback")], 400, "mismatch"),
        (vec![("redirect_uri", "javascript:alert(1)")], 400, "mismatch"),
        (vec![("redirect_uri", REDIRECT), ("redirect_uri", "https://evil.example/")], 400, "stands twice"),
        (vec![("client_id", "acme"), ("client_id", "acme")], 400, "stands twice"),
        (
            vec![("a", "1"), ("a", "2"), ("redirect_uri", REDIRECT), ("redirect_uri", REDIRECT)],
            400,
            "stands twice",
        ),
        // Nor by another error.
        (vec![("redirect_uri", "https://evil.example/"), ("response_type", "token")], 400, "mismatch"),
    ] {
        let answer = stage.ask(&more).await;
        assert_eq!((answer.status, answer.header("location")), (status, None), "{more:?}");
        assert!(text(&answer).contains(part), "{more:?}: {}", text(&answer));
        assert_eq!(answer.header("set-cookie"), None);
    }
    stage.admin.patch("/api/v1/clients/acme/status", json!({ "status": "disabled" })).await.expect(200);
    let barred = stage.ask(&[]).await;
    assert_eq!((barred.status, barred.header("location")), (403, None));
}

#[tokio::test]
async fn what_is_wrong_with_a_proven_request_is_told_to_the_client() {
    let world = World::sqlite().await;
    let stage = Stage::set(&world).await;
    let long = "s".repeat(1_025);
    for (more, error, state) in [
        (vec![("response_type", "token")], "unsupported_response_type", Some("s&1")),
        (vec![("response_type", "-")], "invalid_request", Some("s&1")),
        (vec![("scope", "nothing")], "invalid_scope", Some("s&1")),
        (
            vec![("code_challenge", CHALLENGE), ("code_challenge_method", "plain")],
            "invalid_request",
            Some("s&1"),
        ),
        (vec![("code_challenge", CHALLENGE)], "invalid_request", Some("s&1")),
        (vec![("state", "-"), ("response_type", "token")], "unsupported_response_type", None),
        (vec![("state", "a"), ("state", "b")], "invalid_request", None),
        (vec![("state", &long)], "invalid_request", None),
    ] {
        let answer = stage.ask(&more).await;
        assert_eq!(answered(&answer, "error").as_deref(), Some(error), "{more:?}");
        assert_eq!(answered(&answer, "state").as_deref(), state, "{more:?}");
        assert_eq!(answered(&answer, "iss").as_deref(), Some(world.app.config.issuer().as_str()));
        assert_eq!(answered(&answer, "code"), None);
    }
    // A client without a password proves its codes.
    world.sql("UPDATE clients SET password_hash = '' WHERE id = 'acme'").await;
    assert_eq!(answered(&stage.ask(&[]).await, "error").as_deref(), Some("invalid_request"));
    let more = [("code_challenge", CHALLENGE), ("code_challenge_method", "S256")];
    stage.ask(&more).await.and_is(200);
    // Without the grant there is no code.
    stage.settings(&["client_credentials"], &[REDIRECT]).await;
    assert_eq!(answered(&stage.ask(&more).await, "error").as_deref(), Some("unauthorized_client"));
}

#[tokio::test]
async fn a_form_is_taken_from_the_browser_that_got_it_alone() {
    let world = World::sqlite().await;
    let stage = Stage::set(&world).await;
    let page = stage.ask(&[]).await;
    let other = stage.ask(&[]).await;
    let fields = [("username", "ann"), ("password", PASSWORD), ("action", "sign_in")];
    let (cookie, request) = (cookie_of(&page), request_of(&page));
    for (cookie, request, headers) in [
        ("", request.as_str(), vec![]),
        (cookie_of(&other).as_str(), request.as_str(), vec![]),
        (cookie.as_str(), "", vec![]),
        (cookie.as_str(), &request[..request.len() - 2], vec![]),
        (cookie.as_str(), request_of(&other).as_str(), vec![]),
        (cookie.as_str(), request.as_str(), vec![("sec-fetch-site", "cross-site")]),
        (cookie.as_str(), request.as_str(), vec![("sec-fetch-site", "same-site")]),
    ] {
        let answer = stage.send_as(cookie, request, &fields, &headers).await;
        assert_eq!((answer.status, answer.header("location")), (400, None), "{headers:?}");
        assert!(text(&answer).contains("Please start again"));
    }
    // Nobody allows anything who has not signed in.
    stage.send(&page, &[("action", "allow")]).await.and_is(400);
    // Signing in changes the cookie: who planted or read the one before has nothing.
    let consent = stage.sign_in(&page).await.and_is(200);
    assert_ne!(cookie_of(&consent), cookie);
    stage.send_as(&cookie, &request_of(&consent), &[("action", "allow")], &[]).await.and_is(400);
    // To say no needs no reason.
    let denied = stage.send(&consent, &[("action", "cancel")]).await;
    assert_eq!(answered(&denied, "error").as_deref(), Some("access_denied"));
    // A page has its time.
    world.advance_ms(10 * 60_000);
    stage.send(&consent, &[("action", "cancel")]).await.and_is(303);
    world.advance_ms(1);
    stage.send(&consent, &[("action", "allow")]).await.and_is(400);
}

#[tokio::test]
async fn what_changed_while_a_page_was_open_counts() {
    for world in World::both().await {
        let stage = Stage::set(&world).await;
        let consent = stage.sign_in(&stage.ask(&[]).await).await.and_is(200);
        stage.settings(&["authorization_code"], &["https://app.example/other"]).await;
        stage.send(&consent, &[("action", "allow")]).await.and_is(403);
        stage.settings(&["authorization_code"], &[REDIRECT]).await;
        let path = format!("/api/v1/users/{}", stage.user);
        stage.admin.patch(&path, json!({ "status": "disabled" })).await.expect(200);
        stage.send(&consent, &[("action", "allow")]).await.and_is(400);
        stage.admin.patch(&path, json!({ "status": "active" })).await.expect(200);
        assert!(answered(&stage.send(&consent, &[("action", "allow")]).await, "code").is_some());
    }
}

#[tokio::test]
async fn a_sign_in_that_fails_is_told_on_the_page() {
    for world in World::both().await {
        let stage = Stage::set(&world).await;
        let page = stage.ask(&[]).await;
        let attempt = async |name: &str, password: &str| {
            let fields = [("username", name), ("password", password), ("action", "sign_in")];
            stage.send(&page, &fields).await
        };
        let wrong = attempt("ann", "secret-2").await.and_is(403);
        let nobody = attempt("bob", "secret-2").await.and_is(403);
        let alike = |answer: &Answer, name: &str| {
            let request = request_of(answer);
            text(answer).replace(&request, "").replace(&format!("value=\"{name}\""), "").len()
        };
        assert!(text(&wrong).contains("aria-invalid=\"true\"") && text(&wrong).contains("value=\"ann\""));
        assert_eq!(
            alike(&wrong, "ann"),
            alike(&nobody, "bob"),
            "an unknown name looks like a wrong password"
        );
        let path = format!("/api/v1/users/{}", stage.user);
        stage.admin.patch(&path, json!({ "status": "disabled" })).await.expect(200);
        assert!(text(&attempt("ann", PASSWORD).await.and_is(403)).contains("switched off"));
        stage.admin.patch(&path, json!({ "status": "active" })).await.expect(200);
        for _ in 0..3 {
            attempt("ann", "secret-2").await.and_is(403);
        }
        assert!(!text(&attempt("ann", PASSWORD).await.and_is(403)).contains("switched off"));
        let chinese = [("accept-language", "zh-TW")];
        let page =
            stage.send_as(&cookie_of(&page), &request_of(&page), &[("action", "sign_in")], &chinese).await;
        assert!(text(&page).contains("使用者名稱"), "{}", text(&page));
    }
}

#[tokio::test]
async fn a_code_serves_once_for_what_it_was_issued() {
    for world in World::both().await {
        let stage = Stage::set(&world).await;
        world.client("other").await;
        let proof = [("code_challenge", CHALLENGE), ("code_challenge_method", "S256")];
        let redeemed = format!("redeemed {}", stage.group);
        let bare = stage.code(&[]).await;
        assert_eq!(stage.redeem("other", &bare, REDIRECT, None).await, "refused");
        assert_eq!(stage.redeem("acme", &bare, REDIRECT, None).await, redeemed, "nobody else burns it");
        assert_eq!(stage.redeem("acme", &bare, REDIRECT, None).await, "replayed");
        assert_eq!(stage.redeem("other", &bare, REDIRECT, None).await, "refused");
        assert_eq!(stage.redeem("acme", "kgac_invented", REDIRECT, None).await, "refused");
        for (more, redirect, verifier) in [
            (&[][..], "https://app.example/other", None),
            (&[][..], REDIRECT, Some(VERIFIER)),
            (&proof[..], REDIRECT, None),
            (&proof[..], REDIRECT, Some(CHALLENGE)),
        ] {
            let code = stage.code(more).await;
            assert_eq!(stage.redeem("acme", &code, redirect, verifier).await, "refused");
            // Whoever guessed wrong does not guess again, and ends nothing by it.
            assert_eq!(stage.redeem("acme", &code, redirect, verifier).await, "refused");
            let right = (!more.is_empty()).then_some(VERIFIER);
            assert_eq!(stage.redeem("acme", &code, REDIRECT, right).await, "replayed");
        }
        let code = stage.code(&proof).await;
        world.advance_ms(60_000);
        assert_eq!(stage.redeem("acme", &code, REDIRECT, Some(VERIFIER)).await, redeemed, "its last instant");
        let code = stage.code(&proof).await;
        world.advance_ms(60_001);
        assert_eq!(stage.redeem("acme", &code, REDIRECT, Some(VERIFIER)).await, "refused");
        let code = stage.code(&[]).await;
        let path = format!("/api/v1/users/{}", stage.user);
        stage.admin.patch(&path, json!({ "status": "disabled" })).await.expect(200);
        assert_eq!(stage.redeem("acme", &code, REDIRECT, None).await, "refused", "the user is switched off");
    }
}

#[tokio::test]
async fn of_many_who_redeem_one_code_at_once_one_gets_it() {
    for world in World::both().await {
        let stage = Stage::set(&world).await;
        let code = stage.code(&[]).await;
        let tries: Vec<_> = (0..8)
            .map(|_| {
                let (app, code) = (world.app.clone(), code.clone());
                tokio::spawn(async move {
                    let mut tx = app.db.write("test.redeem").await.expect("a transaction");
                    let redeemed = redeem(&mut tx, "acme", &code, REDIRECT, None, app.now()).await;
                    let redeemed = matches!(redeemed.expect("asked"), Redemption::Redeemed(_));
                    tx.commit().await.expect("written");
                    redeemed
                })
            })
            .collect();
        let mut winners = 0;
        for one in tries {
            winners += u32::from(one.await.expect("no panic"));
        }
        assert_eq!(winners, 1);
    }
}

#[tokio::test]
async fn codes_are_forgotten_and_go_with_their_client() {
    for world in World::both().await {
        let stage = Stage::set(&world).await;
        stage.code(&[]).await;
        world.run_due().await;
        assert_eq!(world.sql("UPDATE authorization_codes SET id = id").await, 1);
        world.advance_ms(2 * 86_400_000);
        world.run_due().await;
        assert_eq!(world.sql("UPDATE authorization_codes SET id = id").await, 0);
        stage.code(&[]).await;
        stage.admin.delete("/api/v1/clients/acme?confirm=acme").await.expect(204);
        for table in ["authorization_codes", "user_consents"] {
            assert_eq!(world.sql(&format!("UPDATE {table} SET client_id = client_id")).await, 0, "{table}");
        }
        let consents: Value =
            stage.admin.get(&format!("/api/v1/users/{}/consents", stage.user)).await.expect(200);
        assert_eq!(consents["items"], json!([]));
    }
}

/// A provider that refuses every code, and how many it was asked about.
async fn refusing_provider() -> (String, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let issuer = format!("http://{}", listener.local_addr().expect("an address"));
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let published = json!({
        "issuer": issuer, "authorization_endpoint": format!("{issuer}/auth"),
        "token_endpoint": format!("{issuer}/token"), "jwks_uri": format!("{issuer}/jwks"),
    });
    let token = move || {
        counted.fetch_add(1, Ordering::SeqCst);
        async { (StatusCode::BAD_REQUEST, Json(json!({ "error": "invalid_grant" }))) }
    };
    let routes = Router::new()
        .route("/.well-known/openid-configuration", get(move || async { Json(published) }))
        .route("/token", post(token));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (issuer, asked)
}

#[tokio::test]
async fn a_stranger_has_the_provider_asked_about_so_many_codes_and_no_more() {
    let (issuer, asked) = refusing_provider().await;
    let worlds = World::both_with(|config| {
        config.oidc_issuer = Some(issuer.clone());
        config.oidc_client_id = Some("keygate".into());
        config.behind_proxy("x-address");
    });
    for world in worlds.await {
        asked.store(0, Ordering::SeqCst);
        let stage = Stage::set(&world).await;
        let page = stage.ask(&[]).await;
        let gone = stage.send(&page, &[("action", "elsewhere")]).await;
        assert_eq!(gone.status, 303, "{gone:?}");
        let to = Url::parse(gone.header("location").expect("the provider")).expect("a URL");
        let state = to.query_pairs().find(|(name, _)| name == "state").expect("a state").1.into_owned();
        let cookies = format!("{}; {}", cookie_of(&page), cookie_of(&gone));
        let back = async |address: &str| {
            let headers = [("cookie", cookies.as_str()), ("x-address", address)];
            let path = format!("/oauth/authorize/openid?code=made-up&state={state}");
            world.anon().raw(Method::GET, &path, &headers, Body::empty()).await
        };
        for _ in 0..MAX_WRONG {
            assert_eq!(back("192.0.2.1").await.status, 403);
        }
        let stopped = back("192.0.2.1").await;
        assert_eq!((stopped.status, stopped.header("retry-after")), (429, Some("600")));
        let calls = usize::try_from(MAX_WRONG).expect("a few");
        assert_eq!(asked.load(Ordering::SeqCst), calls);
        assert_eq!(back("192.0.2.2").await.status, 403, "another is asked about");
        assert_eq!(asked.load(Ordering::SeqCst), calls + 1);
    }
}
