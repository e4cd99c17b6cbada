//! `keygate explain …`

use std::fmt::Write as _;
use std::net::IpAddr;

use gate::decide::Origin;
use gate::id::CredentialId;
use gate::wire::decisions::{Decision, MeterSeen, Word};

use super::actions;
use super::explain::{self, Described, Explanation};
use super::http::{meter_name, origin_name};
use super::model::Kept;
use crate::app::App;
use crate::feed::Named;

/// Say what led to a refusal, by its id, or what would be decided of a request.
#[derive(Debug, clap::Args)]
pub struct Explain {
    /// The id of a refusal: header x-keygate-decision, member `decision` of the answer, or the access log.
    #[arg(required_unless_present = "path", conflicts_with_all = ["path", "credential", "api_key", "client"])]
    id: Option<String>,
    /// Path of a request to ask about, such as /orders/7.
    #[arg(long)]
    path: Option<String>,
    /// Its method.
    #[arg(long, default_value = "GET")]
    method: String,
    /// Its host; without it, one that no API names.
    #[arg(long, default_value = "")]
    host: String,
    /// The credential it presents, by its id: key_…, xak_…, tk_… of a token, or basic:<client>.
    #[arg(long, conflicts_with_all = ["api_key", "client"])]
    credential: Option<String>,
    /// The DGRK key it presents, by its public text.
    #[arg(long, conflicts_with = "client")]
    api_key: Option<String>,
    /// Any credential of this client: each is looked at.
    #[arg(long)]
    client: Option<String>,
    /// From which address it comes; needed where the client is bound to addresses.
    #[arg(long)]
    address: Option<IpAddr>,
    /// It comes from the internal side.
    #[arg(long)]
    internal: bool,
    /// Show how far behind the Envoys of this gateway are.
    #[arg(long)]
    gateway: Option<String>,
}

/// Says it.
pub async fn run(app: &App, command: Explain) -> anyhow::Result<()> {
    let Some(path) = command.path else {
        let id = command.id.unwrap_or_default();
        print!("{}", kept_in_words(&actions::find(app, id.trim()).await?));
        return Ok(());
    };
    let mut described = Described {
        method: command.method,
        host: command.host,
        path,
        address: command.address,
        origin: if command.internal { Origin::Internal } else { Origin::External },
        credential: match (command.credential, command.api_key) {
            (Some(id), _) => Some(Named::Id(CredentialId(id))),
            (None, Some(text)) => Some(Named::ApiKey(text)),
            (None, None) => None,
        },
        gateway: command.gateway,
        at: None,
    }
    .checked()
    .map_err(|fault| anyhow::anyhow!("--{fault}"))?;
    let Some(client) = command.client else {
        print!("{}", in_words(&explain::explain(app, &described).await?));
        return Ok(());
    };
    let credentials = explain::credentials_of(app, &client).await?;
    if credentials.is_empty() {
        println!(
            "client {client} has no keys and no X-Api-Keys; its own id and password: --credential basic:{client}"
        );
    }
    for credential in credentials {
        described.credential = Some(credential);
        println!("{}", in_words(&explain::explain(app, &described).await?));
    }
    Ok(())
}

fn kept_in_words(kept: &Kept) -> String {
    let decision = &kept.decision;
    let mut text = String::new();
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(text, "{name:<11}{value}");
    };
    line("decision", &decision.id);
    line("rule", &decision.code);
    line("told", &decision.detail);
    line("at", &format!("{} UTC, by the node's clock", decision.at));
    line("request", &format!("{} {} at {}", decision.method, decision.path, or_none(Some(&decision.host))));
    line("API", &or_none(decision.api.as_ref().map(|uid| uid.as_str())));
    line("client", &or_none(decision.client.as_ref().map(|id| id.as_str())));
    let proven = if decision.code == "signature_incorrect" { " (claimed, not proven)" } else { "" };
    let credential = or_none(decision.credential.as_ref().map(|id| id.as_str()));
    line("credential", &format!("{credential}{proven}"));
    let side = decision.origin.map_or("an unknown", origin_name);
    line("address", &format!("{}, {side} side", or_none(decision.address.as_deref())));
    line("gateway", &kept.gateway);
    line("news", &news(decision));
    if let Some(held_ms) = decision.grant_held_ms {
        line("grant", &format!("held for {held_ms} ms"));
    }
    if let Some(waited_ms) = decision.waited_ms {
        line("waited", &format!("{waited_ms} ms"));
    }
    if let Some(room) = decision.room {
        let (priority, in_flight, capacity) = (room.priority, room.in_flight, room.capacity);
        line("room", &format!("priority {priority}, {in_flight} requests in flight, capacity {capacity}"));
    }
    if let Some(rate) = decision.rate {
        line("rate", &format!("{} of {} in that second on the node", rate.admitted, rate.tps));
    }
    for meter in &decision.meters {
        line("meter", &meter_in_words(meter));
    }
    text
}

