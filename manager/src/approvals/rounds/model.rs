//! A round: one way of a form through its levels, from a submission on. A form that is submitted
//! again begins another one, in which nobody has signed yet.

use gate::time::UnixMillis;

use crate::approvals::FormKind;

/// Who filed a form, as far as four eyes care.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Author {
    /// The operator, if it was one; of a client's form, the one who knows the client's password.
    pub operator: Option<String>,
    /// The address that somebody without an account gave, or those of the client: an operator of such
    /// an address is that somebody.
    pub emails: Vec<String>,
}

/// The present round of a form that waits for a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    /// The form's id.
    pub form: String,
    /// What it asks for.
    pub kind: FormKind,
    /// What people call it: `KA-20260714-0001`.
    pub number: String,
    /// Who filed it.
    pub author: Author,
    /// Which submission, from 1.
    pub round: u32,
    /// The level that waits, from 1.
    pub level: u32,
    /// How many levels there were when it was submitted.
    pub levels: u32,
    /// When that level began to wait.
    pub since: UnixMillis,
    /// When its reviewers were reminded; none while they were not.
    pub reminded_at: Option<UnixMillis>,
    /// When it was opened to the next level or to administrators; none while it was not.
    pub escalated_at: Option<UnixMillis>,
    /// When administrators were told that nobody can sign it; none while somebody can.
    pub reported_at: Option<UnixMillis>,
    /// What was signed in this round, by level.
    pub signatures: Vec<Signature>,
}

/// Who approved a level of a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Which level.
    pub level: u32,
    /// The operator who signed.
    pub signer: String,
    /// The operator whose signing it is, where somebody signed as a delegate.
    pub on_behalf_of: Option<String>,
    /// It took the escalation to be allowed.
    pub escalated: bool,
}

impl Author {
    /// An operator who filed a form.
    pub fn operator(id: impl Into<String>) -> Self {
        Self { operator: Some(id.into()), emails: Vec::new() }
    }
}

impl Signature {
    /// Everybody for whom it counts: who signed, and on whose behalf.
    pub fn persons(&self) -> impl Iterator<Item = &str> {
        [Some(self.signer.as_str()), self.on_behalf_of.as_deref()].into_iter().flatten()
    }
}

impl Round {
    /// The same round once `level` is signed by that.
    pub fn with(&self, signature: Signature) -> Self {
        let mut round = self.clone();
        round.signatures.push(signature);
        round
    }

    /// The first round of a form that nobody has filed yet.
    pub fn imagined(kind: FormKind, levels: u32) -> Self {
        Self {
            form: String::new(),
            kind,
            number: String::new(),
            author: Author::default(),
            round: 1,
            level: 1,
            levels,
            since: UnixMillis(0),
            reminded_at: None,
            escalated_at: None,
            reported_at: None,
            signatures: Vec::new(),
        }
    }

    /// The levels that nobody has signed yet.
    pub fn unsigned(&self) -> impl Iterator<Item = u32> + '_ {
        (1..=self.levels).filter(|level| self.signatures.iter().all(|signature| signature.level != *level))
    }
}
