//! What can be defined in files: the kinds, the fields of each, where each was written.
//!
//! A `spec` has the fields of the management API's body for the same thing; what refers to
//! something else names it (`shop/orders`, `partners`) where the API has an id. Every field is
//! optional here: one that is left out is not managed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::operators::Permission;

use super::kinds::{ApiSpec, ClientSpec, FlowSpec, GroupSpec, ScopeSpec, UserSpec};

/// Version of the format, as `apiVersion` names it.
pub const API_VERSION: &str = "keygate/v1";
/// Definitions of one call at most.
pub const MAX_DEFINITIONS: usize = 20_000;
/// Faults that are told at most: who has more sees what is wrong from these.
pub const MAX_FAULTS: usize = 100;

/// What a document defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A registered API.
    Api,
    /// A set of APIs that clients are given.
    Group,
    /// A set of APIs that tokens ask for.
    Scope,
    /// A client, without its password.
    Client,
    /// Somebody on whose behalf clients obtain tokens, without a password.
    User,
    /// Who signs a type of form.
    ApprovalFlow,
}

impl Kind {
    /// All of them; what is referred to stands before what refers to it.
    pub const ALL: [Self; 6] =
        [Self::Api, Self::Group, Self::Scope, Self::Client, Self::User, Self::ApprovalFlow];

    /// As a document's `kind` names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Api => "Api",
            Self::Group => "Group",
            Self::Scope => "Scope",
            Self::Client => "Client",
            Self::User => "User",
            Self::ApprovalFlow => "ApprovalFlow",
        }
    }

    /// Several of them, as `--kind` and file names have it.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Api => "apis",
            Self::Group => "groups",
            Self::Scope => "scopes",
            Self::Client => "clients",
            Self::User => "users",
            Self::ApprovalFlow => "flows",
        }
    }

    /// In a sentence.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Group => "group",
            Self::Scope => "scope",
            Self::Client => "client",
            Self::User => "user",
            Self::ApprovalFlow => "flow",
        }
    }

    /// Who may look at it.
    pub fn to_read(self) -> Permission {
        match self {
            Self::Api | Self::Group | Self::Scope => Permission::CatalogRead,
            Self::Client => Permission::ClientsRead,
            Self::User => Permission::UsersRead,
            Self::ApprovalFlow => Permission::ApprovalsConfigure,
        }
    }

    /// Who may change it.
    pub fn to_write(self) -> Permission {
        match self {
            Self::Api | Self::Group | Self::Scope => Permission::CatalogWrite,
            Self::Client => Permission::ClientsWrite,
            Self::User => Permission::UsersWrite,
            Self::ApprovalFlow => Permission::ApprovalsConfigure,
        }
    }

    /// What [`Self::as_str`] or [`Self::plural`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text || kind.plural() == text)
    }
}

/// Where something was written: `clients.yaml:12: spec.tps`, or `definitions[3].spec.tps` of a body.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file, or the place in the body.
    pub source: Arc<str>,
    /// From 1; 0 where lines are not known.
    pub line: u64,
    /// The field, dotted; empty = the whole.
    pub field: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)?;
        match (self.line, self.field.as_str()) {
            (0, "") => Ok(()),
            (0, field) => write!(f, ".{field}"),
            (line, "") => write!(f, ":{line}"),
            (line, field) => write!(f, ":{line}: {field}"),
        }
    }
}

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// Where.
    pub place: Place,
    /// What, and what to do.
    pub reason: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // "spec.tps must be …", but "clients.yaml:3: a definition …".
        let goes_on = self.reason.starts_with(|c: char| c.is_lowercase());
        let after_field = self.place.line != 0 && !self.place.field.is_empty();
        let between = if goes_on && after_field { " " } else { ": " };
        write!(f, "{}{between}{}", self.place, self.reason)
    }
}

