//! What is read of a request, what is done to it, and what it counts for.

use super::*;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[test]
fn readiness_is_told_from_local_state() {
    let health = |world: &mut World| {
        let head =
            RequestHead { method: b"GET", path: b"/health", end_of_stream: true, ..RequestHead::default() };
        let now = world.now();
        let step = world.gates[0].handle_request(StreamId(99), &head, None, &mut world.process, now);
        world.carry_out(0);
        match step {
            Step::Respond(response) => response.status,
            other => panic!("{other:?}"),
        }
    };
    let mut world = World::new(1);
    assert_eq!(health(&mut world), 503);
    world.answer_all();
    assert_eq!(health(&mut world), 200);
    world.calls.clear();
    world.now += 61_000;
    assert_eq!(health(&mut world), 503);
}

#[test]
fn what_only_we_may_write_is_removed_and_who_calls_is_told() {
    let mut world = World::warm(1);
    let step = world.get(
        0,
        10,
        &[("x-keygate-client-id", "me"), ("x_keygate.admin", "me"), ("x-api-key", "good"), ("x-other", "1")],
    );
    let Step::Admit(admission) = step else { panic!("{step:?}") };
    assert_eq!(admission.remove, [b"x-keygate-client-id".to_vec(), b"x_keygate.admin".to_vec()]);
    let identity = admission.identity.unwrap();
    assert_eq!((identity.client.as_str(), identity.credential.as_str()), ("shop", "xk_1"));
    assert_eq!(identity.groups.as_deref(), Some("g1,g2"));
}

#[test]
fn a_signed_body_is_read_once_it_is_complete_and_its_key_is_known() {
    let body = br#"{ "a": 1 }"#;
    let right = dgrk::sign(API_KEY, SECRET, body);
    let wrong = dgrk::sign(API_KEY, SECRET, b"another");
    for (authorization, body_first, result) in [
        (&right, true, "admitted"),
        (&right, false, "admitted"),
        (&wrong, true, "signature_incorrect"),
        (&wrong, false, "signature_incorrect"),
    ] {
        let mut world = World::warm(1);
        let headers = [("authorization", authorization.as_str())];
        assert_eq!(world.request(0, 10, "POST", &headers, false, body), Step::WaitForBody);
        let stream = StreamId(10);
        if !body_first {
            world.answer_all();
            assert!(world.steps.iter().all(|(_, _, step)| *step == Step::WaitForBody));
        }
        assert_eq!(world.gates[0].handle_body(stream, 4, false), BodyStep::Hold);
        assert_eq!(world.gates[0].handle_body(stream, body.len(), true), BodyStep::Decide);
        let step = world.decide(0, stream);
        world.carry_out(0);
        if body_first {
            assert_eq!(step, Step::WaitForBody);
            world.answer_all();
            assert_eq!(code(&world.steps.last().unwrap().2), result);
        } else {
            assert_eq!(code(&step), result);
        }
    }
}

#[test]
fn the_body_of_a_refused_request_never_goes_upstream() {
    let mut world = World::warm(1);
    let authorization = dgrk::sign(API_KEY, SECRET, b"another body");
    let headers = [("authorization", authorization.as_str())];
    let stream = StreamId(10);
    assert_eq!(world.request(0, 10, "POST", &headers, false, b""), Step::WaitForBody);
    assert_eq!(world.gates[0].handle_body(stream, (1 << 20) + 1, false), BodyStep::Decide);
    assert_eq!(code(&world.decide(0, stream)), "body_too_large");
    // A proxy that goes on all the same is told to hold: continuing would release the headers.
    assert_eq!(world.gates[0].handle_body(stream, (1 << 20) + 2, true), BodyStep::Hold);
    assert_eq!(world.gates[0].handle_trailers(stream), BodyStep::Hold);
}

#[test]
fn a_signed_body_over_the_limit_is_refused_as_soon_as_it_shows() {
    let mut world = World::warm(1);
    let authorization = dgrk::sign(API_KEY, SECRET, b"x");
    let headers = [("authorization", authorization.as_str()), ("content-length", "1048577")];
    assert_eq!(code(&world.request(0, 10, "POST", &headers, false, b"")), "body_too_large");
    assert_eq!(world.request(0, 11, "POST", &headers[..1], false, b""), Step::WaitForBody);
    assert_eq!(world.gates[0].handle_body(StreamId(11), 1 << 20, false), BodyStep::Hold);
    assert_eq!(world.gates[0].handle_body(StreamId(11), (1 << 20) + 1, false), BodyStep::Decide);
    assert_eq!(code(&world.decide(0, StreamId(11))), "body_too_large");
}

#[test]
fn wrong_signatures_use_up_the_budget_of_their_source() {
    let mut world = World::warm(1);
    let authorization = dgrk::sign(API_KEY, SECRET, b"another");
    let body = vec![b'x'; 1 << 20];
    let mut results = vec![];
    for stream in 10..30 {
        world.request(0, stream, "POST", &[("authorization", &authorization)], false, &body);
        world.answer_all();
        world.gates[0].handle_body(StreamId(stream), body.len(), true);
        results.push(code(&world.decide(0, StreamId(stream))).to_string());
    }
    let throttled = results.iter().filter(|code| *code == "signatures_throttled").count();
    assert!((3..=5).contains(&throttled), "16 MiB and a little: {results:?}");
    world.now += 1_000;
    let right = dgrk::sign(API_KEY, SECRET, b"");
    assert!(is_admitted(&world.get(0, 50, &[("authorization", &right)])));
}

