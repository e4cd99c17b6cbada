//! A refresh token as it is on record.

use gate::id::GroupId;
use gate::time::UnixMillis;

use crate::clients::token_settings::GrantType;
use crate::clock::Random;
use crate::tokens::model::{Ending, Owner};

/// A refresh token, whatever its text is at present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefreshToken {
    /// The `jti` of all its texts.
    pub id: String,
    /// Lower-case hex of the text that serves.
    pub sha256: String,
    /// Whose.
    pub client: String,
    /// The resource owner.
    pub owner: Option<Owner>,
    /// How the first token was obtained.
    pub grant: GrantType,
    /// As it was then.
    pub scope: Vec<GroupId>,
    /// The key that signed the text that serves.
    pub kid: String,
    /// The access token that was handed out with the text that serves.
    pub access: String,
    /// When.
    pub issued_at: UnixMillis,
    /// Last instant.
    pub expires_at: UnixMillis,
    /// Renewals at most; 0 = unlimited.
    pub uses: u32,
    /// Renewals so far.
    pub used: u32,
    /// When it was ended, and why.
    pub ended: Option<(UnixMillis, Ending)>,
}

impl RefreshToken {
    /// A new id.
    pub fn new_id(random: &Random) -> String {
        random.id("rt")
    }
}