fn news(decision: &Decision) -> String {
    let polled = match decision.polled_ms_ago {
        Some(ms) => format!("heard from the manager {ms} ms before"),
        None => "never heard from the manager".into(),
    };
    format!("directory {}, change {}, {polled}", decision.directory, decision.feed)
}

fn meter_in_words(meter: &MeterSeen) -> String {
    let mut text = format!(
        "{} {}: limit {}, {} units on the node",
        meter_name(meter.kind),
        meter.meter,
        meter.limit,
        meter.held
    );
    if let Some(left) = meter.ledger_left {
        let _ = write!(text, ", {left} left in the ledger when it last granted");
    }
    for lease in &meter.leases {
        let (id, generation) = (lease.lease, lease.generation);
        let _ =
            write!(text, ", lease {id} of generation {generation}: {} of {} left", lease.left, lease.units);
    }
    match meter.word {
        Some(Word::Exhausted) => text += "; the ledger said: nothing left",
        Some(Word::Contended) => text += "; the ledger said: other nodes have the rest",
        Some(Word::Gone) => text += "; the ledger said: deleted",
        None => {}
    }
    if meter.renewing {
        text += "; a renewal was on its way";
    }
    text
}

fn in_words(explanation: &Explanation) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(text, "{name:<11}{value}");
    };
    let grant = explanation.grant.as_ref().map(|(_, grant)| grant);
    match &explanation.denial {
        None => line("decision", &"admitted"),
        Some(denial) => {
            let client = grant.map_or("", |grant| grant.client.as_str());
            line("decision", &format!("refused with {} ({})", denial.code(), denial.status()));
            line("rule", &denial.rule());
            line("told", &denial.detail(client));
        }
    }
    line("at", &format!("{} UTC", explanation.at));
    let api = explanation.api.as_ref();
    line("API", &api.map_or("none".into(), |api| format!("{}/{} ({})", api.module, api.id, api.uid)));
    if let Some(grant) = grant {
        line("client", &grant.client);
        line("credential", &format!("{} (its secret is taken for proven)", grant.credential));
        let per_second = if grant.tps == 0 { "unlimited".into() } else { grant.tps.to_string() };
        line("rate", &format!("{per_second} requests a second on each node"));
        line(
            "room",
            &format!("priority {}, capacity {} of each worker", grant.priority, explanation.capacity),
        );
    }
    for meter in &explanation.limits.meters {
        let (kind, id) = (meter_name(meter.kind), meter.meter);
        let window = match meter.window_ends_at {
            Some(at) => format!("until {at} UTC"),
            None => "in all".into(),
        };
        let (remaining, leased, withheld) = (meter.remaining, meter.leased, meter.withheld);
        line(
            "meter",
            &format!(
                "{kind} {id}: limit {} {window}, {remaining} remaining, {leased} leased to nodes, {withheld} withheld",
                meter.limit
            ),
        );
        if remaining == 0 && leased > 0 {
            let what = "let in at once where these leases are; elsewhere once they are collected, or refused with \
                        quota_contended if they are spent meanwhile";
            line("", &what);
        }
    }
    line("news", &format!("directory {}, change {}", explanation.directory, explanation.feed));
    for envoy in &explanation.envoys {
        let lag = explanation.feed.0.saturating_sub(envoy.feed.0);
        line("envoy", &format!("{}, seen at {} UTC, {lag} changes behind", envoy.holder, envoy.last_seen_at));
    }
    text
}

fn or_none(text: Option<&str>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or("none").to_string()
}