#[test]
fn a_stream_counts_until_its_end_and_the_worst_priority_goes_first() {
    let mut world = World::new(1);
    world.manager.settings.capacity = 4;
    world.get(0, 1, &[("x-api-key", "good")]);
    world.answer_all();
    // Priority 5 may use three quarters of four.
    for stream in 2..=3 {
        assert!(is_admitted(&world.get(0, stream, &[("x-api-key", "good")])));
    }
    assert_eq!(code(&world.get(0, 4, &[("x-api-key", "good")])), "overloaded");
    world.end(0, 2, None);
    assert!(is_admitted(&world.get(0, 5, &[("x-api-key", "good")])));
}

#[test]
fn a_stream_that_ends_while_it_waits_is_forgotten() {
    let mut world = World::warm(1);
    assert_eq!(world.get(0, 10, &[("x-api-key", "new")]), Step::Wait);
    world.end(0, 10, None);
    world.answer_all();
    assert!(world.steps.is_empty());
    assert!(world.gates[0].lookups.is_empty() && world.gates[0].waiting_for_lookups == 0);
}

/// Internal by its address, as `internal_ranges` has it.
fn inside() -> OriginRule {
    let blocks = ["10.0.0.0/8", "2001:db8:1::/48"];
    OriginRule::InternalFrom(blocks.iter().map(|block| Block::parse(block).unwrap()).collect())
}

#[test]
fn origin_is_told_by_listener_or_by_address() {
    for (what, rule, source, internal) in [
        ("internal listener", OriginRule::Always(Origin::Internal), "203.0.113.1:1", true),
        ("external listener", OriginRule::Always(Origin::External), "10.0.0.1:1", false),
        ("below the range", inside(), "9.255.255.255:1", false),
        ("the range's first", inside(), "10.0.0.0:1", true),
        ("the range's last", inside(), "10.255.255.255:1", true),
        ("above the range", inside(), "11.0.0.0:1", false),
        ("mapped", inside(), "[::ffff:10.0.0.1]:1", true),
        ("below the IPv6 range", inside(), "[2001:db8:0:ffff::1]:1", false),
        ("inside the IPv6 range", inside(), "[2001:db8:1::1]:1", true),
        ("above the IPv6 range", inside(), "[2001:db8:2::]:1", false),
        ("an address that is none", inside(), "/tmp/envoy.sock", false),
        ("no address", inside(), "", false),
    ] {
        for (audience, admitted) in
            [(Audience::Internal, internal), (Audience::External, !internal), (Audience::Both, true)]
        {
            // The client's audience, the API's, and that of a preflight, which has no client.
            for (of_client, of_api, preflight) in [
                (audience, Audience::Both, false),
                (Audience::Both, audience, false),
                (Audience::Both, audience, true),
            ] {
                let mut world = World::with_origin(1, rule.clone());
                world.process.source = source;
                world.manager.audience = of_api;
                world.manager.known.get_mut(&hex("good")).unwrap().audience = of_client;
                world.get(0, 1, &[("x-api-key", "good")]);
                world.answer_all();
                let step = if preflight {
                    let headers = [("origin", "https://a.example"), ("access-control-request-method", "GET")];
                    world.request(0, 2, "OPTIONS", &headers, true, b"")
                } else {
                    world.get(0, 2, &[("x-api-key", "good")])
                };
                // A preflight that is not let through is a call like any other, without credential.
                let refused = if preflight { "credential_missing" } else { "audience_denied" };
                let expected = if admitted { "admitted" } else { refused };
                assert_eq!(code(&step), expected, "{what}: client {of_client:?}, API {of_api:?}");
            }
        }
    }
}

#[test]
fn what_is_not_registered_passes_and_what_lies_below_a_prefix_never_without_a_credential() {
    let deep = "/a".repeat(crate::directory::MAX_SEGMENTS);
    for (path, without, with) in [
        ("/other".into(), "admitted", "admitted"),
        (format!("/other{deep}"), "admitted", "admitted"),
        ("/admin".into(), "credential_missing", "admitted"),
        ("/admin/a".into(), "credential_missing", "admitted"),
        (format!("/admin{deep}"), "credential_missing", "admitted"),
        (format!("/admin{deep}{deep}/?q=1"), "credential_missing", "admitted"),
    ] {
        let mut world = World::new(1);
        world.manager.path = PathRule::Prefix("/admin".into());
        world.manager.settings.unregistered = crate::wire::directory::Unregistered::Pass;
        world.path = path;
        world.get(0, 1, &[("x-api-key", "good")]);
        world.answer_all();
        let steps = (world.get(0, 2, &[]), world.get(0, 3, &[("x-api-key", "good")]));
        assert_eq!((code(&steps.0), code(&steps.1)), (without, with), "{}", world.path);
    }
}

#[test]
fn a_bound_client_is_refused_where_the_host_knows_no_address() {
    for (source, expected) in [
        ("192.0.2.1:4711", "admitted"),
        ("[::ffff:192.0.2.1]:4711", "admitted"),
        ("192.0.2.2:4711", "address_not_allowed"),
        ("[2001:db8::1]:4711", "address_not_allowed"),
        ("/tmp/envoy.sock", "address_not_allowed"),
        ("", "address_not_allowed"),
    ] {
        let mut world = World::new(1);
        world.process.source = source;
        let grant = world.manager.known.get_mut(&hex("good")).unwrap();
        (grant.bound, grant.addresses) = (true, vec!["192.0.2.1".into()]);
        world.get(0, 1, &[("x-api-key", "good")]);
        world.answer_all();
        assert_eq!(code(&world.get(0, 2, &[("x-api-key", "good")])), expected, "{source:?}");
    }
}
