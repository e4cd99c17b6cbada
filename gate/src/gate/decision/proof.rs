//! Who a credential is of, and whether its secret is proven.

use alloc::boxed::Box;
use core::net::IpAddr;

use super::presentation::Presentation;
use super::refusal::Refusal;
use super::{Arrival, Outcome};
use crate::credential::bearer::UnverifiedToken;
use crate::credential::dgrk::{Charset, Dgrk, Verdict};
use crate::credential::jwt;
use crate::decide::Proven;
use crate::denial::Denial;
use crate::gate::exchange::Lookup;
use crate::gate::held::Unknown;
use crate::gate::presented::CacheKey;
use crate::gate::{Body, Gate, Hold, Host, MAX_WAITING, Signature, WaitFor};
use crate::request::{CredentialKind, SignedBody};
use crate::time::MonoMillis;

pub(super) struct Proof {
    pub(super) proven: Proven,
    pub(super) secret_index: Option<usize>,
}

impl Gate {
    /// Asks the manager for a credential that is not held.
    pub(super) fn look_up(
        &mut self,
        arrival: &mut Arrival<'_, '_>,
        presentation: &Presentation<'_>,
        key: CacheKey,
        for_body: bool,
        host: &mut dyn Host,
    ) -> Result<Outcome, Refusal> {
        let now = arrival.now.mono;
        if let Some(why) = self.unknowns.find(&key, now) {
            return Err(match why {
                Unknown::ToTheManager => Denial::CredentialUnknown { kind: presentation.kind() }.into(),
                Unknown::Forged => Denial::TokenUnverified { fault: jwt::Fault::Signature }.into(),
            });
        }
        let out_of_patience = arrival.out_of_patience(|what| matches!(what, WaitFor::Lookup(_)));
        if out_of_patience {
            return Err(Denial::LookupUnavailable.into());
        }
        if !self.lookups.contains_key(&key) {
            let address = arrival.source.address(host);
            let throttled = address.is_some_and(|address| self.failed_lookups.is_spent(address, now));
            if throttled || self.waiting_for_lookups >= MAX_WAITING {
                return Err(Denial::LookupsThrottled.into());
            }
            // Who waited for it already was verified before it did.
            if let (Presentation::Bearer(token), false) =
                (presentation, arrival.waited.is_some_and(|wait| wait.what == WaitFor::Lookup(key)))
            {
                match self.verify_token(*token, key, address, host, now) {
                    // Its key may be in the directory that is on its way.
                    Err(Denial::TokenUnverified { fault: jwt::Fault::Key })
                        if self.feed.directory_is_due() =>
                    {
                        return self.wait_for_directory(arrival);
                    }
                    verified => verified?,
                }
            }
            let lookup = Lookup::of(presentation.presented(), address);
            self.lookups.insert(key, Box::new(lookup));
        } else if self.waiting_for_lookups >= MAX_WAITING {
            return Err(Denial::LookupsThrottled.into());
        }
        Ok(Outcome::Hold {
            waits: Some(WaitFor::Lookup(key)),
            patience_ms: u64::from(self.settings.lookup_wait_ms),
            again_at: None,
            for_body,
        })
    }

    /// Whether a token is one of ours, as far as it tells itself: only then the manager is asked.
    fn verify_token(
        &mut self,
        token: UnverifiedToken<'_>,
        key: CacheKey,
        address: Option<IpAddr>,
        host: &mut dyn Host,
        now: MonoMillis,
    ) -> Result<(), Denial> {
        let unverified = |fault| Denial::TokenUnverified { fault };
        let jwt = jwt::parse(token).map_err(unverified)?;
        let spki = self.directory.as_ref().and_then(|directory| directory.token_key(&jwt.kid));
        // Not kept as unknown: its key may arrive with the next directory.
        let spki = spki.ok_or(unverified(jwt::Fault::Key))?;
        match host.verify_rs256(spki, &jwt.signature, jwt.signed.as_bytes()) {
            Signature::Correct => Ok(()),
            Signature::Incorrect => {
                self.unknowns.insert(key, Unknown::Forged, now);
                if let Some(address) = address {
                    self.failed_lookups.spend(address, 1, now);
                }
                Err(unverified(jwt::Fault::Signature))
            }
            Signature::Unchecked => Err(Denial::Internal),
        }
    }

    /// Proves a DGRK signature. None: the body is needed and not here yet.
    pub(super) fn prove(
        &mut self,
        arrival: &mut Arrival<'_, '_>,
        presented: &Dgrk<'_>,
        key: &CacheKey,
        signed: SignedBody,
        host: &mut dyn Host,
    ) -> Result<Option<Proof>, Refusal> {
        let now = arrival.now.mono;
        let (signed_body, charset) = match signed {
            SignedBody::Empty => (&b""[..], Charset::Utf8),
            SignedBody::Whole { charset } => match (arrival.hold.body, arrival.body) {
                (Body::Complete { size: 0 }, _) => (&b""[..], charset),
                (Body::Complete { .. }, Some(body)) => (body, charset),
                (Body::Complete { .. } | Body::Arriving { .. } | Body::Unasked, _) => return Ok(None),
            },
        };
        if !self.failed_bytes.is_untouched()
            && arrival.source.address(host).is_some_and(|address| self.failed_bytes.is_spent(address, now))
        {
            return Err(Denial::SignaturesThrottled.into());
        }
        let unknown = Denial::CredentialUnknown { kind: CredentialKind::Dgrk };
        let Some(entry) = self.cache.get_mut(key) else { return Err(unknown.into()) };
        let Some(verifying_key) = &entry.verifying_key else { return Err(unknown.into()) };
        let verdict = verifying_key.verify(
            presented.signature,
            signed_body,
            charset,
            entry.last_match,
            &mut self.scratch,
        );
        match verdict {
            Verdict::Verified(found) => {
                entry.last_match = Some(found);
                let proven = Proven::by_signature(&verdict).ok_or(Denial::Internal)?;
                Ok(Some(Proof { proven, secret_index: Some(found.secret_index) }))
            }
            Verdict::Incorrect { received_sha256, minified_sha256 } => {
                if let Some(address) = arrival.source.address(host) {
                    // Each also costs what does not depend on the body.
                    let bytes = signed_body.len() + arrival.head.path.len() + 256;
                    self.failed_bytes.spend(address, bytes as u64, now);
                }
                Err(Denial::SignatureIncorrect { received_sha256, minified_sha256 }.into())
            }
        }
    }

    pub(super) fn check_body_size(&self, arrival: &Arrival<'_, '_>) -> Result<(), Denial> {
        let head = arrival.head;
        let max = self.settings.max_signed_body_bytes;
        let announced = head
            .values("content-length")
            .next()
            .and_then(|value| core::str::from_utf8(value).ok().and_then(|digits| digits.parse::<u64>().ok()));
        let size = match arrival.hold.body {
            Body::Unasked => 0,
            Body::Arriving { size } | Body::Complete { size } => size as u64,
        };
        if size.max(announced.unwrap_or(0)) > u64::from(max) {
            return Err(Denial::BodyTooLarge { max });
        }
        Ok(())
    }
}

/// The body of a signed request: read it if it is here, else wait for it.
pub(super) fn body_outcome(hold: &Hold) -> Outcome {
    match hold.body {
        Body::Complete { .. } => Outcome::ReadBody,
        Body::Unasked | Body::Arriving { .. } => {
            Outcome::Hold { waits: None, patience_ms: 0, again_at: None, for_body: true }
        }
    }
}
