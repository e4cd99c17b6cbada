//! The only place that says yes or no.
//!
//! The order of the checks is part of the contract (`docs/denials.md`): **proof of the secret
//! first**, so that nothing about a key's or a client's state is told to a caller who has not
//! proven it; then the client, its addresses and its dates; then the credential; then what may
//! be called and from where; then whether there is room. A token that has ended is refused before
//! anything is told of its client. Rates and meters come last and are taken in one step
//! ([`crate::quota`]), so that a refused call consumes nothing.

use alloc::string::ToString;
use core::net::IpAddr;

use crate::credential::dgrk;
use crate::denial::Denial;
use crate::grant::HeldGrant;
use crate::request::CredentialKind;
use crate::time::UnixMillis;
use crate::wire::directory::{ApiEntry, Audience};
use crate::wire::exchange::{ClientStatus, Grant, Proof};

/// Evidence that the caller holds the secret. Nothing but a check of the secret makes one.
#[derive(Debug)]
pub struct Proven(());

impl Proven {
    /// The credential was found by the hash of its secret, or the manager checked its password.
    /// None for a grant that asks for a signature.
    pub fn by_presentation(grant: &Grant) -> Option<Self> {
        match grant.proof {
            Proof::Presented => Some(Self(())),
            Proof::Signature { .. } => None,
        }
    }

    /// A DGRK signature fitted one of the live secrets. None for any other verdict.
    pub fn by_signature(verdict: &dgrk::Verdict) -> Option<Self> {
        match verdict {
            dgrk::Verdict::Verified(_) => Some(Self(())),
            dgrk::Verdict::Incorrect { .. } => None,
        }
    }
}

/// From which side a request comes, by the filter's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The internal listener, or an internal address.
    Internal,
    /// Everywhere else.
    External,
}

impl Audience {
    /// Whether requests from `origin` are meant.
    pub fn includes(self, origin: Origin) -> bool {
        match self {
            Self::Both => true,
            Self::Internal => origin == Origin::Internal,
            Self::External => origin == Origin::External,
        }
    }
}

/// What is known of the call.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// What was presented.
    pub kind: CredentialKind,
    /// The caller's address; None when the host could not tell.
    pub address: Option<IpAddr>,
    /// From which side it comes.
    pub origin: Origin,
    /// Requests that this worker has in flight.
    pub in_flight: u32,
}

/// Leave to take a unit of every limit and pass. Only [`decide`] gives one.
#[derive(Debug)]
pub struct Permit(());

/// Whether `call` may use `api` under `grant`. Total and free of effects.
pub fn decide(
    _proven: Proven,
    grant: &HeldGrant,
    api: &ApiEntry,
    call: &Call,
    capacity: u32,
    now: UnixMillis,
) -> Result<Permit, Denial> {
    if call.kind == CredentialKind::Bearer {
        ended(&grant.wire, call.kind, now)?;
    }
    client_status(&grant.wire)?;
    if !grant.bindings.allow(call.address) {
        let address = call.address.map(|address| address.to_string()).unwrap_or_default();
        return Err(Denial::AddressNotAllowed { address });
    }
    client_times(&grant.wire, now)?;
    credential(&grant.wire, call.kind, now)?;
    if !grant.permits(api) {
        return Err(Denial::PermissionDenied { kind: call.kind });
    }
    if !(grant.wire.audience.includes(call.origin) && api.audience.includes(call.origin)) {
        return Err(Denial::AudienceDenied);
    }
    if !has_room(grant.wire.priority, call.in_flight, capacity) {
        return Err(Denial::Overloaded);
    }
    Ok(Permit(()))
}

fn client_status(grant: &Grant) -> Result<(), Denial> {
    match grant.client_status {
        ClientStatus::Active => Ok(()),
        ClientStatus::Disabled => Err(Denial::ClientDisabled),
        ClientStatus::Locked => Err(Denial::ClientLocked),
    }
}

