//! The rules of forms.

use super::*;
use crate::clients::TakenNames;
use jiff::civil::date as day;

fn apply() -> Fields {
    Fields {
        client: Some("acme".into()),
        name: Some("orders".into()),
        effective_date: Some("2026-07-14".into()),
        expiry_date: Some("2026-07-14".into()),
        quota: Some(-1),
        description: Some("to order".into()),
        apis: Some(vec!["api_1".into()]),
        ..Fields::default()
    }
}

fn change() -> Fields {
    Fields { client: None, key: Some("key_1".into()), ..apply() }
}

fn revoke() -> Fields {
    Fields {
        key: Some("key_1".into()),
        effective_date: Some("2026-07-14".into()),
        description: Some("no longer needed".into()),
        ..Fields::default()
    }
}

fn parse(kind: FormKind, fields: Fields) -> Result<Form, FieldFault> {
    let owner = fields.key.as_ref().filter(|key| *key == "key_1").map(|_| ClientId::from("acme"));
    Form::parse(kind, fields, owner)
}

fn world() -> World {
    World {
        today: day(2026, 7, 14),
        client: Some(ClientFacts { active: true, status: "active", has_email: true }),
        taken: TakenNames::default(),
        key: Some(KeyFacts { revoked: false, effective_date: day(2026, 7, 1), open_form: None }),
        known_apis: BTreeSet::from([ApiUid::from("api_1")]),
        client_gets_credentials: true,
        applicant_out_of_reach: false,
    }
}

#[test]
fn both_sides_of_every_edge_of_the_fields() {
    fn check(what: &str, expected: Result<(), &str>, edit: impl FnOnce(&mut Fields)) {
        let mut fields = apply();
        edit(&mut fields);
        let found = parse(FormKind::Apply, fields);
        assert_eq!(found.as_ref().map(|_| ()).map_err(FieldFault::field), expected, "{what}: {found:?}");
    }
    check("as it should be", Ok(()), |_| ());
    check("no client", Err("client"), |f| f.client = None);
    check("blank client", Err("client"), |f| f.client = Some("  ".into()));
    check("a key", Err("key"), |f| f.key = Some("key_1".into()));
    check("reset of nothing", Err("reset_usage"), |f| f.reset_usage = Some(false));
    check("no name", Err("name"), |f| f.name = None);
    check("blank name", Err("name"), |f| f.name = Some(" \t".into()));
    check("255 characters", Ok(()), |f| f.name = Some("ü".repeat(255)));
    check("256 characters", Err("name"), |f| f.name = Some("ü".repeat(256)));
    check("a line break in the name", Err("name"), |f| f.name = Some("a\nb".into()));
    check("no description", Err("description"), |f| f.description = None);
    check("empty description", Err("description"), |f| f.description = Some(String::new()));
    check("one character", Ok(()), |f| f.description = Some("x".into()));
    check("500 characters", Ok(()), |f| f.description = Some("x".repeat(500)));
    check("501 characters", Err("description"), |f| f.description = Some("x".repeat(501)));
    check("lines", Ok(()), |f| f.description = Some("a\nb".into()));
    check("a NUL", Err("description"), |f| f.description = Some("a\0b".into()));
    check("no effective date", Err("effective_date"), |f| f.effective_date = None);
    for wrong in ["2026-02-30", "2026/07/14", "20260714", "2026-7-14", "2026-07-14T00:00", "today"] {
        check(wrong, Err("effective_date"), |f| f.effective_date = Some(wrong.into()));
    }
    check("no expiry", Err("expiry_date"), |f| f.expiry_date = None);
    check("expiry before", Err("expiry_date"), |f| f.expiry_date = Some("2026-07-13".into()));
    check("no quota", Err("quota"), |f| f.quota = None);
    for (quota, expected) in [
        (i64::MIN, Err("quota")),
        (-2, Err("quota")),
        (-1, Ok(())),
        (0, Err("quota")),
        (1, Ok(())),
        (2_147_483_647, Ok(())),
        (2_147_483_648, Err("quota")),
    ] {
        check(&format!("quota {quota}"), expected, |f| f.quota = Some(quota));
    }
    check("no apis", Err("apis"), |f| f.apis = None);
    check("empty apis", Err("apis"), |f| f.apis = Some(vec![]));
    check("an api twice", Err("apis"), |f| f.apis = Some(vec!["a".into(), "a".into()]));
    let many = |count: usize| Some((0..count).map(|n| format!("api_{n}")).collect::<Vec<_>>());
    check("1,000 apis", Ok(()), |f| f.apis = many(MAX_APIS));
    check("1,001 apis", Err("apis"), |f| f.apis = many(MAX_APIS + 1));
}