/// The fields of one kind. Present things have all of them, wanted ones those that are managed.
pub trait Spec: Clone + Default + PartialEq + Serialize + fmt::Debug {
    /// Which kind.
    const KIND: Kind;
    /// The fields that make its name: they cannot be left out.
    const IDENTITY: &'static [&'static str];
    /// The fields that a new one needs beside its name.
    const REQUIRED: &'static [&'static str];
    /// Fields that are checked with each other: where one is to change, all that are given count.
    const TOGETHER: &'static [&'static str] = &[];

    /// All fields, in the order of exports.
    fn fields() -> Vec<&'static str>;

    /// Takes every field from a document.
    fn take(from: &mut super::document::Fields<'_, '_>) -> Self;

    /// Its name, unique among its kind.
    fn id(&self) -> String;

    /// Takes away the fields that `keep` does not name.
    fn restrict(&mut self, keep: impl Fn(&str) -> bool);

    /// Brings what has no order into one.
    fn arrange(&mut self) {}

    /// The names of other things that its fields hold.
    fn references(&self) -> Vec<Reference<'_>> {
        Vec::new()
    }

    /// The fields that `wanted` has otherwise.
    fn differences(&self, wanted: &Self) -> Vec<Difference> {
        let before: BTreeMap<_, _> = fields_of(self).into_iter().collect();
        let differs = |(field, after): (&'static str, Value)| {
            let before = before.get(field).cloned();
            (before.as_ref() != Some(&after)).then(|| Difference { field: field.into(), before, after })
        };
        fields_of(wanted).into_iter().filter_map(differs).collect()
    }
}

/// A field that names other things.
#[derive(Clone, Copy, Debug)]
pub struct Reference<'a> {
    /// Which field.
    pub field: &'static str,
    /// What it names.
    pub kind: Kind,
    /// The names.
    pub names: &'a [String],
}

/// The fields that are there, in the order of [`Spec::fields`].
pub fn fields_of<S: Spec>(spec: &S) -> Vec<(&'static str, Value)> {
    let Ok(Value::Object(mut there)) = serde_json::to_value(spec) else {
        unreachable!("a spec is a struct of what JSON can hold")
    };
    S::fields().into_iter().filter_map(|field| Some((field, there.remove(field)?))).collect()
}

/// A field that is to become another.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = DefinitionDifference)]
pub struct Difference {
    /// Which.
    pub field: String,
    /// What it is; None for something new.
    pub before: Option<Value>,
    /// What it becomes.
    pub after: Value,
}

/// Something that a document defines.
#[derive(Clone, Debug)]
pub struct Defined<S> {
    /// What it is to be.
    pub spec: S,
    /// Its document.
    pub place: Place,
    /// The lines of the fields that the document has, also of those that could not be read.
    pub lines: BTreeMap<String, u64>,
}

impl<S> Defined<S> {
    /// Where `field` was written; the document where it was not.
    pub fn at(&self, field: &str) -> Place {
        Place {
            source: self.place.source.clone(),
            line: self.lines.get(field).copied().unwrap_or(self.place.line),
            field: format!("spec.{field}"),
        }
    }

    /// A fault of `field`.
    pub fn fault(&self, field: &str, reason: impl Into<String>) -> Fault {
        Fault { place: self.at(field), reason: reason.into() }
    }
}

/// All that the documents define, in their order.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// APIs.
    pub apis: Vec<Defined<ApiSpec>>,
    /// Groups.
    pub groups: Vec<Defined<GroupSpec>>,
    /// Scopes.
    pub scopes: Vec<Defined<ScopeSpec>>,
    /// Clients.
    pub clients: Vec<Defined<ClientSpec>>,
    /// Users.
    pub users: Vec<Defined<UserSpec>>,
    /// Approval flows.
    pub flows: Vec<Defined<FlowSpec>>,
    /// Something could not be read so far as to know its name: what refers to it may be right.
    pub incomplete: bool,
}

impl Wanted {
    /// How many there are.
    pub fn len(&self) -> usize {
        let catalog = self.apis.len() + self.groups.len() + self.scopes.len();
        catalog + self.clients.len() + self.users.len() + self.flows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The kinds that are defined.
    pub fn kinds(&self) -> Vec<Kind> {
        let defined = |kind: &Kind| match kind {
            Kind::Api => !self.apis.is_empty(),
            Kind::Group => !self.groups.is_empty(),
            Kind::Scope => !self.scopes.is_empty(),
            Kind::Client => !self.clients.is_empty(),
            Kind::User => !self.users.is_empty(),
            Kind::ApprovalFlow => !self.flows.is_empty(),
        };
        Kind::ALL.into_iter().filter(defined).collect()
    }
}