fn client_times(grant: &Grant, now: UnixMillis) -> Result<(), Denial> {
    if let Some(validity) = grant.client_validity {
        if now < validity.from {
            return Err(Denial::ClientNotStarted { from: validity.from });
        }
        if validity.until < now {
            return Err(Denial::ClientExpired { until: validity.until });
        }
    }
    match &grant.service_time {
        Some(intervals) if !intervals.iter().any(|interval| interval.contains(now)) => {
            let next = intervals.iter().filter(|interval| now < interval.from).min_by_key(|i| i.from);
            Err(Denial::OutsideServiceTime { next: next.copied() })
        }
        Some(_) | None => Ok(()),
    }
}

fn credential(grant: &Grant, kind: CredentialKind, now: UnixMillis) -> Result<(), Denial> {
    if !grant.active {
        return Err(Denial::CredentialInactive { kind });
    }
    if let Some(at) = grant.effective_at.filter(|at| now < *at) {
        return Err(Denial::CredentialNotEffective { kind, at });
    }
    ended(grant, kind, now)
}

/// Of a token that is of both kinds it is told that its time is over, as digiRunner does; of a key that it
/// was revoked.
fn ended(grant: &Grant, kind: CredentialKind, now: UnixMillis) -> Result<(), Denial> {
    let expired = match grant.expires_at.filter(|at| *at < now) {
        Some(at) => Err(Denial::CredentialExpired { kind, at }),
        None => Ok(()),
    };
    match grant.revoked_at.filter(|at| *at <= now) {
        Some(at) if kind != CredentialKind::Bearer || expired.is_ok() => {
            Err(Denial::CredentialRevoked { kind, at })
        }
        Some(_) | None => expired,
    }
}

/// Class p is admitted while in-flight < capacity × (1 − p/20): the worst class leaves 45 % of
/// the worker to better ones. Capacity 0 = no shedding.
fn has_room(priority: u8, in_flight: u32, capacity: u32) -> bool {
    let share = 20_u64.saturating_sub(u64::from(priority));
    capacity == 0 || u64::from(in_flight) * 20 < u64::from(capacity) * share
}

/// Whether `api` is open to anybody at present.
pub fn decide_enabled(api: &ApiEntry) -> Result<(), Denial> {
    if api.enabled { Ok(()) } else { Err(Denial::ApiDisabled) }
}

/// Whether `api` takes credentials of that kind.
pub fn decide_kind(api: &ApiEntry, kind: CredentialKind) -> Result<(), Denial> {
    if api.accepts.contains(&kind) {
        return Ok(());
    }
    Err(Denial::CredentialNotAccepted { kind, accepts: api.accepts.clone() })
}