#[test]
fn forms_about_a_key_take_their_client_from_it() {
    let form = parse(FormKind::Change, change()).expect("a change");
    assert_eq!(form.client(), Some(&ClientId::from("acme")));
    let form = parse(FormKind::Revoke, revoke()).expect("a revocation");
    assert_eq!((form.client(), form.terms()), (Some(&ClientId::from("acme")), None));
    for kind in [FormKind::Change, FormKind::Revoke] {
        let fields = if kind == FormKind::Change { change() } else { revoke() };
        let no_key = Fields { key: None, ..fields.clone() };
        assert_eq!(parse(kind, no_key), Err(FieldFault::Missing("key")));
        let unknown = Fields { key: Some("key_2".into()), ..fields.clone() };
        assert_eq!(parse(kind, unknown), Err(FieldFault::UnknownKey("key_2".into())));
        let client = Fields { client: Some("acme".into()), ..fields };
        assert_eq!(parse(kind, client), Err(FieldFault::NotOnThisForm { field: "client", kind }));
    }
    let with_quota = Fields { quota: Some(5), ..revoke() };
    let fault = parse(FormKind::Revoke, with_quota).expect_err("a revocation has no quota");
    assert_eq!(fault.to_string(), "`quota` does not belong on a KR form (API key revocation): leave it out");
}

#[test]
fn the_world_is_asked_at_each_step() {
    fn check(
        what: &str,
        form: &Form,
        moment: Moment,
        expected: Result<(), &str>,
        edit: impl FnOnce(&mut World),
    ) {
        let mut world = world();
        edit(&mut world);
        let found = form.check(&world, moment);
        assert_eq!(found.clone().map_err(|fault| fault.field()), expected, "{what}: {found:?}");
    }
    use Moment::{Due, Filing, Signing};
    let apply = parse(FormKind::Apply, apply()).expect("an application");
    let change = parse(FormKind::Change, change()).expect("a change");
    let revoke = parse(FormKind::Revoke, revoke()).expect("a revocation");
    let longer = {
        let Form::Apply { client, terms } = apply.clone() else { panic!("an application") };
        Form::Apply { client, terms: Terms { expiry_date: day(2026, 7, 20), ..terms } }
    };
    for form in [&apply, &change, &revoke] {
        for moment in [Filing, Signing] {
            check("fine", form, moment, Ok(()), |_| ());
            check("client gone", form, moment, Err("client"), |w| w.client = None);
        }
        check("yesterday's", form, Filing, Err("effective_date"), |w| w.today = day(2026, 7, 15));
    }
    check("effective passed in review", &longer, Signing, Ok(()), |w| w.today = day(2026, 7, 15));
    check("last day", &longer, Signing, Ok(()), |w| w.today = day(2026, 7, 20));
    check("expired in review", &longer, Signing, Err("expiry_date"), |w| w.today = day(2026, 7, 21));
    check("late revocation", &revoke, Signing, Ok(()), |w| w.today = day(2027, 1, 1));
    let idle = |w: &mut World| w.client.as_mut().expect("a client").active = false;
    check("inactive client", &apply, Filing, Err("client"), idle);
    check("inactive client", &change, Signing, Err("client"), idle);
    check("an inactive client's key can be revoked", &revoke, Signing, Ok(()), idle);
    check("the change of an inactive client's key that is due", &change, Due, Ok(()), idle);
    let late = |w: &mut World| w.key.as_mut().expect("a key").effective_date = day(2026, 7, 14);
    check("ends on the key's first day", &change, Filing, Ok(()), late);
    let later = |w: &mut World| w.key.as_mut().expect("a key").effective_date = day(2026, 7, 15);
    check("ends before its key begins", &change, Filing, Err("expiry_date"), later);
    check("a key that has not begun can be revoked", &revoke, Filing, Ok(()), later);
    let silent = |w: &mut World| w.client.as_mut().expect("a client").has_email = false;
    check("no address", &apply, Filing, Err("client"), silent);
    check("no secret to send", &change, Filing, Ok(()), silent);
    check("sent elsewhere", &apply, Filing, Ok(()), |w| {
        silent(w);
        w.client_gets_credentials = false;
    });
    let lonely = |w: &mut World| w.applicant_out_of_reach = true;
    check("applicant without address", &apply, Filing, Err("applicant"), lonely);
    check("no secret to send", &revoke, Filing, Ok(()), lonely);
    check("unknown api", &apply, Filing, Err("apis"), |w| w.known_apis.clear());
    check("api removed in review", &change, Signing, Err("apis"), |w| w.known_apis.clear());
    for form in [&change, &revoke] {
        check("no key", form, Filing, Err("key"), |w| w.key = None);
        check("revoked", form, Signing, Err("key"), |w| w.key.as_mut().expect("a key").revoked = true);
        check("other form", form, Filing, Err("key"), |w| {
            w.key.as_mut().expect("a key").open_form = Some("KU-20260714-0001".into());
        });
    }
}
