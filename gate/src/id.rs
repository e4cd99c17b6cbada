//! Identities. Every id is opaque text given by the manager, except where a shared record
//! or the ledger wants a number.

use alloc::string::String;
use core::fmt;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl $name {
            /// The id as it goes over the wire.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id! {
    /// Who calls: the client id (user name) of an application or partner.
    ClientId
}
text_id! {
    /// One credential: a DGRK key, an X-Api-Key, a token, or `basic:<client id>`.
    CredentialId
}
text_id! {
    /// One registered API.
    ApiUid
}
text_id! {
    /// One group of APIs.
    GroupId
}

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

// Numbers stay below 2^63: the ledger keeps them in a signed BIGINT.
number_id! {
    /// One counted limit.
    MeterId
}
number_id! {
    /// One life of a meter's counter: a window, or the time between two resets. 0 = none yet.
    Generation
}
number_id! {
    /// One block of units of one meter.
    LeaseId
}
number_id! {
    /// 63 random bits that a node draws when it creates a meter's record: names the stream of
    /// renewals (holder, meter, rec).
    Rec
}
number_id! {
    /// A life of the manager's database: another value after a restore from a backup.
    Epoch
}
number_id! {
    /// A position in the numbered list of changes. 0 is before the first.
    Revision
}

/// One Envoy process: 128 random bits, written as 32 lower-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HolderId(pub [u8; 16]);

impl fmt::Display for HolderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl From<HolderId> for String {
    fn from(id: HolderId) -> Self {
        alloc::format!("{id}")
    }
}

impl TryFrom<String> for HolderId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        const EXPECTED: &str = "a holder id is 32 lower-case hex digits";
        let digits = text.as_bytes();
        if digits.len() != 32 {
            return Err(EXPECTED);
        }
        let mut id = [0; 16];
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            let nibble = |digit: Option<&u8>| match digit {
                Some(d @ b'0'..=b'9') => Ok(d - b'0'),
                Some(d @ b'a'..=b'f') => Ok(d - b'a' + 10),
                _ => Err(EXPECTED),
            };
            *byte = nibble(pair.first())? << 4 | nibble(pair.get(1))?;
        }
        Ok(Self(id))
    }
}

/// A client as shared records name it: the first 16 bytes of the SHA-256 of its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientKey(pub [u8; 16]);

impl From<&ClientId> for ClientKey {
    fn from(id: &ClientId) -> Self {
        let digest = Sha256::digest(id.0.as_bytes());
        let mut key = [0; 16];
        key.iter_mut().zip(digest.iter()).for_each(|(to, from)| *to = *from);
        Self(key)
    }
}
