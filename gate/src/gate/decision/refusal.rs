//! A refusal: whom it is about, what is kept of it, and how it is told.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::{Arrival, Source, path_alone};
use crate::credential::basic;
use crate::decide::Origin;
use crate::denial::{Circumstances, Denial, Response};
use crate::directory::Directory;
use crate::gate::seen::LimitsSeen;
use crate::gate::{Entry, Gate, Hold, Host, StreamId, ratelimit, report, seen};
use crate::id::{ApiUid, ClientId, CredentialId, Revision};
use crate::request::{CredentialKind, RequestHead, is_grpc};
use crate::time::Now;
use crate::wire::decisions::{Decision, OriginSeen, RoomSeen};

/// A refusal and whom it is about.
pub(super) struct Refusal {
    pub(super) denial: Denial,
    pub(super) api: Option<ApiUid>,
    /// Told once the secret is proven.
    pub(super) known: Option<Box<Known>>,
}

pub(super) struct Known {
    client: ClientId,
    credential: CredentialId,
    utc_offset_min: i32,
}

impl From<Denial> for Refusal {
    fn from(denial: Denial) -> Self {
        Self { denial, api: None, known: None }
    }
}

impl Entry {
    pub(super) fn refusal(&self, denial: Denial) -> Refusal {
        let known = Known {
            client: self.grant.wire.client.clone(),
            credential: self.grant.wire.credential.clone(),
            utc_offset_min: self.grant.wire.utc_offset_min,
        };
        Refusal { denial, api: None, known: Some(Box::new(known)) }
    }
}

impl Gate {
    /// A request whose head the host could not give us.
    pub fn refuse_unreadable(&mut self, stream: StreamId, host: &mut dyn Host, now: Now) -> Response {
        let head = RequestHead::default();
        let source = Source { stream, asked: None };
        let hold = Hold::default();
        let mut arrival =
            Arrival { head: &head, body: None, hold: &hold, waited: None, presented: None, source, now };
        self.refuse(&mut arrival, Denial::Internal.into(), host)
    }

    pub(super) fn refuse(
        &mut self,
        arrival: &mut Arrival<'_, '_>,
        refusal: Refusal,
        host: &mut dyn Host,
    ) -> Response {
        let (head, now) = (arrival.head, arrival.now);
        let Refusal { denial, api, known } = refusal;
        let presented = arrival.presented;
        let credential = known.as_ref().map(|known| &known.credential);
        let caller = known.as_ref().map(|known| (&known.client, &known.credential));
        self.usage.count(caller, None, api.as_ref(), denial.code(), 1);

        let id = self.decisions.next_id();
        let entry = presented.and_then(|(key, _)| self.cache.get_mut(&key));
        let named = credential.or(entry.as_ref().map(|entry| &entry.grant.wire.credential));
        let place = self.decisions.place(denial.code(), named, now.mono);
        self.metrics.refused(denial.code(), place.as_ref().is_some_and(|place| !place.displaces()));
        // Figures cost a look at shared data: for those whose limits are told, or kept.
        let limits = match &entry {
            Some(entry) if place.is_some() || denial.is_of_a_limit() => {
                seen::look(host, &self.keys, &entry.grant, now.mono)
            }
            Some(_) | None => LimitsSeen::default(),
        };
        let limit_headers = match &entry {
            Some(entry) if denial.is_of_a_limit() => ratelimit::refused(&entry.grant.wire, &limits),
            Some(_) | None => Vec::new(),
        };
        if let Some(place) = place {
            let client = known.as_ref().map(|known| &known.client);
            let decision = Decision {
                id: id.clone(),
                at: now.unix,
                code: denial.code().to_string(),
                detail: denial.detail(client.map_or("", ClientId::as_str)),
                method: report::text(head.method),
                host: report::text(head.host),
                path: report::text(path_alone(head)),
                api: api.clone(),
                kind: presented.map(|(_, kind)| kind),
                client: client.or(entry.as_ref().map(|entry| &entry.grant.wire.client)).cloned(),
                credential: named.cloned(),
                address: None,
                origin: None,
                directory: self.directory.as_ref().map_or(Revision(0), Directory::revision),
                feed: self.feed.revision,
                polled_ms_ago: (self.feed.polled_at.0 != 0).then(|| now.mono - self.feed.polled_at),
                grant_held_ms: entry.as_ref().map(|entry| now.mono - entry.since),
                waited_ms: arrival.waited.map(|wait| now.mono - wait.since),
                room: entry.as_ref().map(|entry| RoomSeen {
                    priority: entry.grant.wire.priority,
                    in_flight: self.in_flight,
                    capacity: self.settings.capacity,
                }),
                rate: limits.rate,
                meters: limits.meters,
            };
            let address = arrival.source.address(host).map(|address| address.to_string());
            let origin = Some(match self.origin(&mut arrival.source, host) {
                Origin::Internal => OriginSeen::Internal,
                Origin::External => OriginSeen::External,
            });
            self.decisions.keep(place, Decision { address, origin, ..decision });
        }

        let claimed = match denial {
            Denial::CredentialUnknown { kind: CredentialKind::Basic } => claimed(head),
            _ => None,
        };
        let mut response = denial.respond(&Circumstances {
            format: self.settings.denial_format,
            credential: known.as_ref().map(|known| &known.credential),
            path: &String::from_utf8_lossy(path_alone(head)),
            client: known.as_ref().map(|known| &known.client).or(claimed.as_ref()),
            now: now.unix,
            utc_offset_min: known.as_ref().map_or(0, |known| known.utc_offset_min),
            grpc: is_grpc(head),
            decision: &id,
        });
        response.headers.extend(limit_headers);
        response.api = api;
        response
    }
}

/// Whom a Basic header names: told to who named it, and to access logs.
fn claimed(head: &RequestHead<'_>) -> Option<ClientId> {
    let value = head.values("authorization").next()?;
    basic::parse(value).ok().map(|basic| basic.id.as_str().into())
}
