//! The directory as it travels: APIs and settings that every filter holds.

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::id::{ApiUid, Epoch, GroupId, Revision};
use crate::request::CredentialKind;

/// Answer of `GET /gateway/v1/directory?epoch=&revision=`: 304 when nothing is newer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryAnswer {
    /// [`super::WIRE_VERSION`].
    pub version: u32,
    /// Life of the database.
    pub epoch: Epoch,
    /// The revision that the holder has after applying this answer.
    pub revision: Revision,
    /// Absent: a snapshot that replaces everything. Present: a delta on that revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Revision>,
    /// Installation-wide settings (always whole).
    pub settings: Settings,
    /// All APIs (snapshot) or the changed ones (delta).
    #[serde(default)]
    pub apis: Vec<ApiEntry>,
    /// Public keys of the tokens' issuer (always whole): a Bearer of another key is not asked about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub token_keys: Vec<TokenKey>,
    /// Delta only: APIs that are gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<ApiUid>,
}

/// A public key that signs, or signed, tokens that may still live (RS256).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenKey {
    /// `kid` of the tokens' header.
    pub kid: String,
    /// DER of its `SubjectPublicKeyInfo`, in standard Base64.
    pub spki: String,
}

/// One API as registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiEntry {
    /// Identity; what a DGRK key lists.
    pub uid: ApiUid,
    /// Module name: the part of digiRunner's key that groups APIs of one back end.
    pub module: String,
    /// API id within the module.
    pub id: String,
    /// Lower-case host names without port or trailing dot; empty = every host.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Upper-case HTTP methods; empty = every method.
    #[serde(default)]
    pub methods: Vec<String>,
    /// Where it answers.
    pub path: PathRule,
    /// Which credentials it accepts; empty together with `no_auth: false` = nobody gets in.
    #[serde(default)]
    pub accepts: Vec<CredentialKind>,
    /// No credential is asked for at all.
    #[serde(default)]
    pub no_auth: bool,
    /// false: 503 `api_disabled`.
    pub enabled: bool,
    /// From where it may be called.
    #[serde(default)]
    pub audience: Audience,
    /// The groups that contain it.
    #[serde(default)]
    pub groups: Vec<GroupId>,
    /// Form and multipart bodies go unsigned, as digiRunner lets them.
    #[serde(default)]
    pub unsigned_forms: bool,
}

/// How an API's path is matched. All are compared byte by byte, without decoding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathRule {
    /// `/orders/today`: this path alone.
    Exact(String),
    /// `/orders`: this path and everything below it (`/orders/7`, not `/orders7`).
    Prefix(String),
    /// `/orders/{id}/lines`: each `{name}` stands for one non-empty segment.
    Template(String),
}

/// From where: a request's origin is decided by the filter's configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    /// From both.
    #[default]
    Both,
    /// From the internal listener or addresses only.
    Internal,
    /// From outside only.
    External,
}

/// Settings of the installation that the gate obeys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// What happens to a request that matches no API.
    pub unregistered: Unregistered,
    /// In whose format refusals are written.
    pub denial_format: DenialFormat,
    /// Seconds for which a cut-off filter goes on with what it holds.
    pub max_staleness_s: u32,
    /// Milliseconds a request may wait for a unit of quota.
    pub quota_wait_ms: u32,
    /// Milliseconds a request may wait for a credential to be looked up.
    pub lookup_wait_ms: u32,
    /// Bytes of a body that is checked against its signature.
    pub max_signed_body_bytes: u32,
    /// Unauthenticated CORS preflights pass, uncounted.
    pub cors_preflight: bool,
    /// The credential header is removed before the request goes upstream.
    pub strip_credential: bool,
    /// Requests in flight that one worker takes; 0 = no shedding.
    pub capacity: u32,
    /// Answers of admitted requests carry `RateLimit` fields too.
    pub ratelimit_on_success: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            unregistered: Unregistered::Refuse,
            denial_format: DenialFormat::Problem,
            max_staleness_s: 60,
            quota_wait_ms: 300,
            lookup_wait_ms: 2_000,
            max_signed_body_bytes: 1 << 20,
            cors_preflight: true,
            strip_credential: false,
            capacity: 1_000,
            ratelimit_on_success: false,
        }
    }
}

/// See [`Settings::unregistered`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unregistered {
    /// 404 `api_not_found`.
    #[default]
    Refuse,
    /// Goes upstream untouched but for the stripped identity headers.
    Pass,
}

/// See [`Settings::denial_format`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DenialFormat {
    /// `application/problem+json`.
    #[default]
    Problem,
    /// digiRunner's statuses, texts and bodies.
    Digirunner,
}
