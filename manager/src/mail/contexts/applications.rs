//! What mails about forms are given.

use serde::{Deserialize, Serialize};

use super::MailContext;
use crate::mail::Template;

/// What a form asks for, by the letters that begin its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum FormType {
    /// A new key.
    Ka,
    /// Other terms for a key.
    Ku,
    /// The end of a key.
    Kr,
    /// A client of one's own.
    Cr,
}

impl FormType {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Ka, Self::Ku, Self::Kr, Self::Cr];
}

/// What happened to a form, and at which level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happened {
    /// What.
    pub what: Event,
    /// The level that did it; none where no level did.
    pub level: Option<u32>,
}

/// What can happen to a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Handed in.
    Submitted,
    /// Handed in again after a return.
    Resubmitted,
    /// Signed.
    Approved,
    /// Sent back to the applicant.
    Returned,
    /// Refused for good.
    Rejected,
    /// Taken back by the applicant.
    Withdrawn,
    /// The approved change was stopped before its day.
    Stopped,
    /// The approved change was made on its day.
    CarriedOut,
    /// The approved change could not be made on its day.
    NotCarriedOut,
    /// Its client was deleted.
    Cancelled,
}

impl Event {
    /// Every one.
    pub const ALL: [Self; 10] = [
        Self::Submitted,
        Self::Resubmitted,
        Self::Approved,
        Self::Returned,
        Self::Rejected,
        Self::Withdrawn,
        Self::Stopped,
        Self::CarriedOut,
        Self::NotCarriedOut,
        Self::Cancelled,
    ];
}

/// Who did something to a form, as the receiver may know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Doer {
    /// The manager itself.
    Itself,
    /// One of those who review, who have no names for the receiver.
    Reviewer,
    /// An operator in another part, who has no name for the receiver either.
    Operator,
    /// Somebody.
    Person {
        /// What they are called.
        name: String,
        /// For whom they signed, by delegation.
        on_behalf_of: Option<String>,
    },
}

impl Doer {
    /// Somebody who acts for themselves.
    pub fn person(name: impl Into<String>) -> Self {
        Self::Person { name: name.into(), on_behalf_of: None }
    }

    /// One of each kind, and of each wording.
    pub fn each() -> [Self; 5] {
        [
            Self::Itself,
            Self::Reviewer,
            Self::Operator,
            Self::person("Rita"),
            Self::Person { name: "Rita".into(), on_behalf_of: Some("Robert".into()) },
        ]
    }
}

/// Where a form stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Status {
    /// Not handed in.
    Draft,
    /// Waits for a signature.
    Pending {
        /// The level that signs next.
        level: u32,
        /// How many there are.
        levels: u32,
    },
    /// With the applicant again.
    Returned {
        /// Who sent it back.
        level: u32,
    },
    /// Signed by all, and done.
    Approved,
    /// Signed by all; done on its day.
    Scheduled,
    /// Signed by all, then stopped.
    Stopped,
    /// Signed by all, and could not be done on its day.
    NotCarriedOut,
    /// Refused.
    Rejected {
        /// By whom.
        level: u32,
    },
    /// Taken back, or its client is gone.
    Cancelled,
}

impl Status {
    /// One of each kind.
    pub fn each() -> [Self; 9] {
        [
            Self::Draft,
            Self::Pending { level: 1, levels: 2 },
            Self::Returned { level: 1 },
            Self::Approved,
            Self::Scheduled,
            Self::Stopped,
            Self::NotCarriedOut,
            Self::Rejected { level: 2 },
            Self::Cancelled,
        ]
    }
}

/// An application form was submitted, approved at a level, returned, rejected, withdrawn …: to
/// the applicant and to those whose review is now waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplicationStep {
    /// Setting `product_name`.
    pub product_name: String,
    /// `KA-20260714-0001`; none where it was never handed in.
    pub number: Option<String>,
    /// What it asks for.
    pub kind: FormType,
    /// What happened.
    pub step: Happened,
    /// Who did it.
    pub by: Doer,
    /// What they wrote.
    pub comment: Option<String>,
    /// Where the form stands now.
    pub status: Status,
    /// Date of the application.
    pub applied_on: String,
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
    /// First day; of a change or a revocation: its day.
    pub effective_on: Option<String>,
    /// Names of the APIs applied for, or of those that a key to be revoked opens.
    pub apis: Vec<String>,
    /// Where a console shows the form; none: there is no console, or the receiver is no operator.
    pub link: Option<String>,
    /// The version of the form that it tells of, as `keygate applications approve` wants it.
    pub version: i64,
    /// Where commands reach the installation; none: the receiver is no operator.
    pub url: Option<String>,
    /// This copy goes to somebody whose review is waited for.
    pub waiting_for_you: bool,
    /// On whose behalf the receiver would sign; none: the receiver's own signature.
    pub on_behalf_of: Option<String>,
}

impl MailContext for ApplicationStep {
    const TEMPLATE: Template = Template::ApplicationStep;

