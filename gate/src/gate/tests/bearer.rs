//! Tokens: what is verified before the manager is asked, how often, and what is kept of them.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const SPKI: &[u8] = b"public key 1";

fn key(kid: &str, spki: &[u8]) -> TokenKey {
    TokenKey { kid: kid.into(), spki: STANDARD.encode(spki) }
}

fn token_with(head: &str, claims: &str, sign: impl Fn(&str) -> Vec<u8>) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(head), URL_SAFE_NO_PAD.encode(claims));
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(sign(&signed)))
}

/// The token `jti` of the only key.
fn token(jti: &str) -> String {
    let head = r#"{"typ":"JWT","alg":"RS256","kid":"k1"}"#;
    token_with(head, &format!("{{\"jti\":\"{jti}\"}}"), |signed| sign(SPKI, signed.as_bytes()).to_vec())
}

fn forged(jti: &str) -> String {
    token_with(r#"{"alg":"RS256","kid":"k1"}"#, &format!("{{\"jti\":\"{jti}\"}}"), |_| vec![7; 256])
}

/// A world whose filters know the key `k1`.
fn world() -> World {
    warmed(World::new(1))
}

fn warmed(mut world: World) -> World {
    world.manager.token_keys = vec![key("k1", SPKI)];
    world.get(0, 1, &[("x-api-key", "good")]);
    world.answer_all();
    world.steps.clear();
    world.manager.resolves = 0;
    world
}

impl World {
    fn present(&mut self, stream: u32, token: &str) -> Step {
        self.get(0, stream, &[("authorization", &format!("Bearer {token}"))])
    }

    /// What becomes of a request with this token in the end.
    fn bearer(&mut self, stream: u32, token: &str) -> Step {
        let step = self.present(stream, token);
        if step != Step::Wait {
            return step;
        }
        self.answer_all();
        self.steps.pop().expect("it was waiting").2
    }

    fn issue(&mut self, token: &str, more: impl Fn(Grant) -> Grant) {
        self.manager.known.insert(hex(token), more(grant("tok_1", Proof::Presented)));
    }
}

fn detail(step: &Step) -> String {
    match step {
        Step::Respond(response) => {
            let body: serde_json::Value = serde_json::from_str(&response.body).unwrap();
            body["detail"].as_str().unwrap().to_string()
        }
        other => panic!("{other:?}"),
    }
}

fn challenge(step: &Step) -> Option<String> {
    match step {
        Step::Respond(response) => {
            let found = response.headers.iter().find(|(name, _)| *name == "www-authenticate");
            found.map(|(_, value)| value.clone())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_token_of_ours_is_verified_once_and_looked_up_once_for_all_who_wait() {
    let mut world = world();
    let token = token("a");
    world.issue(&token, |grant| grant);
    for stream in 10..40 {
        assert_eq!(world.present(stream, &token), Step::Wait);
    }
    world.answer_all();
    assert_eq!(world.steps.len(), 30);
    assert!(world.steps.iter().all(|(_, _, step)| is_admitted(step)));
    assert!(is_admitted(&world.present(50, &token)));
    assert_eq!((world.process.verified, world.manager.resolves), (1, 1));
}

#[test]
fn what_no_key_of_ours_has_signed_never_reaches_the_manager() {
    let mut world = world();
    let by = |head: &str| token_with(head, "{}", |signed| sign(SPKI, signed.as_bytes()).to_vec());
    let whole = token("a");
    let (signed, _) = whole.rsplit_once('.').unwrap();
    let spaces = " ".repeat(2_000);
    for (what, presented, told) in [
        ("not signed", by(r#"{"alg":"none","kid":"k1"}"#), "is not signed by RS256"),
        ("signed with the public key as a secret", by(r#"{"alg":"HS256","kid":"k1"}"#), "RS256"),
        ("no key named", by(r#"{"alg":"RS256"}"#), "a key that is not used here"),
        ("another issuer's key", by(r#"{"alg":"RS256","kid":"k2"}"#), "a key that is not used here"),
        ("a huge head", by(&format!(r#"{{"alg":"RS256","kid":"k1"{spaces}}}"#)), "is no JWT"),
        ("a key brought along", by(r#"{"alg":"RS256","jwk":{"kty":"RSA"}}"#), "a key that is not used here"),
        ("two parts", signed.into(), "is no JWT"),
        ("four parts", format!("{whole}.e30"), "is no JWT"),
        ("no signature", format!("{signed}."), "is no JWT"),
        ("padded", format!("{whole}="), "is no JWT"),
        ("opaque", "2YotnFZFEjr1zCsicMWpAA".into(), "is no JWT"),
        ("a wrong signature", forged("a"), "has an incorrect signature"),
        ("other claims", whole.replacen(".e", ".f", 1), "has an incorrect signature"),
    ] {
        world.issue(&presented, |grant| grant);
        let step = world.bearer(10, &presented);
        assert_eq!(code(&step), "credential_unknown", "{what}");
        assert!(detail(&step).contains(told), "{what}: {}", detail(&step));
        assert_eq!(
            challenge(&step).as_deref(),
            Some("Bearer realm=\"keygate\", error=\"invalid_token\""),
            "{what}"
        );
    }
    assert_eq!(world.manager.resolves, 0);
    assert_eq!(world.process.verified, 2, "the last two alone were worth a look");
}

#[test]
fn a_flood_of_wrong_signatures_costs_a_bounded_number_of_checks() {
    let mut world = world();
    let good = token("good");
    world.issue(&good, |grant| grant);
    assert!(is_admitted(&world.bearer(10, &good)));
    world.process.verified = 0;
    let mut throttled = 0;
    for n in 0..FAILED_LOOKUPS_PER_S as u32 + 50 {
        throttled +=
            usize::from(code(&world.bearer(100 + n, &forged(&format!("{n}")))) == "lookups_throttled");
    }
    assert_eq!((world.process.verified as u64, throttled), (FAILED_LOOKUPS_PER_S, 50));
    // The same one again is known to be wrong.
    for stream in 1_000..1_100 {
        let step = world.bearer(stream, &forged("1"));
        assert_eq!(code(&step), "credential_unknown");
        assert!(detail(&step).contains("incorrect signature"), "{}", detail(&step));
    }
    assert_eq!(world.process.verified as u64, FAILED_LOOKUPS_PER_S);
    assert!(is_admitted(&world.present(2_000, &good)), "and a known token is not in its way");
    assert_eq!(world.manager.resolves, 1);
}

#[test]
fn a_key_that_arrives_opens_its_tokens_and_one_that_goes_closes_new_ones_alone() {
    let mut world = world();
    let next = token_with(r#"{"alg":"RS256","kid":"k2"}"#, "{}", |signed| {
        sign(b"public key 2", signed.as_bytes()).to_vec()
    });
    world.issue(&next, |grant| grant);
    assert_eq!(code(&world.bearer(10, &next)), "credential_unknown");
    let old = token("old");
    world.issue(&old, |grant| grant);
    assert!(is_admitted(&world.bearer(11, &old)));
    world.manager.token_keys = vec![key("k2", b"public key 2")];
    world.manager.change(Subject::Directory);
    world.answer_all();
    assert!(is_admitted(&world.bearer(12, &next)), "at once: a missing key is not remembered");
    assert!(is_admitted(&world.present(13, &old)), "what is held goes on until the manager says otherwise");
    let other = token("other");
    world.issue(&other, |grant| grant);
    assert_eq!(code(&world.bearer(14, &other)), "credential_unknown");
}

#[test]
fn a_token_of_a_key_that_is_on_its_way_waits_for_it() {
    let mut world = world();
    let by = |kid: &str, spki: &'static [u8]| {
        let head = format!(r#"{{"alg":"RS256","kid":"{kid}"}}"#);
        token_with(&head, "{}", |signed| sign(spki, signed.as_bytes()).to_vec())
    };
    let (next, other) = (by("k2", b"public key 2"), by("k3", b"public key 3"));
    world.issue(&next, |grant| grant);
    world.manager.token_keys.push(key("k2", b"public key 2"));
    world.manager.change(Subject::Directory);
    // That the directory has changed is known, and not how.
    let poll = world.calls.iter().position(|(_, call)| call.path.starts_with(CHANGES_PATH)).expect("a poll");
    let (worker, poll) = world.calls.remove(poll);
    let answer = world.manager.answer(&poll);
    world.deliver(worker, poll.id, answer);
    assert_eq!((world.present(10, &next), world.present(11, &other)), (Step::Wait, Step::Wait));
    world.answer_all();
    let became =
        |stream: u32| world.steps.iter().rev().find(|(_, id, _)| id.0 == stream).map(|(_, _, step)| step);
    assert!(became(10).is_some_and(is_admitted), "{:?}", world.steps);
    assert_eq!(became(11).map(code), Some("credential_unknown"));
}

#[test]
fn a_host_that_cannot_verify_lets_no_token_in() {
    let mut world = world();
    world.process.cannot_verify = true;
    let token = token("a");
    world.issue(&token, |grant| grant);
    assert_eq!(code(&world.bearer(10, &token)), "internal");
    world.process.cannot_verify = false;
    assert!(is_admitted(&world.bearer(11, &token)), "and it is not held against the token");
}

#[test]
fn each_end_of_a_token_has_its_code_and_its_challenge() {
    let invalid = Some("Bearer realm=\"keygate\", error=\"invalid_token\"");
    let scope = Some("Bearer realm=\"keygate\", error=\"insufficient_scope\"");
    let meter = Meter { id: MeterId(7), kind: MeterKind::TokenUses, limit: 3, window_s: None, horizon_s: 30 };
    let unix = |world: &World, ms: i64| Some(UnixMillis(world.now().unix.0 + ms));
    let mut world = world();
    let (past, ahead) = (unix(&world, -1), unix(&world, 60_000));
    type More<'a> = &'a dyn Fn(Grant) -> Grant;
    let rows: [(&str, More<'_>, &str, u16, Option<&str>); 6] = [
        ("expired", &|g| Grant { expires_at: past, ..g }, "credential_expired", 401, invalid),
        ("revoked", &|g| Grant { revoked_at: past, ..g }, "credential_revoked", 401, invalid),
        ("not yet", &|g| Grant { effective_at: ahead, ..g }, "credential_not_effective", 401, invalid),
        ("used up", &|g| Grant { meters: vec![meter.clone()], ..g }, "token_used_up", 401, invalid),
        (
            "without the scope",
            &|g| Grant { permission: Permission::Groups { groups: vec!["g9".into()] }, ..g },
            "permission_denied",
            403,
            scope,
        ),
        (
            "of a disabled client",
            &|g| Grant { client_status: ClientStatus::Disabled, ..g },
            "client_disabled",
            403,
            None,
        ),
    ];
    for (n, (what, more, expected, status, challenged)) in rows.into_iter().enumerate() {
        let token = token(what);
        world.issue(&token, more);
        let stream = 10 + n as u32;
        let mut step = world.bearer(stream, &token);
        if step == Step::Wait {
            // For the word of the ledger.
            world.answer_all();
            step = world.steps.pop().expect("the ledger answered").2;
        }
        assert_eq!(code(&step), expected, "{what}");
        assert_eq!(challenge(&step).as_deref(), challenged, "{what}");
        let Step::Respond(response) = step else { panic!("{what}") };
        assert_eq!(response.status, status, "{what}");
        assert!(
            !response.headers.iter().any(|(name, _)| *name == "retry-after") || what == "not yet",
            "{what}"
        );
    }
    // Nothing was presented: no error to tell.
    let step = world.get(0, 99, &[]);
    assert_eq!(code(&step), "credential_missing");
    assert!(
        challenge(&step)
            .is_some_and(|told| told.contains("Bearer realm=\"keygate\"") && !told.contains("error"))
    );
}

#[test]
fn thousands_of_short_lived_tokens_leave_nothing_behind() {
    let mut world = world();
    let held = |world: &World| (world.gates[0].cache.len(), world.gates[0].buckets.len());
    let mut most = 0;
    let mut admitted = 0;
    world.manager.ledger = RenewalOutcome::Granted {
        lease: LeaseId(1),
        generation: Generation(1),
        units: 10,
        ttl_ms: 60_000,
        window_left_ms: None,
        opens_in_ms: None,
        remaining: 10,
    };
    // Five new ones each tenth of a second, for most of a minute; each lives for five seconds.
    for tenth in 0..550 {
        for n in 0..5 {
            let id = tenth * 5 + n;
            let token = token(&format!("{id}"));
            let expires_at = Some(UnixMillis(world.now().unix.0 + 5_000));
            let meter = Meter {
                id: MeterId(1_000 + u64::from(id)),
                kind: MeterKind::TokenUses,
                limit: 10,
                window_s: None,
                horizon_s: 30,
            };
            world.issue(&token, |grant| Grant { expires_at, meters: vec![meter.clone()], ..grant });
            let step = world.bearer(id + 10, &token);
            admitted += u32::from(is_admitted(&step));
            world.end(0, id + 10, Some(200));
        }
        world.pass(100, &[0]);
        world.answer_all();
        most = most.max(held(&world).0);
    }
    assert_eq!(admitted, 550 * 5);
    assert!(most <= 100, "the cache is bounded: {most}");
    world.get(0, 5, &[("x-api-key", "good")]);
    world.answer_all();
    world.end(0, 5, None);
    world.pass(30_000, &[0]);
    world.answer_all();
    assert_eq!(held(&world), (1, 0), "the X-Api-Key alone is still held");
    assert!(world.gates[0].lookups.is_empty());
    assert!(world.gates[0].unknowns.is_empty());
}

/// A meter of a token's uses.
fn uses(id: u64, limit: u64) -> Meter {
    Meter { id: MeterId(id), kind: MeterKind::TokenUses, limit, window_s: None, horizon_s: 30 }
}

fn lease_of(units: u32) -> RenewalOutcome {
    RenewalOutcome::Granted {
        lease: LeaseId(1),
        generation: Generation(1),
        units,
        ttl_ms: 60_000,
        window_left_ms: None,
        opens_in_ms: None,
        remaining: 0,
    }
}

#[test]
fn thousands_of_counted_tokens_of_one_client_are_used_at_one_moment() {
    const TOKENS: u32 = 3_000;
    let mut world = World::new(1);
    let setup = Setup { cache_entries: DEFAULT_CACHE_ENTRIES, ..world.gates[0].setup.clone() };
    world.gates[0] = Gate::new(setup, [9; 32]);
    world.manager.settings.capacity = 0;
    let mut world = warmed(world);
    let bytes = |world: &World| world.process.values.values().map(|(value, _)| value.len()).sum::<usize>();
    let before = bytes(&world);
    world.manager.ledger = lease_of(3);
    let quota = Meter { kind: MeterKind::ClientQuota, ..uses(1, u64::from(u32::MAX)) };
    for n in 0..TOKENS {
        let token = token(&format!("{n}"));
        let meters = vec![quota.clone(), uses(1_000 + u64::from(n), 3)];
        world.issue(&token, |grant| Grant { meters: meters.clone(), ..grant });
        assert_eq!(world.present(10 + n, &token), Step::Wait);
    }
    // The client's own quota comes in small leases here, and is asked for as often as it takes.
    world.manager.ledger = lease_of(TOKENS);
    world.answer_all();
    let mut steps = core::mem::take(&mut world.steps);
    steps.retain(|(_, _, step)| *step != Step::Wait);
    let refused: Vec<_> = steps.iter().filter(|(_, _, step)| !is_admitted(step)).collect();
    assert_eq!((steps.len(), refused.len()), (TOKENS as usize, 0), "{:?}", refused.first());
    let each = (bytes(&world) - before) / TOKENS as usize;
    assert!(each <= 160, "{each} bytes of shared data for a token with its lease");

    // Nobody uses them any more: what they held goes back, and nothing is left of them.
    world.manager.ledger = RenewalOutcome::Closed;
    for _ in 0..30 {
        // A poll is answered, so that the node knows itself connected.
        world.manager.change(Subject::Directory);
        world.pass(500, &[0]);
        world.answer_all();
    }
    let left = (bytes(&world) - before) / TOKENS as usize;
    assert!(left <= 16, "{left} bytes of shared data for a token that holds nothing");
}

#[test]
fn a_call_over_the_rate_takes_no_use_of_a_token() {
    let mut world = world();
    let token = token("counted");
    world.issue(&token, |grant| Grant { tps: 1, meters: vec![uses(7, 3)], ..grant });
    world.manager.ledger = lease_of(3);
    assert_eq!(world.present(10, &token), Step::Wait);
    world.answer_all();
    assert!(is_admitted(&world.steps.pop().expect("it was waiting").2));
    let left = |world: &mut World| -> u32 {
        let key = world.gates[0].keys.numbered("bucket", 7);
        let (bytes, _) = world.process.get(&key).expect("a record");
        let records = crate::quota::bucket::Bucket::decode(&bytes).expect("a bucket").meters;
        records.iter().flat_map(|record| &record.leases).map(|lease| lease.left).sum()
    };
    let before = left(&mut world);
    for stream in 11..16 {
        assert_eq!(code(&world.present(stream, &token)), "rate_exceeded");
        assert_eq!(left(&mut world), before);
    }
    world.now += 1_000;
    assert!(is_admitted(&world.present(20, &token)));
    assert_eq!(left(&mut world), before - 1);
}

#[test]
fn where_quota_and_uses_are_taken_the_quota_is_told_once_both_are_known() {
    let mut world = world();
    let token = token("counted");
    let quota = Meter { kind: MeterKind::ClientQuota, ..uses(1, 1) };
    world.issue(&token, |grant| Grant { meters: vec![quota.clone(), uses(7, 1)], ..grant });
    world.manager.ledger = RenewalOutcome::Exhausted { window_left_ms: None };
    assert_eq!(world.present(10, &token), Step::Wait);
    world.answer_all();
    assert_eq!(code(&world.steps.pop().expect("it was waiting").2), "token_used_up");
    world.pass(100, &[0]);
    world.answer_all();
    assert_eq!(code(&world.present(11, &token)), "quota_exhausted");
}

#[test]
fn a_used_up_token_takes_nothing_of_its_clients_quota() {
    let mut world = world();
    let (used_up, other) = (token("used up"), token("other"));
    let quota = Meter { kind: MeterKind::ClientQuota, ..uses(1, 3) };
    world.issue(&other, |grant| Grant { meters: vec![quota.clone()], ..grant });
    world.manager.ledger = lease_of(3);
    assert_eq!(world.present(10, &other), Step::Wait);
    world.answer_all();
    assert!(is_admitted(&world.steps.pop().expect("it was waiting").2));
    world.issue(&used_up, |grant| Grant { meters: vec![quota.clone(), uses(7, 1)], ..grant });
    world.manager.ledger = RenewalOutcome::Exhausted { window_left_ms: None };
    assert_eq!(world.present(11, &used_up), Step::Wait);
    world.answer_all();
    for stream in 12..20 {
        assert_eq!(code(&world.present(stream, &used_up)), "token_used_up");
    }
    assert!(is_admitted(&world.present(20, &other)) && is_admitted(&world.present(21, &other)));
}

#[test]
fn an_expired_token_that_is_presented_again_and_again_is_asked_about_rarely() {
    let mut world = world();
    let token = token("old");
    let past = Some(UnixMillis(world.now().unix.0 - 1));
    world.issue(&token, |grant| Grant { expires_at: past, ..grant });
    for second in 0..60 {
        assert_eq!(code(&world.bearer(10 + second, &token)), "credential_expired");
        world.pass(1_000, &[0]);
        world.answer_all();
    }
    assert!(world.manager.resolves <= 6, "{}", world.manager.resolves);
    assert!(world.process.verified <= 6);
}
