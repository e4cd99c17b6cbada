//! What is asked for, how long tokens serve, and how often anybody may ask.

use gate::time::UnixMillis;
use serde::{Deserialize, Serialize};

use crate::clients::Binding;
use crate::operators::Email;

/// Over which attempts are counted.
pub const WINDOW_MS: i64 = 3_600_000;
/// Attempts of one caller within [`WINDOW_MS`].
pub const MAX_OF_CALLER: i64 = 10;
/// Attempts within [`WINDOW_MS`] from one network of IPv6 that may be a single caller's: the first 48
/// bits of an address.
pub const MAX_OF_NETWORK: i64 = 40;
/// Mails to one address within [`WINDOW_MS`]: what more is asked for is answered alike and mailed
/// to nobody.
pub const MAX_TO_EMAIL: i64 = 3;
/// Mails to all addresses within [`WINDOW_MS`]. What is mailed to nobody does not count: else few
/// callers could keep everybody from asking.
pub const MAX_IN_ALL: i64 = 200;
/// How long a mailed token serves.
pub const CONFIRM_TTL_MS: i64 = 86_400_000;
/// How long a form can be followed: far longer than a review takes.
pub const FOLLOW_TTL_MS: i64 = 90 * 86_400_000;

/// The client that a visitor asks for, as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Its code.
    pub name: Option<String>,
    /// What people call it.
    pub display_name: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// Its addresses, separated by commas.
    pub emails: Option<String>,
    /// From where it is to call.
    pub bindings: Option<Vec<Binding>>,
}

/// A question on record.
#[derive(Clone, Debug)]
pub struct Registration {
    /// `rg_…`
    pub id: String,
    /// Who asks.
    pub email: Email,
    /// What for.
    pub asked: Asked,
    /// When.
    pub created_at: UnixMillis,
    /// Last instant at which it can be confirmed.
    pub expires_at: UnixMillis,
}

/// Somebody who follows the form that they have asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visitor {
    /// Confirmed to be theirs.
    pub email: Email,
    /// `ap_…`
    pub application: String,
    /// Last instant at which they can follow it.
    pub expires_at: UnixMillis,
}

impl Visitor {
    /// As the audit trail names who acts.
    pub fn audit_name(&self) -> String {
        format!("visitor:{}", self.email.as_str())
    }
}

/// Attempts of the last hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    /// Of this caller.
    pub of_caller: i64,
    /// Of the network that may be all this caller's.
    pub of_network: i64,
    /// That were mailed to this address.
    pub to_email: i64,
    /// That were mailed to anybody.
    pub in_all: i64,
}

/// What becomes of one more attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is mailed.
    Mailed,
    /// It is answered as if it were: the address has had enough of them.
    Silent,
    /// The caller has asked too often.
    CallerRefused,
    /// All together have asked too often.
    AllRefused,
}

impl Attempts {
    /// What becomes of one more.
    pub fn turn(self) -> Turn {
        if self.of_caller >= MAX_OF_CALLER || self.of_network >= MAX_OF_NETWORK {
            Turn::CallerRefused
        } else if self.in_all >= MAX_IN_ALL {
            // Also where it were silent: the answer tells nothing of the address.
            Turn::AllRefused
        } else if self.to_email >= MAX_TO_EMAIL {
            Turn::Silent
        } else {
            Turn::Mailed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_at_their_bounds() {
        let turn = |of_caller, to_email, in_all| {
            Attempts { of_caller, of_network: of_caller, to_email, in_all }.turn()
        };
        assert_eq!(turn(0, 0, 0), Turn::Mailed);
        assert_eq!(turn(MAX_OF_CALLER - 1, MAX_TO_EMAIL - 1, MAX_IN_ALL - 1), Turn::Mailed);
        assert_eq!(turn(0, MAX_TO_EMAIL, 0), Turn::Silent);
        assert_eq!(turn(MAX_OF_CALLER, 0, 0), Turn::CallerRefused);
        assert_eq!(turn(0, 0, MAX_IN_ALL), Turn::AllRefused);
        let network = Attempts { of_network: MAX_OF_NETWORK, ..Attempts::default() };
        assert_eq!(network.turn(), Turn::CallerRefused);
        assert_eq!(Attempts { of_network: MAX_OF_NETWORK - 1, ..network }.turn(), Turn::Mailed);
        // That the address has had enough is told to nobody, neither by another refusal.
        assert_eq!(turn(MAX_OF_CALLER, MAX_TO_EMAIL, MAX_IN_ALL), Turn::CallerRefused);
    }
}
