//! Where mails to operators go.

use super::model::Operator;
use crate::mail::Recipient;

/// To whom an operator's mails go; none without an address.
pub fn recipient(operator: &Operator) -> Option<Recipient> {
    operator.email.as_ref().map(|email| email.as_str().to_owned().into())
}
