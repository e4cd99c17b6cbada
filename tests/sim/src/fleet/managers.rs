//! The managers as gates call them: the change feed, the directory, and exchanges over the ledger.

use std::collections::BTreeMap;

use gate::credential::Fingerprint as Hash;
use gate::gate::Call;
use gate::id::{ApiUid, ClientId, Epoch, GroupId, HolderId, Revision};
use gate::request::CredentialKind;
use gate::wire::WIRE_VERSION;
use gate::wire::changes::{Change, ChangesAnswer, Fingerprint, MAX_CHANGES, Subject};
use gate::wire::directory::{ApiEntry, Audience, DirectoryAnswer, PathRule, Settings};
use gate::wire::exchange::{
    ClientStatus, ExchangeAnswer, ExchangeRequest, Grant, Meter, Permission, Presented, Proof, Resolved,
};

use crate::faults::Fault;
use crate::ledger::{Ledger, Manager};
use crate::reference::Reference;

/// The key that a caller presents.
pub fn key_of(caller: usize) -> String {
    format!("key-of-caller-{caller}")
}

/// The client of a caller.
pub fn client_of(number: u64) -> ClientId {
    ClientId(format!("client-{number}"))
}

fn hex(caller: usize) -> String {
    Hash::of(key_of(caller).as_bytes()).to_hex()
}

/// What is in the database besides the ledger.
pub struct Managers {
    /// Meters, streams, leases.
    pub ledger: Ledger,
    grants: BTreeMap<String, Grant>,
    /// Grants as they were a while ago, for [`Fault::RevisionReadAfterRows`].
    old_grants: BTreeMap<String, Grant>,
    changes: Vec<Change>,
    /// A change that becomes visible out of order, for [`Fault::RevisionsOutOfOrder`].
    late: Option<Change>,
    revision: u64,
    fault: Fault,
    /// Reports counted, by holder, slot, boot and number.
    reports: BTreeMap<(HolderId, u32, u64, u64), ()>,
    /// Admitted calls that were reported.
    pub reported: u64,
}

impl Managers {
    /// With this ledger, and nobody known yet.
    pub fn new(ledger: Ledger, fault: Fault) -> Self {
        Self {
            ledger,
            grants: BTreeMap::new(),
            old_grants: BTreeMap::new(),
            changes: vec![],
            late: None,
            revision: 10,
            fault,
            reports: BTreeMap::new(),
            reported: 0,
        }
    }

    /// Records a change.
    pub fn record(&mut self, subject: Subject) {
        self.revision += 1;
        let change = Change { revision: Revision(self.revision), subject };
        self.changes.push(change);
    }

    /// The transaction that was overtaken commits.
    pub fn commit_late(&mut self) {
        self.changes.extend(self.late.take());
        self.changes.sort_by_key(|change| change.revision);
    }

    /// A key is issued to a caller.
    pub fn issue(&mut self, caller: usize, client: ClientId, tps: u32, meters: Vec<Meter>) {
        let grant = Grant {
            credential: format!("xk_{caller}").as_str().into(),
            client,
            proof: Proof::Presented,
            client_status: ClientStatus::Active,
            client_validity: None,
            service_time: None,
            addresses: vec![],
            bound: false,
            active: true,
            effective_at: None,
            revoked_at: None,
            expires_at: None,
            permission: Permission::Groups { groups: vec![GroupId("g".into())] },
            audience: Audience::Both,
            priority: 5,
            tps,
            meters,
            utc_offset_min: 0,
            keep_s: 3_600,
        };
        self.old_grants = self.grants.clone();
        self.grants.insert(hex(caller), grant);
        self.changed(caller);
    }

    /// A caller's key is revoked.
    pub fn revoke(&mut self, caller: usize) {
        self.old_grants = self.grants.clone();
        self.grants.remove(&hex(caller));
        self.changed(caller);
        if self.fault == Fault::RevisionsOutOfOrder {
            // Its transaction goes on while a later number is visible already.
            self.late = self.changes.pop();
            self.record(Subject::Directory);
        }
    }

