//! A grant as a worker holds it: checked once when it arrives, so that a decision only compares.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::address::{Bindings, Block, NotABlock};
use crate::id::{ApiUid, ClientKey, GroupId};
use crate::sorted::Sorted;
use crate::wire::directory::ApiEntry;
use crate::wire::exchange::{Grant, Permission};

/// Priority of a client that may be shed first.
pub const LOWEST_PRIORITY: u8 = 9;

/// A grant, ready to decide with.
#[derive(Clone, Debug)]
pub struct HeldGrant {
    /// As the manager sent it.
    pub wire: Grant,
    /// The client, as shared records name it.
    pub client_key: ClientKey,
    /// From where it may call.
    pub bindings: Bindings,
    permitted: Permitted,
}

#[derive(Clone, Debug)]
enum Permitted {
    Apis(Sorted<ApiUid, ()>),
    Groups(Sorted<GroupId, ()>),
}

/// Why a grant cannot be taken. The credential stays unknown, and the caller is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GrantError {
    /// An address binding that is no block.
    Binding(NotABlock),
    /// A priority over [`LOWEST_PRIORITY`].
    Priority(u8),
}

impl fmt::Display for GrantError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Binding(block) => block.fmt(f),
            Self::Priority(priority) => write!(f, "priority {priority} is not 0 to {LOWEST_PRIORITY}"),
        }
    }
}

impl HeldGrant {
    /// Checks a grant and prepares it.
    pub fn new(wire: Grant) -> Result<Self, GrantError> {
        if wire.priority > LOWEST_PRIORITY {
            return Err(GrantError::Priority(wire.priority));
        }
        let blocks: Result<Vec<Block>, NotABlock> =
            wire.addresses.iter().map(String::as_str).map(Block::parse).collect();
        let bindings = match blocks.map_err(GrantError::Binding)? {
            none if none.is_empty() && !wire.bound => Bindings::Anywhere,
            blocks => Bindings::Only(blocks),
        };
        let permitted = match &wire.permission {
            Permission::Apis { apis } => Permitted::Apis(sorted(apis)),
            Permission::Groups { groups } => Permitted::Groups(sorted(groups)),
        };
        Ok(Self { client_key: ClientKey::from(&wire.client), bindings, permitted, wire })
    }

    /// Whether `api` is among what may be called.
    pub fn permits(&self, api: &ApiEntry) -> bool {
        match &self.permitted {
            Permitted::Apis(apis) => apis.contains_key(&api.uid),
            Permitted::Groups(groups) => api.groups.iter().any(|group| groups.contains_key(group)),
        }
    }
}

fn sorted<T: Clone + Ord>(ids: &[T]) -> Sorted<T, ()> {
    ids.iter().map(|id| (id.clone(), ())).collect()
}
