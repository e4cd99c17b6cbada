//! What mails about forms that wait for a signature for too long are given.

use serde::{Deserialize, Serialize};

use super::{FormType, MailContext};
use crate::mail::Template;

/// A form has been waiting for a signature: to those who may sign it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReviewWaiting {
    /// Setting `product_name`.
    pub product_name: String,
    /// `KA-20260714-0001`.
    pub number: String,
    /// What it asks for.
    pub kind: FormType,
    /// The level that waits.
    pub level: u32,
    /// How many there are.
    pub levels: u32,
    /// Since when, with its zone.
    pub since: String,
    /// Who applies.
    pub applicant: String,
    /// Client id.
    pub client_id: String,
    /// Client name.
    pub client_name: String,
    /// Name of the key, as it is now; none: a form that asks for a client.
    pub key_name: Option<String>,
    /// The key that is to be changed or revoked, as calls name it; none: there is none yet.
    pub api_key: Option<String>,
    /// The receiver may sign only since the level was escalated; else it is a reminder.
    pub escalated: bool,
    /// On whose behalf the receiver would sign; none: the receiver's own signature.
    pub on_behalf_of: Option<String>,
    /// Where a console shows the form; none: there is no console.
    pub link: Option<String>,
    /// The version of the form that it tells of, as `keygate applications approve` wants it.
    pub version: i64,
    /// Where commands reach the installation.
    pub url: String,
}

impl MailContext for ReviewWaiting {
    const TEMPLATE: Template = Template::ReviewWaiting;

    fn sample() -> Self {
        Self {
            product_name: "Keygate".into(),
            number: "KA-20260714-0001".into(),
            kind: FormType::Ka,
            level: 1,
            levels: 2,
            since: "2026-07-14 09:30:00 Asia/Taipei".into(),
            applicant: "Anna".into(),
            client_id: "partner-1".into(),
            client_name: "Partner_One".into(),
            key_name: Some("orders key".into()),
            api_key: None,
            escalated: false,
            on_behalf_of: Some("Rita".into()),
            link: Some("https://console.example/applications/ap_01k0".into()),
            version: 3,
            url: "https://keygate.example".into(),
        }
    }

    fn variants() -> Vec<(&'static str, Self)> {
        let escalated = Self {
            kind: FormType::Ku,
            api_key: Some("YjQyMWE3MjQtOWZlMi00".into()),
            escalated: true,
            on_behalf_of: None,
            link: None,
            ..Self::sample()
        };
        vec![("escalated", escalated)]
    }

    fn masked(&self) -> Self {
        self.clone()
    }
}

/// What a form lacks to be signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Lack {
    /// Nobody else to ask.
    Nobody,
    /// A level has no signer.
    Level {
        /// Which.
        level: u32,
        /// The roles that sign it.
        roles: Vec<String>,
    },
    /// Levels have fewer signers together than they are.
    People {
        /// Which.
        levels: Vec<u32>,
        /// Those signers.
        people: Vec<String>,
    },
}

/// Nobody can sign a form, or an escalation would lead there: to administrators.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReviewStuck {
    /// Setting `product_name`.
    pub product_name: String,
    /// `KA-20260714-0001`.
    pub number: String,
    /// What it asks for.
    pub kind: FormType,
    /// The level that waits.
    pub level: u32,
    /// How many there are.
    pub levels: u32,
    /// Since when, with its zone.
    pub since: String,
    /// Who applies.
    pub applicant: String,
    /// Client id.
    pub client_id: String,
    /// Client name.
    pub client_name: String,
    /// Name of the key, as it is now; none: a form that asks for a client.
    pub key_name: Option<String>,
    /// The key that is to be changed or revoked, as calls name it; none: there is none yet.
    pub api_key: Option<String>,
    /// It would have been escalated now; else its signers are gone.
    pub escalation: bool,
    /// What is missing.
    pub lack: Lack,
    /// Where a console shows the form; none: there is no console.
    pub link: Option<String>,
    /// Where commands reach the installation.
    pub url: String,
}

impl MailContext for ReviewStuck {
    const TEMPLATE: Template = Template::ReviewStuck;

    fn sample() -> Self {
        let waiting = ReviewWaiting::sample();
        Self {
            product_name: waiting.product_name,
            number: waiting.number,
            kind: waiting.kind,
            level: waiting.level,
            levels: waiting.levels,
            since: waiting.since,
            applicant: waiting.applicant,
            client_id: waiting.client_id,
            client_name: waiting.client_name,
            key_name: waiting.key_name,
            api_key: waiting.api_key,
            escalation: false,
            lack: Lack::Level { level: 2, roles: vec!["chief".into(), "reviewer_2".into()] },
            link: waiting.link,
            url: waiting.url,
        }
    }

    fn variants() -> Vec<(&'static str, Self)> {
        let people = Lack::People { levels: vec![1, 2], people: vec!["rita".into()] };
        let escalation = Self { escalation: true, link: None, ..Self::sample() };
        vec![
            ("people", Self { lack: people.clone(), ..Self::sample() }),
            ("escalation", escalation.clone()),
            ("escalation_people", Self { lack: people, ..escalation.clone() }),
            ("escalation_to_nobody", Self { lack: Lack::Nobody, ..escalation }),
        ]
    }

    fn masked(&self) -> Self {
        self.clone()
    }
}
