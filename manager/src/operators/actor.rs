//! Who acts, and how far that goes.

use std::collections::BTreeSet;

use gate::time::UnixMillis;

use super::error::OperatorError;
use super::permission::Permission;
use super::tokens::TokenKind;

/// An authenticated operator, as every handler takes it.
#[derive(Clone, Debug)]
pub struct Actor {
    /// `op_…`
    pub operator: String,
    /// The name signed in with.
    pub name: String,
    /// For people.
    pub display_name: String,
    /// Where mails go.
    pub email: Option<String>,
    /// Role names, sorted.
    pub roles: Vec<String>,
    /// What the roles permit together, as far as the token goes.
    pub permissions: BTreeSet<Permission>,
    /// What it presented.
    pub token: Presented,
    /// Its password was set by somebody else, and this is a session: it can do nothing but set its
    /// own one.
    pub must_change_password: bool,
}

/// The token that an [`Actor`] presented.
#[derive(Clone, Debug)]
pub struct Presented {
    /// `ot_…`
    pub id: String,
    /// From a sign-in, or made for a program.
    pub kind: TokenKind,
    /// What it is limited to; None: it goes as far as the roles.
    pub scope: Option<BTreeSet<Permission>>,
    /// Last instant; None: until revoked.
    pub expires_at: Option<UnixMillis>,
}

impl Actor {
    /// How the audit trail names it.
    pub fn audit_name(&self) -> String {
        format!("operator:{}", self.operator)
    }

    /// Whether its roles and its token permit it.
    pub fn may(&self, permission: Permission) -> bool {
        self.permissions.contains(&permission)
    }

    /// Whether its token is not limited to less, whatever its roles permit.
    pub fn token_reaches(&self, permission: Permission) -> bool {
        self.token.scope.as_ref().is_none_or(|scope| scope.contains(&permission))
    }

    /// Whether it has this role.
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|own| own == role)
    }
}

/// On whose behalf an account, a role or a token is managed.
///
/// An operator goes no further than itself: what holds more permissions than the actor does is
/// neither made nor given, changed, or signed in for. Otherwise `operators.manage` would be worth
/// as much as all permissions together.
#[derive(Clone, Copy, Debug)]
pub enum By<'a> {
    /// An operator.
    Operator(&'a Actor),
    /// Whoever holds the machine, as the audit trail names it (`cli`, `system`): everything.
    Machine(&'static str),
}

impl By<'_> {
    /// How the audit trail names it.
    pub fn audit_name(self) -> String {
        match self {
            Self::Operator(actor) => actor.audit_name(),
            Self::Machine(name) => name.into(),
        }
    }

    /// Err unless it holds all of this, which is what `what` is worth.
    pub(super) fn covers(
        self,
        permissions: &BTreeSet<Permission>,
        what: impl FnOnce() -> String,
    ) -> Result<(), OperatorError> {
        let Self::Operator(actor) = self else { return Ok(()) };
        let lacking: Vec<_> = permissions.difference(&actor.permissions).copied().collect();
        if lacking.is_empty() { Ok(()) } else { Err(OperatorError::Exceeds { what: what(), lacking }) }
    }

    /// Whether it is this operator itself.
    pub(super) fn is(self, operator: &str) -> bool {
        match self {
            Self::Operator(actor) => actor.operator == operator,
            Self::Machine(_) => false,
        }
    }
}
