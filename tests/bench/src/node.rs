//! Nodes as the manager sees them: each has one connection (HTTP/2, as Envoy makes it), lease streams
//! that it renews a few per exchange, reports of usage, and a poll for changes.

use anyhow::{Context, Result, bail, ensure};
use e2e::cast::XApiKey;
use e2e::client::{Call, Connection, Protocol};
use e2e::world::World;
use gate::id::{Epoch, HolderId, LeaseId, MeterId, Rec, Revision};
use gate::wire::changes::{ChangesAnswer, POLL_WAIT_MS};
use gate::wire::exchange::{
    ExchangeAnswer, ExchangeRequest, Presented, Renewal, RenewalOutcome, Resolved, UsageReport, UsageRow,
};
use gate::wire::{CHANGES_PATH, EXCHANGE_PATH, WIRE_VERSION};
use serde_json::json;

use crate::keys::sha256;

/// Units that a lease asks for; all of them are spent when it is renewed.
const WANTED: u32 = 100;
/// Of each client: far more than any run spends.
const QUOTA: u64 = 1_000_000_000;

/// What is on record: clients with a quota each, which all nodes share.
pub struct Fleet {
    token: String,
    group: String,
    api: String,
    clients: Vec<Called>,
}

/// Whom calls are counted for.
#[derive(Clone)]
struct Called {
    client: String,
    credential: String,
    meter: MeterId,
}

/// One node.
pub struct Node {
    line: Connection,
    token: String,
    holder: HolderId,
    epoch: Option<Epoch>,
    api: String,
    streams: Vec<Stream>,
    /// The stream that is renewed next.
    next: usize,
    reports: u64,
}

struct Stream {
    called: Called,
    rec: Rec,
    seq: u64,
    lease: Option<LeaseId>,
}

/// What a node follows the changes with.
pub struct Poller {
    line: Connection,
    token: String,
    holder: HolderId,
    epoch: Option<Epoch>,
    known: Revision,
}

impl Fleet {
    /// Puts so many clients on record, each with a quota and a key.
    pub async fn on_record(world: &World, clients: usize) -> Result<Self> {
        let api = world.api("bench", "/bench", json!({})).await?;
        let group = world.group("bench", &[&api]).await?;
        let token = world.gateway_token("bench")?;
        let mut fleet = Self { token, group, api, clients: Vec::new() };
        let mut made = Vec::new();
        for n in 0..clients {
            let terms = json!({ "groups": [fleet.group], "quota": QUOTA });
            let client = world.client(&format!("client-{n}"), terms).await?;
            made.push((fleet.key(world, &client).await?, client));
        }
        let presented = made
            .iter()
            .map(|(key, _)| Ok(Presented::XApiKey { sha256: sha256(&key.text)? }))
            .collect::<Result<_>>()?;
        let mut node = fleet.node(world, 0).await?;
        let answer = node.send(ExchangeRequest { resolve: presented, ..node.request() }).await?;
        for (resolved, (key, client)) in answer.resolved.iter().zip(made) {
            let Resolved::Known { grant } = resolved else { bail!("a key that was just made is unknown") };
            let meter = grant.meters.first().context("its client has a quota")?.id;
            fleet.clients.push(Called { client, credential: key.id, meter });
        }
        Ok(fleet)
    }

    /// One more key, of a client that has one.
    pub async fn another_key(&self, world: &World) -> Result<XApiKey> {
        let called = self.clients.first().context("a client")?;
        self.key(world, &called.client).await
    }

    async fn key(&self, world: &World, client: &str) -> Result<XApiKey> {
        world.x_api_key(client, &[&self.group], json!({})).await
    }

    /// The n-th node, connected.
    pub async fn node(&self, world: &World, n: usize) -> Result<Node> {
        let number = u64::try_from(n)? + 1;
        let mut holder = [7; 16];
        holder[..8].copy_from_slice(&number.to_be_bytes());
        let stream = |(place, called): (u64, &Called)| Stream {
            called: called.clone(),
            rec: Rec(number * 1_000 + place),
            seq: 0,
            lease: None,
        };
        Ok(Node {
            line: Connection::open(world.manager.address, Protocol::Http2).await?,
            token: self.token.clone(),
            holder: HolderId(holder),
            epoch: None,
            api: self.api.clone(),
            streams: (0..).zip(&self.clients).map(stream).collect(),
            // Not all nodes ask for the same meters at the same time.
            next: n * 7 % self.clients.len().max(1),
            reports: 0,
        })
    }
}

