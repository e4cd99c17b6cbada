//! What is held of one credential: its grant, ready to decide with, and calls to report.

use alloc::borrow::ToOwned;
use alloc::rc::Rc;
use alloc::string::ToString;
use alloc::vec::Vec;

use super::Identity;
use super::held::UNKNOWN_MS;
use super::presented::CacheKey;
use super::usage::{self, Usage};
use crate::credential::dgrk::{Match, VerifyingKey};
use crate::grant::HeldGrant;
use crate::time::{MonoMillis, Now};
use crate::wire::directory::ApiEntry;
use crate::wire::exchange::{Permission, Proof};

/// A grant, ready to decide with.
pub(super) struct Entry {
    pub(super) grant: HeldGrant,
    pub(super) identity: Rc<Identity>,
    /// For DGRK.
    pub(super) verifying_key: Option<VerifyingKey>,
    pub(super) last_match: Option<Match>,
    /// When it arrived.
    pub(super) since: MonoMillis,
    pub(super) keep_until: MonoMillis,
    pub(super) admitted: Vec<Admitted>,
}

/// Calls that are not reported yet.
pub(super) struct Admitted {
    pub(super) api: Rc<ApiEntry>,
    pub(super) secret_index: Option<usize>,
    pub(super) count: u64,
}

impl Entry {
    pub(super) fn new(grant: HeldGrant, verifying_key: Option<VerifyingKey>, now: MonoMillis) -> Self {
        let groups = match &grant.wire.permission {
            Permission::Apis { .. } => None,
            Permission::Groups { groups } => {
                Some(groups.iter().map(|group| group.as_str()).collect::<Vec<_>>().join(","))
            }
        };
        let identity = Identity {
            client: grant.wire.client.as_str().to_owned(),
            credential: grant.wire.credential.as_str().to_owned(),
            groups,
        };
        Self {
            since: now,
            keep_until: now + u64::from(grant.wire.keep_s).saturating_mul(1_000),
            identity: Rc::new(identity),
            verifying_key,
            last_match: None,
            admitted: Vec::new(),
            grant,
        }
    }

    /// Whether nothing is lost without it: it is not to be kept any longer, or is of a token that has
    /// expired and was refused for as long as an "unknown" is believed.
    pub(super) fn is_over(&self, key: &CacheKey, now: Now) -> bool {
        let expired = self.grant.wire.expires_at.is_some_and(|at| at < now.unix);
        self.keep_until <= now.mono || (key.is_token() && expired && now.mono - self.since >= UNKNOWN_MS)
    }

    /// Counts an admitted call; `true` if it is the first since the last report.
    pub(super) fn count(&mut self, api: &Rc<ApiEntry>, secret_index: Option<usize>) -> bool {
        let first = self.admitted.is_empty();
        let same = |row: &&mut Admitted| Rc::ptr_eq(&row.api, api) && row.secret_index == secret_index;
        match self.admitted.iter_mut().find(same) {
            Some(row) => row.count += 1,
            None => self.admitted.push(Admitted { api: api.clone(), secret_index, count: 1 }),
        }
        first
    }

    pub(super) fn secret_id(&self, index: Option<usize>) -> Option<&str> {
        match &self.grant.wire.proof {
            Proof::Signature { secrets } => secrets.get(index?).map(|secret| secret.id.as_str()),
            Proof::Presented => None,
        }
    }

    pub(super) fn report(&mut self, usage: &mut Usage) {
        for row in core::mem::take(&mut self.admitted) {
            let secret = self.secret_id(row.secret_index).map(ToString::to_string);
            usage.count(
                Some((&self.grant.wire.client, &self.grant.wire.credential)),
                secret.as_deref(),
                Some(&row.api.uid),
                usage::ADMITTED,
                row.count,
            );
        }
    }
}
