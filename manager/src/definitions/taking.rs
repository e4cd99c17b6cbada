//! What a plan will change, taken before the first of it is changed.
//!
//! Who records a change or an audit entry holds the head of that list until the commit, and others
//! wait for it with their own rows in hand. An apply records many times: it must not come to wait
//! for such a row afterwards. So it takes every row first, in the order in which the single calls
//! take theirs.

use std::collections::{BTreeMap, BTreeSet};

use gate::id::GroupId;
use gate::wire::exchange::MeterKind;

use super::kinds::{ClientSpec, FlowSpec, UserSpec};
use super::model::{Defined, Spec, Wanted};
use super::plan::{Kept, Plan, Present, Steps};
use super::work::Work;
use crate::clients::{Binding, hosts};
use crate::db::{Conn, DbError};
use crate::{catalog, quotas};

impl Work<'_> {
    /// Keeps others from all that `plan` changes, until the transaction ends. What they had changed
    /// before is in `present` then: plan again.
    pub async fn take(
        &self,
        conn: &mut Conn,
        wanted: &Wanted,
        present: &mut Present,
        plan: &Plan,
    ) -> Result<(), DbError> {
        let clients: Vec<&ClientSpec> = written(&wanted.clients, &plan.clients).collect();
        for id in ids(&clients) {
            let taken = ClientSpec::take(conn, &id, &self.names).await?;
            refresh(&mut present.clients, id, taken);
        }
        let users: Vec<&UserSpec> = written(&wanted.users, &plan.users).collect();
        for id in ids(&users) {
            let taken = UserSpec::take(conn, &id).await?;
            refresh(&mut present.users, id, taken);
        }
        let groups = groups(wanted, present, plan);
        catalog::groups::hold(conn, self.app.db.dialect(), &groups).await?;
        let bindings = clients.iter().filter_map(|spec| spec.bindings.as_ref()).flatten();
        hosts::hold(conn, &bindings.filter_map(Binding::host).collect(), self.now).await?;
        let limited: Vec<&ClientSpec> = clients.into_iter().filter(|spec| spec.limits()).collect();
        quotas::hold(conn, MeterKind::ClientQuota, &ids(&limited)).await?;
        let flows: Vec<&FlowSpec> = written(&wanted.flows, &plan.flows).collect();
        for id in ids(&flows) {
            let taken = FlowSpec::take(conn, &id).await?;
            refresh(&mut present.flows, id, taken);
        }
        Ok(())
    }
}

/// What the steps write.
fn written<'a, S: Spec>(wanted: &'a [Defined<S>], steps: &'a Steps<S>) -> impl Iterator<Item = &'a S> {
    steps.iter().filter_map(|(index, _)| wanted.get(*index)).map(|defined| &defined.spec)
}

/// Their names, sorted.
fn ids<S: Spec>(specs: &[&S]) -> BTreeSet<String> {
    specs.iter().map(|spec| spec.id()).collect()
}

/// The groups and scopes that are changed or go: who gives one to a client keeps it from that.
fn groups(wanted: &Wanted, present: &Present, plan: &Plan) -> BTreeSet<GroupId> {
    fn handles<'a, S: Spec>(
        wanted: &'a [Defined<S>],
        steps: &'a Steps<S>,
        present: &'a BTreeMap<String, Kept<S>>,
        plan: &'a Plan,
    ) -> impl Iterator<Item = GroupId> {
        let going = plan.deletions.iter().filter(|(kind, _)| *kind == S::KIND).map(|(_, id)| id.clone());
        let names = written(wanted, steps).map(Spec::id).chain(going);
        names.filter_map(|id| present.get(&id)).map(|kept| GroupId(kept.handle.clone()))
    }
    handles(&wanted.groups, &plan.groups, &present.groups, plan)
        .chain(handles(&wanted.scopes, &plan.scopes, &present.scopes, plan))
        .collect()
}

fn refresh<S>(present: &mut BTreeMap<String, Kept<S>>, id: String, taken: Option<Kept<S>>) {
    match taken {
        Some(kept) => present.insert(id, kept),
        None => present.remove(&id),
    };
}