/// Whether a request without any credential may pass: the API asks for none, and is open to
/// this side.
pub fn decide_open(api: &ApiEntry, origin: Origin) -> Result<Permit, Denial> {
    if api.audience.includes(origin) { Ok(Permit(())) } else { Err(Denial::AudienceDenied) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Interval;
    use crate::wire::directory::PathRule;
    use crate::wire::exchange::Permission;
    use alloc::string::String;
    use alloc::vec;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    const NOW: UnixMillis = UnixMillis(1_000_000);
    const KIND: CredentialKind = CredentialKind::Dgrk;

    fn interval(from: i64, until: i64) -> Interval {
        Interval { from: UnixMillis(NOW.0 + from), until: UnixMillis(NOW.0 + until) }
    }

    fn at(offset: i64) -> Option<UnixMillis> {
        Some(UnixMillis(NOW.0 + offset))
    }

    /// A grant that lets everything through.
    fn grant() -> Grant {
        Grant {
            credential: "key_1".into(),
            client: "acme".into(),
            proof: Proof::Presented,
            client_status: ClientStatus::Active,
            client_validity: None,
            service_time: None,
            addresses: vec![],
            bound: false,
            active: true,
            effective_at: None,
            revoked_at: None,
            expires_at: None,
            permission: Permission::Apis { apis: vec!["orders".into()] },
            audience: Audience::Both,
            priority: 5,
            tps: 0,
            meters: vec![],
            utc_offset_min: 0,
            keep_s: 60,
        }
    }

    fn api() -> ApiEntry {
        ApiEntry {
            uid: "orders".into(),
            module: "shop".into(),
            id: "orders".into(),
            hosts: vec![],
            methods: vec![],
            path: PathRule::Exact("/orders".into()),
            accepts: vec![KIND],
            no_auth: false,
            enabled: true,
            audience: Audience::Both,
            groups: vec!["retail".into(), "partners".into()],
            unsigned_forms: false,
        }
    }

    fn call() -> Call {
        Call { kind: KIND, address: "192.0.2.1".parse().ok(), origin: Origin::External, in_flight: 0 }
    }

    fn check(what: &str, grant: Grant, api: ApiEntry, call: Call, denial: Option<Denial>) {
        let held = HeldGrant::new(grant).unwrap();
        let proven = Proven::by_presentation(&held.wire).unwrap();
        assert_eq!(decide(proven, &held, &api, &call, 100, NOW).err(), denial, "{what}");
    }

    #[test]
    fn a_signature_is_not_proven_by_presenting_a_key() {
        let signed = Grant { proof: Proof::Signature { secrets: vec![] }, ..grant() };
        assert!(Proven::by_presentation(&signed).is_none());
    }

    #[test]
    fn states_and_dates_on_both_sides_of_each_edge() {
        let disabled = Grant { client_status: ClientStatus::Disabled, ..grant() };
        let locked = Grant { client_status: ClientStatus::Locked, ..grant() };
        let valid = |from, until| Grant { client_validity: Some(interval(from, until)), ..grant() };
        let served = |intervals: &[(i64, i64)]| Grant {
            service_time: Some(intervals.iter().map(|(from, until)| interval(*from, *until)).collect()),
            ..grant()
        };
        let effective = |offset| Grant { effective_at: at(offset), ..grant() };
        let revoked = |offset| Grant { revoked_at: at(offset), ..grant() };
        let expires = |offset| Grant { expires_at: at(offset), ..grant() };
        let moment = |offset: i64| UnixMillis(NOW.0 + offset);
        for (what, grant, denial) in [
            ("everything open", grant(), None),
            ("disabled", disabled, Some(Denial::ClientDisabled)),
            ("locked", locked, Some(Denial::ClientLocked)),
            ("first instant", valid(0, 9), None),
            ("one before", valid(1, 9), Some(Denial::ClientNotStarted { from: moment(1) })),
            ("last instant", valid(-9, 0), None),
            ("one after", valid(-9, -1), Some(Denial::ClientExpired { until: moment(-1) })),
            ("service, first instant", served(&[(-9, -5), (0, 5)]), None),
            (
                "service, one before",
                served(&[(-9, -5), (1, 5)]),
                Some(Denial::OutsideServiceTime { next: Some(interval(1, 5)) }),
            ),
            ("service, last instant", served(&[(-9, 0), (5, 9)]), None),
            (
                "service, one after",
                served(&[(-9, -1), (5, 9)]),
                Some(Denial::OutsideServiceTime { next: Some(interval(5, 9)) }),
            ),
            ("no service at all", served(&[]), Some(Denial::OutsideServiceTime { next: None })),
            (
                "between two services",
                served(&[(-9, -1), (50, 60), (1, 5)]),
                Some(Denial::OutsideServiceTime { next: Some(interval(1, 5)) }),
            ),
            ("no service ahead", served(&[(-9, -1)]), Some(Denial::OutsideServiceTime { next: None })),
            ("inactive", Grant { active: false, ..grant() }, Some(Denial::CredentialInactive { kind: KIND })),
            ("effective now", effective(0), None),
            (
                "effective next",
                effective(1),
                Some(Denial::CredentialNotEffective { kind: KIND, at: moment(1) }),
            ),
            ("revoked now", revoked(0), Some(Denial::CredentialRevoked { kind: KIND, at: moment(0) })),
            ("revoked next", revoked(1), None),
            ("expires now", expires(0), None),
            ("expired", expires(-1), Some(Denial::CredentialExpired { kind: KIND, at: moment(-1) })),
        ] {
            check(what, grant, api(), call(), denial);
        }
    }

    #[test]
    fn bound_clients_call_from_their_addresses_alone() {
        for (what, blocks, caller, allowed) in [
            ("an address", &["192.0.2.7"][..], Some("192.0.2.7"), true),
            ("the next one", &["192.0.2.7"], Some("192.0.2.8"), false),
            ("one of several", &["198.51.100.1", "192.0.2.0/24"], Some("192.0.2.1"), true),
            ("below a block", &["192.0.2.64/26"], Some("192.0.2.63"), false),
            ("a block's first", &["192.0.2.64/26"], Some("192.0.2.64"), true),
            ("a block's last", &["192.0.2.64/26"], Some("192.0.2.127"), true),
            ("above a block", &["192.0.2.64/26"], Some("192.0.2.128"), false),
            ("below an IPv6 block", &["2001:db8:1::/48"], Some("2001:db8:0:ffff::ffff"), false),
            ("an IPv6 block's first", &["2001:db8:1::/48"], Some("2001:db8:1::"), true),
            ("an IPv6 block's last", &["2001:db8:1::/48"], Some("2001:db8:1:ffff:ffff:ffff:ffff:ffff"), true),
            ("above an IPv6 block", &["2001:db8:1::/48"], Some("2001:db8:2::"), false),
            ("IPv6, otherwise written", &["2001:db8::0:1"], Some("2001:db8::1"), true),
            ("mapped, bound as IPv4", &["192.0.2.0/24"], Some("::ffff:192.0.2.7"), true),
            ("mapped, beside it", &["192.0.2.0/24"], Some("::ffff:192.0.3.7"), false),
            ("bound as mapped, calls as IPv4", &["::ffff:192.0.2.7"], Some("192.0.2.7"), true),
            ("all of IPv4 is not IPv6", &["0.0.0.0/0"], Some("2001:db8::1"), false),
            ("all of IPv6 is not IPv4", &["::/0"], Some("192.0.2.7"), false),
            ("compatible is not mapped", &["192.0.2.7"], Some("::192.0.2.7"), false),
            ("NAT64 is not IPv4", &["192.0.2.7"], Some("64:ff9b::192.0.2.7"), false),
            ("bound to names that mean nobody", &[], Some("192.0.2.7"), false),
            ("the host does not know", &["0.0.0.0/0", "::/0"], None, false),
        ] {
            let grant = Grant {
                addresses: blocks.iter().map(|block| String::from(*block)).collect(),
                bound: true,
                ..grant()
            };
            let address = caller.map(|caller| caller.parse().unwrap());
            let told = address.map(|address: IpAddr| address.to_string()).unwrap_or_default();
            let denial = (!allowed).then_some(Denial::AddressNotAllowed { address: told });
            check(what, grant, api(), Call { address, ..call() }, denial);
        }
        for address in [None, "192.0.2.7".parse().ok(), "2001:db8::1".parse().ok()] {
            check("bound to nothing", grant(), api(), Call { address, ..call() }, None);
        }
    }

    #[test]
    fn keys_open_their_apis_and_groups() {
        let groups = |groups: &[&str]| Grant {
            permission: Permission::Groups { groups: groups.iter().map(|g| (*g).into()).collect() },
            ..grant()
        };
        let apis = |apis: &[&str]| Grant {
            permission: Permission::Apis { apis: apis.iter().map(|a| (*a).into()).collect() },
            ..grant()
        };
        for (what, grant, allowed) in [
            ("its API", apis(&["invoices", "orders"]), true),
            ("another API", apis(&["invoices"]), false),
            ("no API", apis(&[]), false),
            ("one of its groups", groups(&["zoo", "partners"]), true),
            ("none of its groups", groups(&["zoo"]), false),
            ("no group", groups(&[]), false),
        ] {
            check(what, grant, api(), call(), (!allowed).then_some(Denial::PermissionDenied { kind: KIND }));
        }
    }

    /// Allowed if and only if the origin is in the client's audience and in the API's.
    #[test]
    fn both_audiences_must_include_the_origin() {
        use Audience::{Both, External, Internal};
        for (client, api_audience, from_inside, from_outside) in [
            (Both, Both, true, true),
            (Both, Internal, true, false),
            (Both, External, false, true),
            (Internal, Both, true, false),
            (Internal, Internal, true, false),
            (Internal, External, false, false),
            (External, Both, false, true),
            (External, Internal, false, false),
            (External, External, false, true),
        ] {
            for (origin, allowed) in [(Origin::Internal, from_inside), (Origin::External, from_outside)] {
                let what = alloc::format!("client {client:?}, API {api_audience:?}, from {origin:?}");
                let grant = Grant { audience: client, ..grant() };
                let api = ApiEntry { audience: api_audience, ..api() };
                let denial = (!allowed).then_some(Denial::AudienceDenied);
                check(&what, grant, api.clone(), Call { origin, ..call() }, denial);
            }
        }
        // Without a credential the API's audience decides alone.
        for (audience, from_inside, from_outside) in
            [(Both, true, true), (Internal, true, false), (External, false, true)]
        {
            let api = ApiEntry { audience, ..api() };
            assert_eq!(decide_open(&api, Origin::Internal).is_ok(), from_inside, "{audience:?}");
            assert_eq!(decide_open(&api, Origin::External).is_ok(), from_outside, "{audience:?}");
        }
    }

    #[test]
    fn priority_0_goes_before_9_when_the_node_is_busy() {
        // Capacity 100: class p is admitted below 100 - 5p in flight.
        for (priority, room) in
            [(0, 100), (1, 95), (2, 90), (3, 85), (4, 80), (5, 75), (6, 70), (7, 65), (8, 60), (9, 55)]
        {
            for (in_flight, admitted) in [(0, true), (room - 1, true), (room, false), (u32::MAX, false)] {
                let denial = (!admitted).then_some(Denial::Overloaded);
                check("room", Grant { priority, ..grant() }, api(), Call { in_flight, ..call() }, denial);
            }
        }
        assert!(has_room(9, u32::MAX, 0), "capacity 0 sheds nothing");
    }

    #[test]
    fn the_first_failing_check_is_told() {
        type Mend = (&'static str, fn(&mut Grant));
        const ENDED: [Mend; 2] = [
            ("credential_revoked", |grant| grant.revoked_at = None),
            ("credential_expired", |grant| grant.expires_at = None),
        ];
        const CLIENT: [Mend; 3] = [
            ("client_disabled", |grant| grant.client_status = ClientStatus::Active),
            ("address_not_allowed", |grant| grant.addresses.clear()),
            ("client_not_started", |grant| grant.client_validity = None),
        ];
        const STATE: [Mend; 2] = [
            ("credential_inactive", |grant| grant.active = true),
            ("credential_not_effective", |grant| grant.effective_at = None),
        ];
        const CALL: [Mend; 3] = [
            ("permission_denied", |grant| {
                grant.permission = Permission::Apis { apis: vec!["orders".into()] }
            }),
            ("audience_denied", |grant| grant.audience = Audience::Both),
            ("overloaded", |grant| grant.priority = 0),
        ];
        let [revoked, expired] = ENDED;
        let keys = [&CLIENT[..], &STATE, &ENDED, &CALL].concat();
        let tokens = [&[expired, revoked][..], &CLIENT, &STATE, &CALL].concat();
        for (kind, order) in [
            (CredentialKind::Dgrk, &keys),
            (CredentialKind::XApiKey, &keys),
            (CredentialKind::Basic, &keys),
            (CredentialKind::Bearer, &tokens),
        ] {
            let mut grant = Grant {
                client_status: ClientStatus::Disabled,
                client_validity: Some(interval(1, 2)),
                addresses: vec!["198.51.100.1".into()],
                active: false,
                effective_at: at(1),
                revoked_at: at(-1),
                expires_at: at(-1),
                permission: Permission::Apis { apis: vec![] },
                audience: Audience::Internal,
                priority: 9,
                ..grant()
            };
            let call = Call { kind, in_flight: 90, ..call() };
            // Each step mends what the step before was refused for.
            for (code, mend) in order {
                let held = HeldGrant::new(grant.clone()).unwrap();
                let proven = Proven::by_presentation(&held.wire).unwrap();
                let denial = decide(proven, &held, &api(), &call, 100, NOW).unwrap_err();
                assert_eq!(denial.code(), *code, "{kind:?}");
                mend(&mut grant);
            }
            check("all is mended", grant, api(), call, None);
        }
    }
}
