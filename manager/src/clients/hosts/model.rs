//! A host name, and what may be made of the answers to it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use gate::time::UnixMillis;
use serde::Serialize;

/// Host names that one client may be bound to: each is worth up to [`MAX_ADDRESSES`] bindings.
pub const MAX_NAMES: usize = 16;
/// Addresses of one name that are used: each call compares all of them.
pub const MAX_ADDRESSES: usize = 16;
/// Characters of a name at most (RFC 1035 without the dot at the end).
const MAX_LENGTH: usize = 253;
/// Characters of a name's part at most.
const MAX_LABEL: usize = 63;

/// A host name in lower case (RFC 1123), always meant as a whole: no search list is applied.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct HostName(String);

impl HostName {
    /// Reads a name; says what is wrong with it otherwise.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some((host, port)) = text.rsplit_once(':')
            && !host.contains(':')
            && port.bytes().all(|byte| byte.is_ascii_digit())
        {
            return Err(format!(
                "{text:?} names a port, which an address binding cannot compare: leave `:{port}` out"
            ));
        }
        if !text.is_ascii() {
            return Err(format!("{text:?} is no host name: write it in ASCII (xn--…)"));
        }
        if text.is_empty() || text.len() > MAX_LENGTH {
            return Err(format!("a host name must be 1 to {MAX_LENGTH} characters"));
        }
        let label = |label: &str| {
            !label.is_empty()
                && label.len() <= MAX_LABEL
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        // What ends in a number would be an address to others (and is a misspelt one here).
        let numeric = text.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
        if !text.split('.').all(label) || numeric {
            return Err(format!(
                "{text:?} is no IP address, no CIDR block such as 192.0.2.0/24 or 2001:db8::/32, and no host name \
                 such as gateway.example.com (parts of 1 to {MAX_LABEL} letters, digits and hyphens)"
            ));
        }
        Ok(Self(text.to_ascii_lowercase()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A name and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Which.
    pub name: HostName,
    /// The last good answer, sorted; emptied once it is too old.
    pub addresses: Vec<IpAddr>,
    /// When that came; None: never.
    pub resolved_at: Option<UnixMillis>,
    /// When it was asked for last; None: never.
    pub tried_at: Option<UnixMillis>,
    /// What of the last answer may not be used, sorted.
    pub refused: Vec<IpAddr>,
    /// What was wrong with the last answer.
    pub last_error: Option<String>,
}

/// How answers are judged: the installation's settings.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Milliseconds between two questions.
    pub refresh_ms: i64,
    /// Milliseconds for which a good answer serves.
    pub keep_ms: i64,
    /// Addresses of private networks are taken too.
    pub allow_private: bool,
}

impl Host {
    /// A name that nobody has asked for.
    pub fn unasked(name: HostName) -> Self {
        Self { name, addresses: vec![], resolved_at: None, tried_at: None, refused: vec![], last_error: None }
    }

    /// What the name means now.
    pub fn in_force(&self, now: UnixMillis, keep_ms: i64) -> &[IpAddr] {
        match self.resolved_at {
            Some(at) if now.0 < at.0.saturating_add(keep_ms) => &self.addresses,
            Some(_) | None => &[],
        }
    }

    /// What is known after an answer, or the lack of one.
    pub fn after(&self, answer: Result<Vec<IpAddr>, String>, terms: &Terms, now: UnixMillis) -> Self {
        let (usable, refused, error) = match answer {
            Ok(addresses) => sift(addresses, terms.allow_private),
            Err(error) => (vec![], vec![], Some(error)),
        };
        let (addresses, resolved_at) = if usable.is_empty() {
            (self.in_force(now, terms.keep_ms).to_vec(), self.resolved_at)
        } else {
            (usable, Some(now))
        };
        Self {
            name: self.name.clone(),
            addresses,
            resolved_at,
            tried_at: Some(now),
            refused,
            last_error: error,
        }
    }

    /// When it is to be asked for again: no later than its addresses lapse.
    pub fn due_at(&self, terms: &Terms, now: UnixMillis) -> UnixMillis {
        let refreshed = now.0.saturating_add(terms.refresh_ms);
        let lapse = self.resolved_at.map_or(i64::MAX, |at| at.0.saturating_add(terms.keep_ms));
        UnixMillis(if lapse > now.0 { refreshed.min(lapse) } else { refreshed })
    }
}

/// The addresses that may be used, those that may not, and what to tell of it.
fn sift(mut answer: Vec<IpAddr>, allow_private: bool) -> (Vec<IpAddr>, Vec<IpAddr>, Option<String>) {
    for address in &mut answer {
        *address = unmapped(*address);
    }
    answer.sort();
    answer.dedup();
    let may_be_used = |address: &IpAddr| allow_private || Refusal::of(*address).is_none();
    let (mut usable, mut refused): (Vec<IpAddr>, Vec<IpAddr>) = answer.into_iter().partition(may_be_used);
    let error = match (usable.len(), refused.first().and_then(|first| Some((first, Refusal::of(*first)?)))) {
        (0, None) => Some("the name has neither an A nor an AAAA record".into()),
        (0, Some((first, why))) => Some(format!(
            "no address of the answer may be used: {first} is {}; the setting host_allow_private allows such",
            why.as_str()
        )),
        (count, _) if count > MAX_ADDRESSES => {
            Some(format!("the name has {count} addresses: the first {MAX_ADDRESSES} in order are used"))
        }
        _ => None,
    };
    usable.truncate(MAX_ADDRESSES);
    refused.truncate(MAX_ADDRESSES);
    (usable, refused, error)
}

/// Why an address is no partner's: whoever sets a name's records must not open the inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// This machine.
    Loopback,
    /// A private network (RFC 1918, RFC 4193), or shared by a provider's customers (RFC 6598).
    Private,
    /// The same wire.
    LinkLocal,
    /// A group.
    Multicast,
    /// No address.
    Unspecified,
    /// Set aside; nobody calls from it.
    Reserved,
}

impl Refusal {
    /// None: it may be used.
    pub fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(v4) => Self::of_v4(v4),
            IpAddr::V6(v6) => Self::of_v6(v6),
        }
    }

    fn of_v4(v4: Ipv4Addr) -> Option<Self> {
        match v4.octets() {
            [0, 0, 0, 0] => Some(Self::Unspecified),
            [127, ..] => Some(Self::Loopback),
            [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Some(Self::Private),
            [169, 254, ..] => Some(Self::LinkLocal),
            [224..=239, ..] => Some(Self::Multicast),
            // Of protocols, of relays to 6to4 (RFC 7526), of measurements between networks (RFC 2544).
            [0, ..] | [192, 0, 0, _] | [192, 88, 99, _] | [198, 18..=19, ..] | [240..=255, ..] => {
                Some(Self::Reserved)
            }
            _ => None,
        }
    }

    fn of_v6(v6: Ipv6Addr) -> Option<Self> {
        match v6.segments() {
            [0, 0, 0, 0, 0, 0, 0, 0] => Some(Self::Unspecified),
            [0, 0, 0, 0, 0, 0, 0, 1] => Some(Self::Loopback),
            [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => Some(Self::Private),
            // NAT64 of a local network (RFC 8215).
            [0x64, 0xff9b, 1, ..] => Some(Self::Private),
            [0xfe80..=0xfebf, ..] => Some(Self::LinkLocal),
            [0xff00..=0xffff, ..] => Some(Self::Multicast),
            // What is thrown away (RFC 6666), and what stateless translators hold inside (RFC 2765).
            [0x100, 0, 0, 0, ..] | [0, 0, 0, 0, 0xffff, 0, ..] => Some(Self::Reserved),
            _ => embedded(v6).and_then(Self::of_v4),
        }
    }

    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::LinkLocal => "link-local",
            Self::Multicast => "multicast",
            Self::Unspecified => "unspecified",
            Self::Reserved => "reserved",
        }
    }
}

