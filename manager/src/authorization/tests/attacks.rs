//! What strangers try at the authorization endpoint: URLs that look like the client's, proofs that are taken
//! away, texts that are meant for somebody else's log.

use super::*;

/// Each looks to some reader like [`REDIRECT`], and is another URL.
const TRICKS: [&str; 28] = [
    // Trailing slash, path traversal, doubled and encoded slashes, parameters of a path.
    "https://app.example/callback/",
    "https://app.example/callback/..",
    "https://app.example/x/../callback",
    "https://app.example/./callback",
    "https://app.example/%2e%2e/callback",
    "https://app.example//callback",
    "https://app.example/callback%2f",
    "https://app.example/callback;x",
    "https://app.example/callback?x=1",
    "https://app.example/%63allback",
    "https://app.example/%2563allback",
    // Fragment.
    "https://app.example/callback#",
    "https://app.example/callback#x",
    // Letters of the other case, another scheme, another port.
    "https://app.example/Callback",
    "https://APP.example/callback",
    "HTTPS://app.example/callback",
    "http://app.example/callback",
    "https://app.example:443/callback",
    "https://app.example:8443/callback",
    // Somebody else's host.
    "https://app.example@evil.example/callback",
    "https://evil.example\\@app.example/callback",
    "https://app.example.evil.example/callback",
    "https://app.example./callback",
    "https://app\u{ff0e}example/callback",
    "//app.example/callback",
    // A blank, a line, a NUL.
    " https://app.example/callback",
    "https://app.example/callback\r\nLocation: https://evil.example/",
    "https://app.example/callback\0",
];

#[tokio::test]
async fn no_url_that_looks_like_the_clients_gets_a_code_or_redeems_one() {
    for world in World::both().await {
        let stage = Stage::set(&world).await;
        let redeem = async |code: &str, redirect: &str| {
            let form = url::form_urlencoded::Serializer::new(String::new())
                .extend_pairs([
                    ("grant_type", "authorization_code"),
                    ("client_id", "acme"),
                    ("client_secret", World::CLIENT_PASSWORD),
                    ("code", code),
                    ("redirect_uri", redirect),
                ])
                .finish();
            let headers = [("content-type", "application/x-www-form-urlencoded")];
            world.anon().raw(Method::POST, "/oauth/token", &headers, Body::from(form)).await
        };
        let code = stage.code(&[]).await;
        for trick in TRICKS {
            let answer = stage.ask(&[("redirect_uri", trick)]).await;
            assert_eq!((answer.status, answer.header("location")), (400, None), "{trick:?}");
            assert_eq!(answer.header("set-cookie"), None, "{trick:?}");
            // Nor is it sent there by way of another error.
            let answer = stage.ask(&[("redirect_uri", trick), ("response_type", "token")]).await;
            assert_eq!((answer.status, answer.header("location")), (400, None), "{trick:?}");
            let answer = redeem(&code, trick).await;
            let mismatch =
                json!({ "error": "invalid_request", "error_description": "The redirect_uri mismatch" });
            assert_eq!((answer.status, answer.body), (400, mismatch), "{trick:?}");
        }
        redeem(&code, REDIRECT).await.expect(200);
    }
}

#[tokio::test]
async fn a_code_is_for_the_one_redirect_url_it_was_asked_for_with() {
    const SECOND: &str = "https://app.example/second";
    for world in World::both().await {
        let stage = Stage::set(&world).await;
        stage.settings(&["authorization_code", "refresh_token"], &[REDIRECT, SECOND]).await;
        let code = stage.code(&[]).await;
        assert_eq!(stage.redeem("acme", &code, SECOND, None).await, "refused");
    }
}

#[tokio::test]
async fn a_proof_is_neither_taken_away_nor_weakened() {
    for world in World::both().await {
        let stage = Stage::set(&world).await;
        for (more, told) in [
            (vec![("code_challenge", CHALLENGE), ("code_challenge_method", "plain")], "S256"),
            (vec![("code_challenge", CHALLENGE), ("code_challenge_method", "none")], "S256"),
            (vec![("code_challenge", CHALLENGE), ("code_challenge_method", "s256")], "S256"),
            (vec![("code_challenge", CHALLENGE)], "S256"),
            (vec![("code_challenge_method", "S256")], "code_challenge"),
            (vec![("code_challenge", ""), ("code_challenge_method", "S256")], "code_challenge"),
            (vec![("code_challenge", "x"), ("code_challenge_method", "S256")], "43 characters"),
        ] {
            let answer = stage.ask(&more).await;
            assert_eq!(answered(&answer, "error").as_deref(), Some("invalid_request"), "{more:?}");
            let described = answered(&answer, "error_description").expect("a reason");
            assert!(described.contains(told), "{more:?}: {described}");
        }
        let proof = [("code_challenge", CHALLENGE), ("code_challenge_method", "S256")];
        for (more, verifier) in [
            // Left out at the token endpoint, put in there alone, or the challenge as its own proof.
            (&proof[..], None),
            (&[][..], Some(VERIFIER)),
            (&proof[..], Some(CHALLENGE)),
            (&proof[..], Some("")),
        ] {
            let code = stage.code(more).await;
            assert_eq!(stage.redeem("acme", &code, REDIRECT, verifier).await, "refused", "{verifier:?}");
        }
        let code = stage.code(&proof).await;
        let redeemed = format!("redeemed {}", stage.group);
        assert_eq!(stage.redeem("acme", &code, REDIRECT, Some(VERIFIER)).await, redeemed);
    }
}

#[tokio::test]
async fn what_was_sent_comes_back_in_bounds_and_in_visible_ascii() {
    for world in World::both().await {
        let stage = Stage::set(&world).await;
        let long = "z".repeat(5_000);
        for sent in ["a\r\nSet-Cookie: x\0\"\\é\u{2028}", &long] {
            for more in [vec![("response_type", sent)], vec![(sent, "1"), (sent, "2")]] {
                let answer = stage.ask(&more).await;
                let told = answered(&answer, "error_description").expect("a reason");
                let visible = |c: char| matches!(c, ' '..='~') && c != '"' && c != '\\';
                assert!(told.chars().all(visible) && told.len() < 120, "{told:?}");
            }
        }
        // The state is the client's own, and comes back as it was, encoded.
        let state = "a&b=c#d\"<script>é";
        let answer = stage.ask(&[("state", state), ("response_type", "token")]).await;
        assert_eq!(answered(&answer, "state").as_deref(), Some(state));
        assert!(!answer.header("location").expect("a location").contains(['<', '"', '#']));
    }
}

#[tokio::test]
async fn what_is_too_long_or_of_another_method_is_refused() {
    let world = World::sqlite().await;
    let stage = Stage::set(&world).await;
    let long = "x".repeat(33_000);
    let answer = stage.ask(&[("x", &long)]).await;
    assert_eq!((answer.status, answer.header("location")), (400, None));
    let page = stage.ask(&[]).await;
    let answer = stage.send(&page, &[("action", "sign_in"), ("username", &long)]).await;
    assert_eq!((answer.status, answer.header("location")), (400, None));
    for method in [Method::PUT, Method::DELETE, Method::PATCH] {
        let answer = world.anon().raw(method, "/oauth/authorize", &[], Body::empty()).await;
        assert_eq!(answer.status, 405);
    }
    // What is not known is not looked at (RFC 6749, section 3.1), and what has no value is not there.
    stage.ask(&[("nonce", "n"), ("prompt", "none"), ("code_challenge", "")]).await.and_is(200);
}