    fn sample() -> Self {
        Self {
            product_name: "Keygate".into(),
            number: Some("KA-20260714-0001".into()),
            kind: FormType::Ka,
            step: Happened { what: Event::Approved, level: Some(1) },
            by: Doer::Person { name: "Rita".into(), on_behalf_of: Some("Robert".into()) },
            comment: Some("Fine with <me> & the team.".into()),
            status: Status::Pending { level: 2, levels: 2 },
            applied_on: "2026-07-14".into(),
            applicant: "Anna".into(),
            client_id: "partner-1".into(),
            client_name: "Partner_One".into(),
            key_name: Some("orders key".into()),
            api_key: None,
            effective_on: Some("2026-07-15".into()),
            apis: vec!["orders".into(), "invoices".into()],
            link: Some("https://console.example/applications/ap_01k0".into()),
            version: 3,
            url: Some("https://keygate.example".into()),
            waiting_for_you: true,
            on_behalf_of: Some("Ralph".into()),
        }
    }

    fn variants() -> Vec<(&'static str, Self)> {
        let withdrawn = Self {
            kind: FormType::Kr,
            step: Happened { what: Event::Withdrawn, level: None },
            status: Status::Cancelled,
            by: Doer::person("Anna"),
            on_behalf_of: None,
            comment: None,
            apis: Vec::new(),
            link: None,
            waiting_for_you: false,
            ..Self::sample()
        };
        let revocation = Self {
            kind: FormType::Kr,
            step: Happened { what: Event::Submitted, level: None },
            by: Doer::person("Anna"),
            comment: None,
            status: Status::Pending { level: 1, levels: 2 },
            api_key: Some("YjQyMWE3MjQtOWZlMi00".into()),
            effective_on: Some("2026-08-01".into()),
            on_behalf_of: None,
            ..Self::sample()
        };
        let cancelled = Self {
            number: None,
            key_name: None,
            effective_on: None,
            step: Happened { what: Event::Cancelled, level: None },
            by: Doer::Itself,
            ..withdrawn.clone()
        };
        let to_client = Self {
            by: Doer::Reviewer,
            on_behalf_of: None,
            waiting_for_you: false,
            link: None,
            url: None,
            ..Self::sample()
        };
        vec![
            ("withdrawn", withdrawn),
            ("revocation", revocation),
            ("cancelled", cancelled),
            ("to_client", to_client),
        ]
    }

    fn masked(&self) -> Self {
        self.clone()
    }
}

/// What was decided about a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Signed by all.
    Approved,
    /// Signed by all, but it could not be done on its day.
    NotCarriedOut,
    /// Sent back to the applicant.
    Returned,
    /// Refused for good.
    Rejected,
}

/// Who gets what is issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PairTo {
    /// The client's addresses.
    Client,
    /// The applicant's.
    Applicant,
    /// Both.
    Both,
}

/// What else the applicant is to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Note {
    /// It can be edited and handed in again, or withdrawn.
    EditAndResubmit,
    /// A rejected form is final.
    Final,
    /// Done on its day; until then the old settings hold, and it can be stopped.
    Scheduled {
        /// When, with its zone.
        due: String,
    },
    /// Why it could not be done on its day.
    Failed {
        /// As the manager told it.
        reason: String,
    },
    /// The key pair, or a link to it, comes in a mail of its own.
    PairIsMailed {
        /// To whom.
        to: PairTo,
        /// In how many minutes; 0 = now.
        in_minutes: u64,
        /// The mail holds a link in place of the secret.
        by_link: bool,
    },
    /// The effective date passed during the review: the key is active from the approval on.
    ActiveFromApproval {
        /// The date.
        effective_on: String,
    },
    /// The key is not accepted before.
    AcceptedFrom {
        /// The date.
        effective_on: String,
    },
    /// The key runs on its new settings.
    Changed {
        /// Uses so far no longer count.
        usage_reset: bool,
    },
    /// The key is no longer accepted.
    Revoked,
    /// As many calls were made as the key's quota allows, or more.
    UsedUp {
        /// How many count.
        used: u64,
    },
    /// The client was made.
    Registered {
        /// What it signs in as.
        client_id: String,
        /// To whom its password is mailed.
        to: PairTo,
        /// In how many minutes; 0 = now.
        in_minutes: u64,
        /// The mail holds a link in place of the password.
        by_link: bool,
    },
}

