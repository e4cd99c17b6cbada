//! From where somebody calls who may be a stranger.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;

use crate::app::App;
use crate::config::Proxies;

/// The caller's address, as what strangers may do is counted by it. A network of IPv6 counts as one caller:
/// whoever has one address of 64 bits has them all. Empty: unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerAddress(pub String);

impl CallerAddress {
    fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
            }
        })
    }

    /// None: unknown.
    pub fn known(&self) -> Option<&str> {
        Some(self.0.as_str()).filter(|address| !address.is_empty())
    }

    /// What the addresses of the network begin with that may be all one caller's: 48 bits of IPv6, an
    /// address of IPv4.
    pub fn network(&self) -> &str {
        match self.0.match_indices(':').nth(2) {
            Some((third, colon)) => &self.0[..third + colon.len()],
            None => &self.0,
        }
    }

    /// What a proxy wrote into a header: the last address of a list is the one that it saw itself.
    fn written(text: &str) -> Option<Self> {
        let last = text.rsplit(',').next()?.trim();
        let address = last.parse().ok().or_else(|| last.parse::<SocketAddr>().ok().map(|at| at.ip()))?;
        Some(Self::of(address))
    }
}

impl FromRequestParts<App> for CallerAddress {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        // A proxy adds to what the caller sent, at the end of the line or with a line of its own.
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip().to_canonical());
        // Whoever else connects could name any address.
        let believed = |proxies: &Proxies| peer.is_some_and(|peer| proxies.contains(peer));
        let believed = app.config.client_address_proxies.as_ref().is_some_and(believed);
        let name = app.config.client_address_header.as_deref().filter(|_| believed);
        let header = name.and_then(|name| parts.headers.get_all(name).iter().next_back());
        if let Some(told) = header.and_then(|value| value.to_str().ok()).and_then(Self::written) {
            return Ok(told);
        }
        Ok(peer.map_or(Self(String::new()), Self::of))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_an_address_or_a_network_of_ipv6() {
        for (text, caller) in [
            ("192.0.2.7", Some("192.0.2.7")),
            ("10.0.0.1, 192.0.2.7", Some("192.0.2.7")),
            ("192.0.2.7:4711", Some("192.0.2.7")),
            ("2001:db8:1:2:3:4:5:6", Some("2001:db8:1:2::/64")),
            ("2001:db8:1:2::9", Some("2001:db8:1:2::/64")),
            ("::ffff:192.0.2.7", Some("192.0.2.7")),
            ("unknown", None),
            ("", None),
        ] {
            assert_eq!(CallerAddress::written(text).map(|caller| caller.0).as_deref(), caller, "{text}");
        }
    }

    #[tokio::test]
    async fn an_address_is_believed_of_the_proxies_alone() {
        use crate::testing::World;

        let caller = async |proxies: Option<&str>, peer: &str| {
            let world = World::sqlite_with(|config| {
                config.client_address_header = Some("x-address".into());
                config.client_address_proxies = proxies.map(|text| Proxies::parse(text).expect("a list"));
            });
            let request = axum::http::Request::builder().header("x-address", "192.0.2.7");
            let (mut parts, ()) = request.body(()).expect("a request").into_parts();
            let peer: IpAddr = peer.parse().expect("an address");
            parts.extensions.insert(ConnectInfo(SocketAddr::from((peer, 1))));
            let Ok(caller) = CallerAddress::from_request_parts(&mut parts, &world.await.app).await;
            caller.0
        };
        let proxies = Some("10.0.0.0/24, 10.1.0.7,2001:db8::1");
        for (proxies, peer, told) in [
            (None, "198.51.100.1", "198.51.100.1"),
            (proxies, "10.0.0.9", "192.0.2.7"),
            (proxies, "::ffff:10.0.0.9", "192.0.2.7"),
            (proxies, "10.1.0.7", "192.0.2.7"),
            (proxies, "2001:db8::1", "192.0.2.7"),
            (proxies, "10.0.1.9", "10.0.1.9"),
            (proxies, "198.51.100.1", "198.51.100.1"),
        ] {
            assert_eq!(caller(proxies, peer).await, told, "{peer}");
        }
        for wrong in ["", "10.0.0.0/24,", "proxy.example", "10.0.0.1/33"] {
            assert!(Proxies::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_network_of_ipv6_may_be_one_callers() {
        for (text, network) in [("2001:db8:1:2::9", "2001:db8:1:"), ("192.0.2.7", "192.0.2.7")] {
            assert_eq!(CallerAddress::written(text).as_ref().map(CallerAddress::network), Some(network));
        }
        assert_eq!(CallerAddress(String::new()).known(), None);
    }
}