impl Node {
    /// An exchange in which so many leases are renewed, each of another client, and which tells, if
    /// `reports`, of calls of two of them.
    pub async fn exchange(&mut self, renewals: usize, reports: bool) -> Result<()> {
        let places: Vec<usize> = (self.next..self.next + renewals).map(|n| n % self.streams.len()).collect();
        self.next += renewals;
        let renew = places
            .iter()
            .map(|place| {
                let stream = &self.streams[*place];
                Renewal {
                    meter: stream.called.meter,
                    rec: stream.rec,
                    seq: stream.seq + 1,
                    epoch: self.epoch.filter(|_| stream.seq > 0),
                    want: WANTED,
                    closed_lease: stream.lease,
                    unspent: 0,
                    waiting: false,
                    ahead: false,
                }
            })
            .collect();
        let usage = reports.then(|| self.report());
        let answer = self.send(ExchangeRequest { renew, usage, ..self.request() }).await?;
        self.epoch = Some(answer.epoch);
        ensure!(answer.renewed.len() == places.len(), "{} of {renewals} were answered", answer.renewed.len());
        for (place, renewed) in places.into_iter().zip(answer.renewed) {
            let RenewalOutcome::Granted { lease, .. } = renewed.outcome else {
                bail!("a renewal was answered {:?}", renewed.outcome)
            };
            let stream = &mut self.streams[place];
            (stream.seq, stream.lease) = (stream.seq + 1, Some(lease));
        }
        Ok(())
    }

    /// Calls of two clients since the last report, and how they were answered.
    fn report(&mut self) -> UsageReport {
        self.reports += 1;
        let mut rows = Vec::new();
        for place in [self.next, self.next + 1] {
            let called = &self.streams[place % self.streams.len()].called;
            let admitted = UsageRow {
                client: Some(called.client.clone().into()),
                credential: Some(called.credential.clone().into()),
                secret: None,
                api: Some(self.api.clone().into()),
                result: "admitted".into(),
                count: 100,
                latency: Vec::new(),
            };
            rows.push(UsageRow {
                credential: None,
                result: "answered_2xx".into(),
                latency: vec![[0, 60, 60], [2, 39, 150], [5, 1, 40]],
                ..admitted.clone()
            });
            rows.push(admitted);
        }
        UsageReport { boot: 1, seq: self.reports, rows }
    }

    fn request(&self) -> ExchangeRequest {
        ExchangeRequest {
            version: WIRE_VERSION,
            holder: self.holder,
            slot: 0,
            filter_version: "bench".into(),
            directory: Revision(0),
            feed: Revision(0),
            leases_held: 0,
            resolve: Vec::new(),
            renew: Vec::new(),
            usage: None,
        }
    }

    async fn send(&mut self, request: ExchangeRequest) -> Result<ExchangeAnswer> {
        let call = Call::post(EXCHANGE_PATH, serde_json::to_string(&request)?);
        let answer = self.line.send(&call.header("authorization", format!("Bearer {}", self.token))).await?;
        ensure!(answer.status == 200, "an exchange was refused: {} {}", answer.status, answer.text());
        Ok(serde_json::from_slice(&answer.body)?)
    }

    /// Follows the changes over the same connection.
    pub fn poller(&self) -> Result<Poller> {
        Ok(Poller {
            line: self.line.shared().context("several calls share a connection of HTTP/2")?,
            token: self.token.clone(),
            holder: self.holder,
            epoch: None,
            known: Revision(0),
        })
    }
}

impl Poller {
    /// One poll, as a filter makes it.
    pub async fn poll(&mut self) -> Result<ChangesAnswer> {
        let mut path =
            format!("{CHANGES_PATH}?since={}&wait_ms={POLL_WAIT_MS}&holder={}", self.known.0, self.holder);
        if let Some(epoch) = self.epoch {
            path.push_str(&format!("&epoch={}", epoch.0));
        }
        let call = Call::get(&path).header("authorization", format!("Bearer {}", self.token));
        let answer = self.line.send(&call).await?;
        ensure!(answer.status == 200, "a poll was refused: {} {}", answer.status, answer.text());
        let answer: ChangesAnswer = serde_json::from_slice(&answer.body)?;
        (self.epoch, self.known) = (Some(answer.epoch), answer.revision);
        Ok(answer)
    }
}