impl Note {
    /// One of each kind, and of each wording.
    pub fn each() -> Vec<Self> {
        let due = "2026-08-01 00:00:00 Asia/Taipei".to_owned();
        let effective_on = "2026-07-15".to_owned();
        vec![
            Self::EditAndResubmit,
            Self::Final,
            Self::Scheduled { due },
            Self::Failed { reason: "422 unprocessable".into() },
            Self::PairIsMailed { to: PairTo::Client, in_minutes: 10, by_link: false },
            Self::PairIsMailed { to: PairTo::Applicant, in_minutes: 1, by_link: false },
            Self::PairIsMailed { to: PairTo::Both, in_minutes: 0, by_link: false },
            Self::PairIsMailed { to: PairTo::Client, in_minutes: 10, by_link: true },
            Self::PairIsMailed { to: PairTo::Applicant, in_minutes: 1, by_link: true },
            Self::PairIsMailed { to: PairTo::Both, in_minutes: 0, by_link: true },
            Self::ActiveFromApproval { effective_on: effective_on.clone() },
            Self::AcceptedFrom { effective_on },
            Self::Changed { usage_reset: true },
            Self::Changed { usage_reset: false },
            Self::Revoked,
            Self::UsedUp { used: 120 },
            Self::Registered {
                client_id: "partner-1".into(),
                to: PairTo::Applicant,
                in_minutes: 10,
                by_link: false,
            },
            Self::Registered {
                client_id: "partner-1".into(),
                to: PairTo::Client,
                in_minutes: 10,
                by_link: true,
            },
        ]
    }
}

/// An application form has ended, or came back: to the applicant, without secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplicationResult {
    /// Setting `product_name`.
    pub product_name: String,
    /// `KA-20260714-0001`; none where it was never handed in.
    pub number: Option<String>,
    /// What it asked for.
    pub kind: FormType,
    /// What was decided.
    pub result: Outcome,
    /// Who decided last.
    pub by: Doer,
    /// What they wrote.
    pub comment: Option<String>,
    /// Client id.
    pub client_id: String,
    /// Client name.
    pub client_name: String,
    /// Name of the key.
    pub key_name: Option<String>,
    /// The key that was to be changed or revoked, as calls name it.
    pub api_key: Option<String>,
    /// First day; of a change or a revocation: its day.
    pub effective_on: Option<String>,
    /// Last day.
    pub expires_on: Option<String>,
    /// Names of the APIs.
    pub apis: Vec<String>,
    /// What follows from it.
    pub notes: Vec<Note>,
    /// Where a console shows the form; none: there is no console, or the receiver is no operator.
    pub link: Option<String>,
    /// Where commands reach the installation; none: the receiver is no operator.
    pub url: Option<String>,
}

impl MailContext for ApplicationResult {
    const TEMPLATE: Template = Template::ApplicationResult;

    fn sample() -> Self {
        Self {
            product_name: "Keygate".into(),
            number: Some("KA-20260714-0001".into()),
            kind: FormType::Ka,
            result: Outcome::Approved,
            by: Doer::person("Ralph"),
            comment: Some("Welcome.".into()),
            client_id: "partner-1".into(),
            client_name: "Partner_One".into(),
            key_name: Some("orders key".into()),
            api_key: None,
            effective_on: Some("2026-07-15".into()),
            expires_on: Some("2026-12-31".into()),
            apis: vec!["orders".into(), "invoices".into()],
            notes: vec![
                Note::PairIsMailed { to: PairTo::Client, in_minutes: 10, by_link: false },
                Note::AcceptedFrom { effective_on: "2026-07-15".into() },
            ],
            link: Some("https://console.example/applications/ap_01k0".into()),
            url: Some("https://keygate.example".into()),
        }
    }

    fn variants() -> Vec<(&'static str, Self)> {
        let least = |kind, result, note| Self {
            kind,
            result,
            by: Doer::Itself,
            comment: None,
            key_name: None,
            effective_on: None,
            expires_on: None,
            apis: Vec::new(),
            notes: vec![note],
            link: None,
            ..Self::sample()
        };
        let due = "2026-08-01 00:00:00 Asia/Taipei".to_owned();
        let reviewed = |least| Self { by: Doer::Reviewer, url: None, ..least };
        let by_link = Note::PairIsMailed { to: PairTo::Client, in_minutes: 10, by_link: true };
        vec![
            (
                "returned",
                Self {
                    result: Outcome::Returned,
                    by: Doer::Person { name: "Ralph".into(), on_behalf_of: Some("Rita".into()) },
                    notes: vec![Note::EditAndResubmit],
                    ..Self::sample()
                },
            ),
            ("rejected", reviewed(least(FormType::Ka, Outcome::Rejected, Note::Final))),
            (
                "scheduled",
                Self {
                    key_name: Some("orders key".into()),
                    api_key: Some("YjQyMWE3MjQtOWZlMi00".into()),
                    ..reviewed(least(FormType::Ku, Outcome::Approved, Note::Scheduled { due }))
                },
            ),
            ("by_link", Self { notes: vec![by_link], ..Self::sample() }),
            (
                "not_carried_out",
                least(
                    FormType::Kr,
                    Outcome::NotCarriedOut,
                    Note::Failed {
                        reason: "key key_01k0 was revoked at 2026-07-20 08:00:00 UTC: apply for a new one"
                            .into(),
                    },
                ),
            ),
            ("every_note", Self { notes: Note::each(), ..Self::sample() }),
        ]
    }

    fn masked(&self) -> Self {
        self.clone()
    }
}
