//! A request as a plain value, and which credential it presents.

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// The kinds of credential, by the name that an API's `accepts` list uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialKind {
    /// `Authorization: DGRK <api key>.<signature>`.
    Dgrk,
    /// `X-Api-Key: <key>`.
    XApiKey,
    /// `Authorization: Bearer <token>`.
    Bearer,
    /// `Authorization: Basic <base64>`.
    Basic,
}

/// What the gate reads of a request: bytes as they arrived, pseudo-headers apart.
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    /// `:method`.
    pub method: Vec<u8>,
    /// `:path` with its query, as received.
    pub path: Vec<u8>,
    /// `:authority`.
    pub host: Vec<u8>,
    /// All other headers in order, names in lower case.
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    /// `source.address` as Envoy trusts it, `ip:port`.
    pub source: String,
    /// No body follows.
    pub end_of_stream: bool,
}
