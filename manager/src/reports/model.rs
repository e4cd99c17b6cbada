//! API Key Approval History: keys, newest first, with the forms that issued, changed and revoked
//! them and who signed these.

use gate::time::{Interval, UnixMillis};

use crate::approvals::FormKind;
use crate::openapi::schema::schema_of;
use crate::search::Words;

/// Rows of one export at most: what still opens in a spreadsheet at once, and is held in memory.
pub const MAX_EXPORT_ROWS: usize = 10_000;

/// A key with its history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyHistory {
    /// `key_…`
    pub id: String,
    /// Whose.
    pub client: ClientNames,
    /// The public half.
    pub api_key: String,
    /// What people call it.
    pub name: String,
    /// When it came on record.
    pub created_at: UnixMillis,
    /// First and last instant at which it works.
    pub validity: Interval,
    /// Where it stands.
    pub status: KeyStatus,
    /// Whether its last instant has passed.
    pub overdue: bool,
    /// When it was revoked.
    pub revoked_at: Option<UnixMillis>,
    /// Whether the pair was made elsewhere and brought in, so that no form issued it.
    pub imported: bool,
    /// Those that had their effect on it, oldest first.
    pub forms: Vec<FormOfKey>,
}

/// What people call a client, also one that is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientNames {
    /// Its id.
    pub id: String,
    /// Its code.
    pub name: Option<String>,
    /// For people.
    pub display_name: Option<String>,
}

/// Where a key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyStatus {
    /// It works, within its validity.
    Active,
    /// Switched off.
    Dormant,
    /// Ended for good.
    Revoked,
}

schema_of! { KeyStatus as KeyHistoryStatus: one_of(KeyStatus::ALL.map(KeyStatus::name)) }

/// A form that had its effect on a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormOfKey {
    /// `ap_…`
    pub id: String,
    /// `KA-20260714-0001`
    pub number: String,
    /// What it did.
    pub kind: FormKind,
    /// When.
    pub done_at: UnixMillis,
    /// Who signed it in the round that approved it, level after level.
    pub signatures: Vec<Signature>,
}

/// The signature of a level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// From 1.
    pub level: u32,
    /// Operator.
    pub by: String,
    /// What the operator signs in with.
    pub name: Option<String>,
    /// The operator whose signing it is, where a delegate signed.
    pub on_behalf_of: Option<String>,
    /// What that one signs in with.
    pub on_behalf_of_name: Option<String>,
    /// When.
    pub at: UnixMillis,
}

/// Which keys are asked for: those that satisfy all of it.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// When it came on record.
    pub created: Option<Interval>,
    /// In the client's id, names or application number, or in the key's API key, name or id.
    pub words: Words,
    /// Whose.
    pub client: Option<String>,
    /// Any of these; none: all.
    pub statuses: Vec<KeyStatus>,
    /// Whether its last instant has passed.
    pub overdue: Option<bool>,
    /// Ids of operators: one of them signed a form that had its effect on it, or had it signed.
    pub signers: Option<Vec<String>>,
}

/// Behind which key a page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// When that key came on record.
    pub created_at: UnixMillis,
    /// Its id.
    pub id: String,
}

impl KeyStatus {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Active, Self::Dormant, Self::Revoked];

    /// As the API calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Dormant => "dormant",
            Self::Revoked => "revoked",
        }
    }

    /// As the keys' table calls it.
    pub fn stored(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Dormant => "inactive",
            Self::Revoked => "revoked",
        }
    }
}

impl KeyHistory {
    /// The status in words: `Active`, `Dormant (Overdue)` …
    pub fn label(&self) -> String {
        let status = match self.status {
            KeyStatus::Active => "Active",
            KeyStatus::Dormant => "Dormant",
            KeyStatus::Revoked => "Revoked",
        };
        if self.overdue { format!("{status} (Overdue)") } else { status.to_owned() }
    }

    /// Numbers of its forms of that kind, oldest first.
    pub fn numbers(&self, kind: FormKind) -> impl Iterator<Item = &str> {
        self.forms.iter().filter(move |form| form.kind == kind).map(|form| form.number.as_str())
    }
}

impl Signature {
    /// Ids of everybody for whom it counts.
    pub fn persons(&self) -> impl Iterator<Item = &str> {
        [Some(self.by.as_str()), self.on_behalf_of.as_deref()].into_iter().flatten()
    }

    /// Who signed, as people call them.
    pub fn signer(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.by)
    }

    /// On whose behalf, as people call them.
    pub fn principal(&self) -> Option<&str> {
        self.on_behalf_of_name.as_deref().or(self.on_behalf_of.as_deref())
    }
}

impl Place {
    /// Where a key stands.
    pub fn of(key: &KeyHistory) -> Self {
        Self { created_at: key.created_at, id: key.id.clone() }
    }

    /// The place that `text` writes.
    pub fn parse(text: &str) -> Option<Self> {
        let (created_at, id) = text.split_once(' ')?;
        Some(Self { created_at: UnixMillis(created_at.parse().ok()?), id: id.to_owned() })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.created_at.0, self.id)
    }
}
