//! Who files forms, and who acts on them.

use std::fmt;

use gate::id::ClientId;

use super::model::Application;
use crate::approvals::FormKind;
use crate::openapi::schema::schema_of;
use crate::operators::{Actor, Email, Permission};

/// Who filed a form. [`fmt::Display`] writes it as the history of forms does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applicant {
    /// An operator, by id, for whichever client.
    Operator(String),
    /// A client, for itself alone.
    Client(ClientId),
    /// Somebody from outside who asks to become a client.
    Visitor {
        /// Confirmed to be theirs.
        email: Email,
    },
}

/// The names of the kinds, see [`Applicant::kind`].
pub enum ApplicantKind {}

schema_of! { ApplicantKind: one_of(Applicant::KINDS) }

impl Applicant {
    /// Every kind.
    pub const KINDS: [&str; 3] = ["operator", "client", "visitor"];

    /// As the API and the table call it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Operator(_) => "operator",
            Self::Client(_) => "client",
            Self::Visitor { .. } => "visitor",
        }
    }

    /// Who among its kind.
    pub fn id(&self) -> &str {
        match self {
            Self::Operator(id) => id,
            Self::Client(client) => client.as_str(),
            Self::Visitor { email } => email.as_str(),
        }
    }

    /// What a kind and an id name.
    pub fn of(kind: &str, id: &str) -> Option<Self> {
        match kind {
            "operator" => Some(Self::Operator(id.to_owned())),
            "client" => Some(Self::Client(ClientId::from(id))),
            "visitor" => Email::parse(id).ok().map(|email| Self::Visitor { email }),
            _ => None,
        }
    }

    /// What [`fmt::Display`] wrote: an operator's id stands alone.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':') {
            Some((kind, id)) => Self::of(kind, id),
            None => Some(Self::Operator(text.to_owned())),
        }
    }

    /// Whether it files forms of that kind.
    pub fn files(&self, kind: FormKind) -> bool {
        match self {
            Self::Operator(_) => true,
            Self::Client(_) => matches!(kind, FormKind::Apply | FormKind::Change | FormKind::Revoke),
            Self::Visitor { .. } => kind == FormKind::Client,
        }
    }
}

impl fmt::Display for Applicant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator(id) => f.write_str(id),
            Self::Client(_) | Self::Visitor { .. } => write!(f, "{}:{}", self.kind(), self.id()),
        }
    }
}

/// Who acts on a form. Clients and visitors act on what they filed themselves. Beyond that a client sees
/// what others have filed about it.
#[derive(Clone, Copy, Debug)]
pub enum Caller<'a> {
    /// An operator, with what its roles and token permit.
    Operator(&'a Actor),
    /// A client that has signed in.
    Client(&'a ClientId),
    /// Who holds a confirmed address.
    Visitor(&'a Email),
}

impl<'a> From<&'a Actor> for Caller<'a> {
    fn from(actor: &'a Actor) -> Self {
        Self::Operator(actor)
    }
}

impl<'a> Caller<'a> {
    /// Whom a form that the caller files belongs to.
    pub fn applicant(self) -> Applicant {
        match self {
            Self::Operator(actor) => Applicant::Operator(actor.operator.clone()),
            Self::Client(client) => Applicant::Client(client.clone()),
            Self::Visitor(email) => Applicant::Visitor { email: email.clone() },
        }
    }

    /// The operator, if it is one: nobody else reviews, oversees or reads what is not theirs.
    pub fn operator(self) -> Option<&'a Actor> {
        match self {
            Self::Operator(actor) => Some(actor),
            Self::Client(_) | Self::Visitor(_) => None,
        }
    }

    /// Whether it is the client that the form is about, which sees it as soon as it was handed in, whoever
    /// filed it.
    pub fn is_client_of(self, application: &Application) -> bool {
        match self {
            Self::Client(client) => application.number.is_some() && application.form.client() == Some(client),
            Self::Operator(_) | Self::Visitor(_) => false,
        }
    }

    /// Whether it is no operator, or one whose token is not limited to less.
    pub fn reaches(self, permission: Permission) -> bool {
        self.operator().is_none_or(|actor| actor.token_reaches(permission))
    }

    /// Whether it is an operator whose roles and token permit it.
    pub fn may(self, permission: Permission) -> bool {
        self.operator().is_some_and(|actor| actor.may(permission))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn applicants_read_as_they_are_written() {
        let email = Email::parse("ann@example.com").expect("an address");
        for (applicant, text) in [
            (Applicant::Operator("op_1".into()), "op_1"),
            (Applicant::Client("acme".into()), "client:acme"),
            (Applicant::Visitor { email }, "visitor:ann@example.com"),
        ] {
            assert_eq!(applicant.to_string(), text);
            assert_eq!(Applicant::parse(text), Some(applicant.clone()));
            assert_eq!(Applicant::of(applicant.kind(), applicant.id()), Some(applicant));
        }
        for wrong in ["visitor:nobody", "robot:1"] {
            assert_eq!(Applicant::parse(wrong), None, "{wrong}");
        }
    }
}