    fn changed(&mut self, caller: usize) {
        let fingerprint = Fingerprint::XApiKey(hex(caller));
        self.record(Subject::Credential { credential: format!("xk_{caller}").as_str().into(), fingerprint });
    }

    /// The answer to a poll; none while there is nothing to tell.
    pub fn poll(&self, call: &Call) -> Option<Vec<u8>> {
        let (epoch, since) = (query(call, "epoch"), query(call, "since"));
        let reset = epoch != self.ledger.tables.epoch.0 || since > self.revision;
        let changes = self.changes.iter().filter(|change| !reset && change.revision.0 > since);
        let changes: Vec<Change> = changes.take(MAX_CHANGES).cloned().collect();
        if !reset && changes.is_empty() {
            return None;
        }
        let revision = changes.last().map_or(Revision(self.revision), |change| change.revision);
        Some(self.tell(revision, reset, changes))
    }

    /// The answer to a poll that has waited long enough.
    pub fn nothing_new(&self, call: &Call) -> Vec<u8> {
        self.tell(Revision(query(call, "since")), false, vec![])
    }

    fn tell(&self, revision: Revision, reset: bool, changes: Vec<Change>) -> Vec<u8> {
        let epoch = self.ledger.tables.epoch;
        json(&ChangesAnswer { version: WIRE_VERSION, epoch, revision, reset, changes })
    }

    /// The directory; none = nothing is newer.
    pub fn directory(&self, call: &Call) -> Option<Vec<u8>> {
        let epoch = self.ledger.tables.epoch;
        if query(call, "epoch") == epoch.0 && query(call, "revision") == 1 {
            return None;
        }
        let api = ApiEntry {
            uid: ApiUid("orders".into()),
            module: "shop".into(),
            id: "orders".into(),
            hosts: vec![],
            methods: vec![],
            path: PathRule::Prefix("/orders".into()),
            accepts: vec![CredentialKind::XApiKey],
            no_auth: false,
            enabled: true,
            audience: Audience::Both,
            groups: vec![GroupId("g".into())],
            unsigned_forms: false,
        };
        Some(json(&DirectoryAnswer {
            version: WIRE_VERSION,
            epoch,
            revision: Revision(1),
            since: None,
            settings: Settings::default(),
            apis: vec![api],
            token_keys: vec![],
            removed: vec![],
        }))
    }

    /// An exchange: the answer, and what is to be announced.
    pub fn exchange(
        &mut self,
        manager: Manager,
        request: &ExchangeRequest,
        reference: &mut Reference,
    ) -> (Epoch, Vec<u8>, Vec<Subject>) {
        let (renewed, news) = self.ledger.exchange(manager, request.holder, &request.renew, reference);
        let grants = if self.fault == Fault::RevisionReadAfterRows { &self.old_grants } else { &self.grants };
        let resolved = request.resolve.iter().map(|presented| match presented {
            Presented::XApiKey { sha256 } => match grants.get(sha256) {
                Some(grant) => Resolved::Known { grant: Box::new(grant.clone()) },
                None => Resolved::Unknown,
            },
            Presented::Dgrk { .. } | Presented::Bearer { .. } | Presented::Basic { .. } => Resolved::Unknown,
        });
        let resolved = resolved.collect();
        if let Some(usage) = &request.usage
            && self.reports.insert((request.holder, request.slot, usage.boot, usage.seq), ()).is_none()
        {
            let admitted = usage.rows.iter().filter(|row| row.result == "admitted");
            self.reported += admitted.map(|row| row.count).sum::<u64>();
        }
        let epoch = self.ledger.tables.epoch;
        let answer = ExchangeAnswer {
            version: WIRE_VERSION,
            epoch,
            as_of: Revision(self.revision),
            resolved,
            renewed,
            usage_seq: request.usage.as_ref().map(|usage| usage.seq),
        };
        (epoch, json(&answer), news)
    }
}

fn query(call: &Call, name: &str) -> u64 {
    let value = call.path.split(['?', '&']).find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}

fn json<T: serde::Serialize>(answer: &T) -> Vec<u8> {
    serde_json::to_vec(answer).expect("answers are plain values")
}
