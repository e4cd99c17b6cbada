//! What mails about quotas are given.

use serde::{Deserialize, Serialize};

use super::{Calls, MailContext, Per};
use crate::mail::Template;

/// A part of a quota is used.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaReached {
    /// Setting `product_name`.
    pub product_name: String,
    /// Client id.
    pub client_id: String,
    /// Client name.
    pub client_name: String,
    /// Alias of the key whose uses these are; none: it is the client's quota, over all its credentials.
    pub key_name: Option<String>,
    /// The public half of that key.
    pub api_key: Option<String>,
    /// Which part, in percent.
    pub percent: u8,
    /// That part is all of it.
    pub is_used_up: bool,
    /// The quota.
    pub quota: Calls,
    /// Calls used of it.
    pub used: u64,
    /// Calls left.
    pub left: u64,
    /// When the quota begins again; none: never.
    pub begins_again_at: Option<String>,
    /// Zone of that instant.
    pub time_zone: String,
    /// Where the client sees what is left.
    pub url: String,
}

impl MailContext for QuotaReached {
    const TEMPLATE: Template = Template::QuotaReached;

    fn sample() -> Self {
        Self {
            product_name: "Keygate".into(),
            client_id: "partner-1".into(),
            client_name: "Partner_One".into(),
            key_name: Some("orders key".into()),
            api_key: Some("YjQxNzJlMjFiMzAzM2Q5NWM2ZDYzNTVjYzhmMTRjNGQxMTA3YzllYw==".into()),
            percent: 80,
            is_used_up: false,
            quota: Calls { calls: 1_000, per: Per::Total },
            used: 803,
            left: 197,
            begins_again_at: None,
            time_zone: "Asia/Taipei".into(),
            url: "https://keygate.example/client/v1/meters".into(),
        }
    }

    fn variants() -> Vec<(&'static str, Self)> {
        let client = |percent, is_used_up, used: u64| Self {
            key_name: None,
            api_key: None,
            percent,
            is_used_up,
            quota: Calls { calls: 50_000, per: Per::Day },
            used,
            left: 50_000 - used,
            begins_again_at: Some("2026-07-15 00:00:00 Asia/Taipei".into()),
            ..Self::sample()
        };
        let key_used_up = Self { percent: 100, is_used_up: true, used: 1_000, left: 0, ..Self::sample() };
        vec![
            ("client", client(80, false, 40_112)),
            ("client_used_up", client(100, true, 50_000)),
            ("used_up", key_used_up),
        ]
    }

    fn masked(&self) -> Self {
        self.clone()
    }
}