/// The IPv4 address that an IPv6 address stands for: mapped, compatible, NAT64, 6to4, Teredo.
fn embedded(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let v4 = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match v6.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(v4(high, low)),
        [0x2002, high, low, ..] => Some(v4(high, low)),
        [0x2001, 0, _, _, _, _, high, low] => Some(v4(!high, !low)),
        _ => None,
    }
}

fn unmapped(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    const TERMS: Terms = Terms { refresh_ms: 60_000, keep_ms: 600_000, allow_private: false };

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    fn resolved() -> Host {
        let name = HostName::parse("gateway.example.com").expect("a name");
        Host::unasked(name).after(Ok(addresses(&["192.0.2.1"])), &TERMS, UnixMillis(0))
    }

    #[test]
    fn names_at_their_edges() {
        let longest = format!("{}.{}", vec!["a".repeat(63); 3].join("."), "a".repeat(61));
        assert_eq!(longest.len(), MAX_LENGTH);
        let too_long = format!("{longest}a");
        let label = format!("{}.example", "a".repeat(64));
        for (text, name) in [
            ("Gateway.Example.COM", Some("gateway.example.com")),
            ("a", Some("a")),
            ("3com.com", Some("3com.com")),
            ("xn--mnchen-3ya.example", Some("xn--mnchen-3ya.example")),
            ("a--b.example", Some("a--b.example")),
            (longest.as_str(), Some(longest.as_str())),
            (too_long.as_str(), None),
            (label.as_str(), None),
            ("", None),
            (".", None),
            ("example.com.", None),
            ("a..b", None),
            ("-a.example", None),
            ("a-.example", None),
            ("a_b.example", None),
            ("*.example", None),
            ("münchen.example", None),
            ("example.com:443", None),
            ("192.0.2.300", None),
            ("1.2.3", None),
            ("a.1", None),
            ("a b", None),
            ("http://example.com", None),
        ] {
            assert_eq!(HostName::parse(text).ok().as_ref().map(HostName::as_str), name, "{text}");
        }
        assert!(HostName::parse("example.com:443").expect_err("a port").contains("`:443`"));
    }

    #[test]
    fn what_is_no_partners_address_is_refused_on_both_sides_of_each_edge() {
        use Refusal::{LinkLocal, Loopback, Multicast, Private, Reserved, Unspecified};
        for (address, refusal) in [
            ("0.0.0.0", Some(Unspecified)),
            ("0.0.0.1", Some(Reserved)),
            ("0.255.255.255", Some(Reserved)),
            ("1.0.0.0", None),
            ("9.255.255.255", None),
            ("10.0.0.0", Some(Private)),
            ("10.255.255.255", Some(Private)),
            ("11.0.0.0", None),
            ("100.63.255.255", None),
            ("100.64.0.0", Some(Private)),
            ("100.127.255.255", Some(Private)),
            ("100.128.0.0", None),
            ("126.255.255.255", None),
            ("127.0.0.1", Some(Loopback)),
            ("127.255.255.255", Some(Loopback)),
            ("128.0.0.0", None),
            ("169.253.255.255", None),
            ("169.254.169.254", Some(LinkLocal)),
            ("169.255.0.0", None),
            ("172.15.255.255", None),
            ("172.16.0.0", Some(Private)),
            ("172.31.255.255", Some(Private)),
            ("172.32.0.0", None),
            ("192.0.0.8", Some(Reserved)),
            ("192.0.2.1", None),
            ("192.88.98.255", None),
            ("192.88.99.0", Some(Reserved)),
            ("192.88.99.255", Some(Reserved)),
            ("192.88.100.0", None),
            ("192.167.255.255", None),
            ("192.168.0.0", Some(Private)),
            ("192.169.0.0", None),
            ("198.17.255.255", None),
            ("198.18.0.0", Some(Reserved)),
            ("198.19.255.255", Some(Reserved)),
            ("198.20.0.0", None),
            ("223.255.255.255", None),
            ("224.0.0.0", Some(Multicast)),
            ("239.255.255.255", Some(Multicast)),
            ("240.0.0.0", Some(Reserved)),
            ("255.255.255.255", Some(Reserved)),
            ("::", Some(Unspecified)),
            ("::1", Some(Loopback)),
            ("ff::1", None),
            ("100::", Some(Reserved)),
            ("100::ffff:ffff:ffff:ffff", Some(Reserved)),
            ("100:0:0:1::", None),
            ("2001:db8::1", None),
            ("fbff::1", None),
            ("fc00::1", Some(Private)),
            ("fdff::1", Some(Private)),
            ("fe7f::1", None),
            ("fe80::1", Some(LinkLocal)),
            ("febf::1", Some(LinkLocal)),
            ("fec0::1", Some(Private)),
            ("ff02::1", Some(Multicast)),
            ("::ffff:10.0.0.1", Some(Private)),
            ("::ffff:192.0.2.1", None),
            ("::ffff:198.18.0.1", Some(Reserved)),
            ("::127.0.0.1", Some(Loopback)),
            ("::ffff:0:10.0.0.1", Some(Reserved)),
            ("::ffff:0:192.0.2.1", Some(Reserved)),
            ("::ffff:1:192.0.2.1", None),
            ("64:ff9b::192.168.0.1", Some(Private)),
            ("64:ff9b::192.0.2.1", None),
            ("64:ff9b:1::192.0.2.1", Some(Private)),
            ("2002:7f00:1::", Some(Loopback)),
            ("2002:c000:201::", None),
            // Teredo carries the caller's address with every bit turned: 10.0.0.1.
            ("2001::f5ff:fffe", Some(Private)),
            ("2001::3fff:fdfe", None),
        ] {
            assert_eq!(Refusal::of(address.parse().expect("an address")), refusal, "{address}");
        }
    }

    #[test]
    fn a_good_answer_serves_until_it_is_too_old() {
        let host = resolved();
        for (at, served) in [(0, true), (TERMS.keep_ms - 1, true), (TERMS.keep_ms, false)] {
            assert_eq!(!host.in_force(UnixMillis(at), TERMS.keep_ms).is_empty(), served, "{at}");
            let after = host.after(Err("no answer".into()), &TERMS, UnixMillis(at));
            assert_eq!(!after.addresses.is_empty(), served, "{at}");
            assert_eq!(after.resolved_at, Some(UnixMillis(0)), "{at}");
            assert_eq!(after.last_error.as_deref(), Some("no answer"));
        }
        let name = HostName::parse("new.example").expect("a name");
        assert!(Host::unasked(name).in_force(UnixMillis(0), TERMS.keep_ms).is_empty(), "never resolved");
    }

    #[test]
    fn it_is_asked_for_again_when_it_lapses_at_the_latest() {
        let host = resolved();
        for (now, due) in [
            (0, 60_000),
            (TERMS.keep_ms - 60_000, TERMS.keep_ms),
            (TERMS.keep_ms - 1, TERMS.keep_ms),
            (TERMS.keep_ms, TERMS.keep_ms + 60_000),
        ] {
            assert_eq!(host.due_at(&TERMS, UnixMillis(now)), UnixMillis(due), "{now}");
        }
    }

    #[test]
    fn answers_are_sifted_sorted_and_bounded() {
        let allowed = Terms { allow_private: true, ..TERMS };
        let many: Vec<IpAddr> = (0..20_u8).rev().map(|n| IpAddr::from([192, 0, 2, n])).collect();
        let first: Vec<IpAddr> = (0..16_u8).map(|n| IpAddr::from([192, 0, 2, n])).collect();
        for (what, terms, answer, usable, refused, error) in [
            (
                "both families, twice, mapped",
                TERMS,
                addresses(&["2001:db8::1", "192.0.2.9", "::ffff:192.0.2.9"]),
                addresses(&["192.0.2.9", "2001:db8::1"]),
                vec![],
                None,
            ),
            (
                "one of two is private",
                TERMS,
                addresses(&["10.0.0.1", "192.0.2.9"]),
                addresses(&["192.0.2.9"]),
                addresses(&["10.0.0.1"]),
                None,
            ),
            (
                "all are",
                TERMS,
                addresses(&["10.0.0.1"]),
                addresses(&["192.0.2.1"]), // the answer before
                addresses(&["10.0.0.1"]),
                Some("10.0.0.1 is private"),
            ),
            ("allowed", allowed, addresses(&["10.0.0.1"]), addresses(&["10.0.0.1"]), vec![], None),
            ("no record", TERMS, vec![], addresses(&["192.0.2.1"]), vec![], Some("neither an A nor")),
            ("16", TERMS, first.clone(), first.clone(), vec![], None),
            ("20", TERMS, many, first, vec![], Some("has 20 addresses: the first 16")),
        ] {
            let after = resolved().after(Ok(answer), &terms, UnixMillis(1));
            assert_eq!((after.addresses, after.refused), (usable, refused), "{what}");
            let told = after.last_error.unwrap_or_default();
            assert!(error.map_or(told.is_empty(), |part| told.contains(part)), "{what}: {told}");
        }
    }
}
