//! Addresses: the caller's, as Envoy trusts it, and the blocks from which a client may call.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv6Addr};

/// The address of `source.address`: `192.0.2.1:4711`, `[2001:db8::1]:4711`, or without port.
/// An IPv4 address mapped into IPv6 is that IPv4 address.
pub fn parse_source(source: &str) -> Option<IpAddr> {
    let host = match source.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None => match source.split_once(':') {
            // More than one colon without brackets: a bare IPv6 address.
            Some((_, port)) if port.contains(':') => source,
            Some((host, _)) => host,
            None => source,
        },
    };
    host.parse().ok().map(unmapped)
}

fn unmapped(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

/// A CIDR block, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    network: u128,
    mask: u128,
    v4: bool,
}

/// Why a text is no block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotABlock(pub String);

impl fmt::Display for NotABlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is no IP address and no CIDR block such as 192.0.2.0/24 or 2001:db8::/32", self.0)
    }
}

impl Block {
    /// Reads `192.0.2.7`, `192.0.2.0/24`, `2001:db8::/32`. Host bits below the mask are ignored.
    pub fn parse(text: &str) -> Result<Self, NotABlock> {
        let refused = || NotABlock(text.into());
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| refused())?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => width,
            Some(digits) if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) => {
                return Err(refused());
            }
            Some(digits) => digits.parse::<u32>().ok().filter(|l| *l <= width).ok_or_else(refused)?,
        };
        // ::ffff:192.0.2.0/120 is 192.0.2.0/24.
        let mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) && length >= 96;
        let v4 = address.is_ipv4() || mapped;
        let length = if address.is_ipv4() { length + 96 } else { length };
        let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
        Ok(Self { network: number(address) & mask, mask, v4 })
    }

    /// Whether `address` lies inside.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = unmapped(address);
        address.is_ipv4() == self.v4 && number(address) & self.mask == self.network
    }
}

/// IPv4 addresses stand where IPv6 maps them.
fn number(address: IpAddr) -> u128 {
    let v6: Ipv6Addr = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    v6.to_bits()
}

/// From where a client may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bindings {
    /// From everywhere.
    Anywhere,
    /// From these blocks; none = from nowhere.
    Only(Vec<Block>),
}

impl Bindings {
    /// Whether a call from `address` (None: the host could not tell) is allowed.
    pub fn allow(&self, address: Option<IpAddr>) -> bool {
        match self {
            Self::Anywhere => true,
            Self::Only(blocks) => {
                address.is_some_and(|address| blocks.iter().any(|block| block.contains(address)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn sources_are_read_with_and_without_port() {
        for (source, address) in [
            ("192.0.2.1:4711", Some("192.0.2.1")),
            ("192.0.2.1", Some("192.0.2.1")),
            ("[2001:db8::1]:443", Some("2001:db8::1")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("[::ffff:192.0.2.1]:80", Some("192.0.2.1")),
            ("", None),
            ("/tmp/socket", None),
            ("[::1", None),
            ("1.2.3:80", None),
        ] {
            assert_eq!(parse_source(source), address.map(|a| a.parse().unwrap()), "{source}");
        }
    }

    #[test]
    fn blocks_hold_what_they_say() {
        for (block, address, inside) in [
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.8", false),
            ("192.0.2.0/24", "192.0.2.255", true),
            ("192.0.2.0/24", "192.0.3.0", false),
            ("192.0.2.9/24", "192.0.2.1", true),
            ("0.0.0.0/0", "203.0.113.1", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "2001:db8::1", true),
            ("::/0", "192.0.2.1", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::ffff:192.0.2.0/120", "192.0.2.77", true),
            ("192.0.2.0/24", "::ffff:192.0.2.77", true),
        ] {
            let inside_now = Block::parse(block).unwrap().contains(address.parse().unwrap());
            assert_eq!(inside_now, inside, "{address} in {block}");
        }
    }

    #[test]
    fn what_is_no_block_is_refused() {
        for text in ["", "example.com", "192.0.2.0/33", "192.0.2.0/", "192.0.2.0/+8", "::/129", "1.2.3"] {
            assert_eq!(Block::parse(text), Err(NotABlock(text.into())));
        }
    }

    #[test]
    fn bound_to_nothing_is_nowhere() {
        let here = Some("192.0.2.1".parse().unwrap());
        assert!(Bindings::Anywhere.allow(here) && Bindings::Anywhere.allow(None));
        assert!(!Bindings::Only(Vec::new()).allow(here));
        assert!(!Bindings::Only([Block::parse("0.0.0.0/0").unwrap()].to_vec()).allow(None));
    }
}
