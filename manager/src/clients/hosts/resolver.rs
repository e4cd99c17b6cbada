//! The name service: one question for the addresses of each family. What it answers is judged
//! elsewhere.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig,
    ServerOrderingStrategy,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RecordType};

use super::model::HostName;
use crate::config::Config;

/// Name servers that may be set.
const MAX_SERVERS: usize = 8;
/// How long one server may take to answer.
const SERVER_LIMIT: Duration = Duration::from_secs(2);
/// How long a name may take in all, whatever the servers do.
pub const LOOKUP_LIMIT: Duration = Duration::from_secs(5);
/// Characters of an error that are kept.
const MAX_ERROR: usize = 200;
/// A name server's port.
const PORT: u16 = 53;

/// Asks the servers of the setting `dns_servers`, or those of the system. Clones share them.
#[derive(Clone)]
pub struct Resolver(TokioResolver);

impl Resolver {
    /// Reads the system's configuration unless the setting names servers.
    pub fn open(config: &Config) -> anyhow::Result<Self> {
        let mut builder = match &config.dns_servers {
            None => TokioResolver::builder_tokio()?,
            Some(servers) => {
                let servers = parse_servers(servers).map_err(anyhow::Error::msg)?;
                let servers = servers.into_iter().map(server).collect();
                let config = ResolverConfig::from_name_servers(servers);
                let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
                builder.options_mut().use_hosts_file = ResolveHosts::Never;
                builder.options_mut().server_ordering_strategy = ServerOrderingStrategy::UserProvidedOrder;
                builder
            }
        };
        let options = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.timeout = SERVER_LIMIT;
        options.attempts = 1;
        // What is asked every minute is asked every minute, whatever an answer says of its age.
        options.cache_size = 0;
        Ok(Self(builder.build()?))
    }

    /// All addresses of `name`; none: it has no record. Where one family was not answered, the
    /// whole was not: half an answer would close the door to the other half.
    pub async fn addresses(&self, name: &HostName) -> Result<Vec<IpAddr>, String> {
        let mut full = Name::from_ascii(name.as_str()).map_err(|error| error.to_string())?;
        full.set_fqdn(true);
        let both = async {
            tokio::try_join!(self.family(full.clone(), RecordType::A), self.family(full, RecordType::AAAA))
        };
        match tokio::time::timeout(LOOKUP_LIMIT, both).await {
            Ok(answer) => answer.map(|(v4, v6)| [v4, v6].concat()).map_err(|error| told(&error)),
            Err(_) => Err(format!("no name server answered within {} s", LOOKUP_LIMIT.as_secs())),
        }
    }

    async fn family(&self, name: Name, family: RecordType) -> Result<Vec<IpAddr>, NetError> {
        match self.0.lookup(name, family).await {
            Ok(lookup) => Ok(lookup.answers().iter().filter_map(|record| record.data.ip_addr()).collect()),
            Err(error) if error.is_no_records_found() && !error.is_nx_domain() => Ok(vec![]),
            Err(error) => Err(error),
        }
    }
}

/// Reads `192.0.2.53, [2001:db8::53]:5353`.
pub fn parse_servers(text: &str) -> Result<Vec<SocketAddr>, String> {
    let servers: Vec<SocketAddr> = text
        .split(',')
        .map(str::trim)
        .map(|server| {
            let alone = server.parse::<IpAddr>().map(|address| SocketAddr::new(address, PORT));
            alone.or_else(|_| server.parse()).map_err(|_| {
                format!("{server:?} is no name server's address such as 192.0.2.53 or [2001:db8::53]:5353")
            })
        })
        .collect::<Result<_, _>>()?;
    if servers.len() > MAX_SERVERS {
        return Err(format!("names {} servers, {MAX_SERVERS} are possible", servers.len()));
    }
    Ok(servers)
}

fn server(address: SocketAddr) -> NameServerConfig {
    let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    for connection in &mut connections {
        connection.port = address.port();
    }
    NameServerConfig::new(address.ip(), true, connections)
}

/// For operators.
fn told(error: &NetError) -> String {
    match error {
        error if error.is_nx_domain() => "the name does not exist (NXDOMAIN)".into(),
        NetError::Timeout => format!("no name server answered within {} s", SERVER_LIMIT.as_secs()),
        NetError::Dns(DnsError::ResponseCode(code)) => {
            format!("the name server answered {}", code_text(*code))
        }
        other => other.to_string().chars().take(MAX_ERROR).collect(),
    }
}

fn code_text(code: ResponseCode) -> String {
    match code {
        ResponseCode::ServFail => "SERVFAIL".into(),
        ResponseCode::Refused => "REFUSED".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn servers_are_read_with_and_without_port() {
        for (text, servers) in [
            ("192.0.2.53", Some(&["192.0.2.53:53"][..])),
            ("192.0.2.53:5353, 2001:db8::53", Some(&["192.0.2.53:5353", "[2001:db8::53]:53"])),
            ("[2001:db8::53]:5353", Some(&["[2001:db8::53]:5353"])),
            ("", None),
            ("192.0.2.53,", None),
            ("dns.example.com", None),
            ("192.0.2.53:99999", None),
        ] {
            let read = parse_servers(text).ok();
            let expected = servers.map(|list| list.iter().map(|s| s.parse().expect("one")).collect());
            assert_eq!(read, expected, "{text}");
        }
        assert!(parse_servers(&["192.0.2.53"; 8].join(",")).is_ok());
        assert!(parse_servers(&["192.0.2.53"; 9].join(",")).is_err());
    }
}
