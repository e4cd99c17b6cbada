//! What an import is asked for, and what a document comes to.

use std::collections::BTreeSet;

use gate::request::CredentialKind;
use gate::wire::directory::{Audience, PathRule};

use super::document::Unreadable;
use crate::catalog::apis::model::ApiName;

/// Operations of one document at most, and paths.
pub const MAX_OPERATIONS: usize = 2_000;
/// Accepted credentials of a new API, where neither option nor document says otherwise.
pub const DEFAULT_ACCEPTS: [CredentialKind; 2] = [CredentialKind::Dgrk, CredentialKind::XApiKey];

/// What the importer may choose. None: the document's or the default for a new API, and for an
/// API that is there already what it has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Module of the APIs; None: the document's title.
    pub module: Option<String>,
    /// Which credentials the APIs accept.
    pub accepts: Option<Accepts>,
    /// Operations that the document leaves open may be called by anybody.
    pub allow_no_auth: bool,
    /// From where they may be called; new APIs: both.
    pub audience: Option<Audience>,
    /// Whether calls are let in; new APIs: false.
    pub enabled: Option<bool>,
    /// Whether forms go unsigned where operations take them; new APIs: true.
    pub unsigned_forms: Option<bool>,
    /// Instead of the hosts of the document's servers.
    pub hosts: Option<Vec<String>>,
    /// Instead of the base path of the document's servers.
    pub base_path: Option<String>,
    /// Operations that cannot be held are left out; else nothing is imported.
    pub skip_unsupported: bool,
    /// APIs of an earlier import that the document no longer has are removed.
    pub prune: bool,
}

/// Where the accepted credentials come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepts {
    /// These.
    Named(Vec<CredentialKind>),
    /// The security schemes of each operation.
    Document,
}

/// What a document comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    pub module: ApiName,
    /// `info.title`
    pub title: String,
    /// `info.version`
    pub version: String,
    /// Operations that can be held, in order of path and method.
    pub apis: Vec<Planned>,
    /// The others.
    pub unsupported: Vec<Unsupported>,
    /// What concerns the document as a whole.
    pub warnings: BTreeSet<String>,
}

/// An operation as an API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Planned {
    /// `GET /pets/{id}`, as in the document.
    pub operation: String,
    pub id: ApiName,
    pub name: String,
    pub description: String,
    pub hosts: Vec<String>,
    pub methods: Vec<String>,
    pub path: PathRule,
    /// As in the document.
    pub tags: Vec<String>,
    pub access: Access,
    /// Takes forms or multipart bodies.
    pub takes_forms: bool,
}

/// Who may call an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Access {
    /// Empty: anybody.
    pub accepts: Vec<CredentialKind>,
    /// Where this is not what the document says.
    pub warnings: Vec<String>,
}

/// An operation that cannot be held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unsupported {
    /// `GET /files/{name}.json`, as in the document.
    pub operation: String,
    /// The id it would have, where it has one: an API of that id stays as it is.
    pub id: Option<ApiName>,
    /// Why, and what to do.
    pub reason: String,
}

/// Why a document, or an import of it, is refused as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It cannot be read.
    #[error("the document {0}")]
    Unreadable(#[from] Unreadable),
    /// Swagger, before OpenAPI.
    #[error(
        "the document is Swagger 2.0: convert it to OpenAPI 3 first; editor.swagger.io does (Edit, Convert to \
         OpenAPI 3), and so does the command line tool swagger2openapi"
    )]
    Swagger2,
    /// Another version, or no OpenAPI at all.
    #[error(
        "the document has no field `openapi` with a version 3.0, 3.1 or 3.2, such as \"3.0.3\"{}",
        match found { Some(found) => format!("; it has {found}"), None => String::new() }
    )]
    Version {
        /// What it says.
        found: Option<String>,
    },
    /// It has not the form of an OpenAPI document.
    #[error("the document's {at} {reason}")]
    Structure {
        /// A JSON pointer.
        at: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Nothing to import.
    #[error("the document describes no operation: nothing is imported, and nothing removed")]
    NoOperations,
    /// More than are taken.
    #[error(
        "the document has more than {MAX_OPERATIONS} operations or paths: divide it, each part with a module of its own"
    )]
    TooManyOperations,
    /// A choice that cannot be taken.
    #[error("{option} {reason}")]
    Option {
        /// Which.
        option: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}
