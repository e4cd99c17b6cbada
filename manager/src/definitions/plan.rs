//! What is to be done so that what is there becomes what is wanted: values in, values out.

use std::collections::{BTreeMap, BTreeSet};

use super::kinds::{ApiSpec, ClientSpec, FlowSpec, GroupSpec, ScopeSpec, UserSpec};
use super::model::{Defined, Fault, Kind, Spec, Wanted};

/// What is there, by name.
#[derive(Clone, Debug, Default)]
pub struct Present {
    /// APIs.
    pub apis: BTreeMap<String, Kept<ApiSpec>>,
    /// Groups.
    pub groups: BTreeMap<String, Kept<GroupSpec>>,
    /// Scopes.
    pub scopes: BTreeMap<String, Kept<ScopeSpec>>,
    /// Clients.
    pub clients: BTreeMap<String, Kept<ClientSpec>>,
    /// Users.
    pub users: BTreeMap<String, Kept<UserSpec>>,
    /// Approval flows.
    pub flows: BTreeMap<String, Kept<FlowSpec>>,
}

/// Something that is there.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept<S> {
    /// All of its fields.
    pub spec: S,
    /// What its capability calls it: a uid or an id.
    pub handle: String,
    /// As read.
    pub version: i64,
    /// The version of what is kept beside it and has one of its own: a client's token settings.
    pub aside: i64,
}

/// What one definition asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Step<S> {
    /// It is not there.
    Create,
    /// These fields are otherwise; whether they stay so when they are brought into the form in
    /// which they are kept, its capability tells.
    Update(S),
}

/// The steps of one kind, each with the place of its definition among the wanted ones.
pub type Steps<S> = Vec<(usize, Step<S>)>;

/// What is to be done.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// With APIs.
    pub apis: Steps<ApiSpec>,
    /// With groups.
    pub groups: Steps<GroupSpec>,
    /// With scopes.
    pub scopes: Steps<ScopeSpec>,
    /// With clients.
    pub clients: Steps<ClientSpec>,
    /// With users.
    pub users: Steps<UserSpec>,
    /// With flows.
    pub flows: Steps<FlowSpec>,
    /// What goes because no document names it.
    pub deletions: Vec<(Kind, String)>,
    /// What no document names but stays all the same: clients, users and flows.
    pub spared: Vec<(Kind, String)>,
    /// Definitions of what is as they say.
    pub unchanged: usize,
    /// Why it cannot be done.
    pub faults: Vec<Fault>,
}

/// Compares. With `prune`, what is there of a kind that the documents define goes when none of
/// them names it; but never a client, whose keys and tokens would go with it unseen, never a user, whom
/// tokens and the audit trail name, and never a flow, without which no form could be submitted.
pub fn plan(wanted: &Wanted, present: &Present, prune: bool) -> Plan {
    let mut plan = Plan::default();
    if prune {
        spare_or_delete(&wanted.apis, &present.apis, &mut plan);
        spare_or_delete(&wanted.groups, &present.groups, &mut plan);
        spare_or_delete(&wanted.scopes, &present.scopes, &mut plan);
        spare_or_delete(&wanted.clients, &present.clients, &mut plan);
        spare_or_delete(&wanted.users, &present.users, &mut plan);
        spare_or_delete(&wanted.flows, &present.flows, &mut plan);
    }
    let known = Known::of(wanted, present, &plan.deletions);
    plan.apis = steps(&wanted.apis, &present.apis, &known, &mut plan);
    plan.groups = steps(&wanted.groups, &present.groups, &known, &mut plan);
    plan.scopes = steps(&wanted.scopes, &present.scopes, &known, &mut plan);
    plan.clients = steps(&wanted.clients, &present.clients, &known, &mut plan);
    plan.users = steps(&wanted.users, &present.users, &known, &mut plan);
    plan.flows = steps(&wanted.flows, &present.flows, &known, &mut plan);
    plan
}

fn spare_or_delete<S: Spec>(wanted: &[Defined<S>], present: &BTreeMap<String, Kept<S>>, plan: &mut Plan) {
    let named: BTreeSet<String> = wanted.iter().map(|defined| defined.spec.id()).collect();
    if named.is_empty() {
        return;
    }
    let unnamed = present.keys().filter(|id| !named.contains(*id)).map(|id| (S::KIND, id.clone()));
    match S::KIND {
        Kind::Api | Kind::Group | Kind::Scope => plan.deletions.extend(unnamed),
        Kind::Client | Kind::User | Kind::ApprovalFlow => plan.spared.extend(unnamed),
    }
}

fn steps<S: Spec>(
    wanted: &[Defined<S>],
    present: &BTreeMap<String, Kept<S>>,
    known: &Known,
    plan: &mut Plan,
) -> Steps<S> {
    let mut steps = Vec::new();
    for (index, defined) in wanted.iter().enumerate() {
        let mut faults = known.unknown_names(defined);
        let kept = present.get(&defined.spec.id());
        if kept.is_none() {
            faults.extend(missing_fields(defined));
        }
        if !faults.is_empty() {
            plan.faults.append(&mut faults);
            continue;
        }
        let Some(kept) = kept else {
            steps.push((index, Step::Create));
            continue;
        };
        let differing: BTreeSet<String> =
            kept.spec.differences(&defined.spec).into_iter().map(|difference| difference.field).collect();
        if differing.is_empty() {
            plan.unchanged += 1;
            continue;
        }
        let mut changes = defined.spec.clone();
        let together = S::TOGETHER.iter().any(|field| differing.contains(*field));
        changes.restrict(|field| differing.contains(field) || (together && S::TOGETHER.contains(&field)));
        steps.push((index, Step::Update(changes)));
    }
    steps
}

fn missing_fields<S: Spec>(defined: &Defined<S>) -> Vec<Fault> {
    let missing = S::REQUIRED.iter().filter(|field| !defined.lines.contains_key(**field));
    missing
        .map(|field| {
            let reason = format!(
                "is missing: {} {} does not exist yet and needs it",
                S::KIND.noun(),
                defined.spec.id()
            );
            defined.fault(field, reason)
        })
        .collect()
}

/// The names that can be referred to once everything is done.
struct Known {
    there: BTreeSet<(Kind, String)>,
    going: BTreeSet<(Kind, String)>,
    /// There are definitions whose names could not be read.
    incomplete: bool,
}

impl Known {
    fn of(wanted: &Wanted, present: &Present, deletions: &[(Kind, String)]) -> Self {
        let mut there = BTreeSet::new();
        there.extend(present.apis.keys().map(|id| (Kind::Api, id.clone())));
        there.extend(present.groups.keys().map(|id| (Kind::Group, id.clone())));
        there.extend(present.scopes.keys().map(|id| (Kind::Scope, id.clone())));
        let going: BTreeSet<_> = deletions.iter().cloned().collect();
        there.retain(|name| !going.contains(name));
        there.extend(wanted.apis.iter().map(|api| (Kind::Api, api.spec.id())));
        there.extend(wanted.groups.iter().map(|group| (Kind::Group, group.spec.id())));
        there.extend(wanted.scopes.iter().map(|scope| (Kind::Scope, scope.spec.id())));
        Self { there, going, incomplete: wanted.incomplete }
    }

    fn unknown_names<S: Spec>(&self, defined: &Defined<S>) -> Vec<Fault> {
        let mut faults = Vec::new();
        for reference in defined.spec.references() {
            let noun = reference.kind.noun();
            for name in reference.names {
                let key = (reference.kind, name.clone());
                if self.there.contains(&key) {
                    continue;
                }
                let reason = if self.going.contains(&key) {
                    format!(
                        "names the {noun} {name:?}, which is not in the files and would be deleted by --prune: define it, or take the name out"
                    )
                } else if self.incomplete {
                    continue;
                } else {
                    format!(
                        "names the {noun} {name:?}, which does not exist: define it in the files, or correct the name"
                    )
                };
                faults.push(defined.fault(reference.field, reason));
            }
        }
        faults
    }
}

#[cfg(test)]
mod unit {
    use super::*;
    use crate::definitions::document::Reader;

    fn wanted(text: &str) -> Wanted {
        let mut reader = Reader::default();
        reader.text("a.yaml", text);
        assert!(reader.faults.is_empty(), "{:?}", reader.faults);
        reader.wanted
    }

    /// What would be there after `text` had been applied to nothing.
    fn there(text: &str) -> Present {
        fn keep<S: Spec>(defined: Vec<Defined<S>>) -> BTreeMap<String, Kept<S>> {
            let kept = |defined: Defined<S>| {
                let id = defined.spec.id();
                (id.clone(), Kept { spec: defined.spec, handle: id, version: 1, aside: 0 })
            };
            defined.into_iter().map(kept).collect()
        }
        let wanted = wanted(text);
        Present {
            apis: keep(wanted.apis),
            groups: keep(wanted.groups),
            scopes: keep(wanted.scopes),
            clients: keep(wanted.clients),
            users: keep(wanted.users),
            flows: keep(wanted.flows),
        }
    }

    fn told(plan: &Plan) -> Vec<String> {
        plan.faults.iter().map(Fault::to_string).collect()
    }

    const ORDERS: &str = "{apiVersion: keygate/v1, kind: Api, spec: {module: shop, id: orders, path: {exact: /o}, hosts: [a, b]}}\n---\n";

    fn group(spec: &str) -> String {
        format!("{{apiVersion: keygate/v1, kind: Group, spec: {{{spec}}}}}\n---\n")
    }

    fn client(spec: &str) -> String {
        format!("{{apiVersion: keygate/v1, kind: Client, spec: {{{spec}}}}}\n---\n")
    }

    #[test]
    fn what_is_as_wanted_needs_nothing_and_lists_have_no_order() {
        let present = there(&[ORDERS, &group("name: g, alias: G, apis: [shop/orders, shop/x]")].concat());
        let plan = plan(&wanted(&group("name: g, apis: [shop/x, shop/orders, shop/x]")), &present, false);
        // shop/x is not there: that is a fault of its own, not a difference.
        assert_eq!(plan.groups, []);
        let asked = super::plan(&wanted(&group("name: g, alias: G")), &present, false);
        assert_eq!((asked.unchanged, asked.groups.len(), told(&asked).len()), (1, 0, 0));
    }

    #[test]
    fn only_the_fields_that_differ_are_to_change() {
        let present = there(&group("name: g, alias: G, description: d, security_level: B"));
        let plan = plan(&wanted(&group("name: g, alias: G, description: new")), &present, false);
        let changes = GroupSpec { description: Some("new".into()), ..GroupSpec::default() };
        assert_eq!(plan.groups, [(0, Step::Update(changes))]);
    }

    #[test]
    fn an_empty_text_is_a_value_and_a_missing_one_is_none() {
        let present = there(&group("name: g, alias: G, description: d"));
        for (text, steps) in [("name: g", 0), ("name: g, description: ''", 1), ("name: g, description: d", 0)]
        {
            assert_eq!(plan(&wanted(&group(text)), &present, false).groups.len(), steps, "{text}");
        }
        let present = there(&client("id: c, name: c, display_name: C, note: n, application_number: '1'"));
        for (text, steps) in
            [("id: c", 0), ("id: c, application_number: null", 1), ("id: c, start_date: null", 1)]
        {
            assert_eq!(plan(&wanted(&client(text)), &present, false).clients.len(), steps, "{text}");
        }
    }

    #[test]
    fn names_that_nothing_has_are_refused_in_their_line() {
        let text = "apiVersion: keygate/v1\nkind: Client\nspec:\n  id: c\n  name: c\n  display_name: C\n  note: n\n  groups: [known, unknown]\n";
        let present = there(&group("name: known"));
        let plan = plan(&wanted(text), &present, false);
        let expected = "a.yaml:8: spec.groups names the group \"unknown\", which does not exist: define it in the files, or correct the name";
        assert_eq!((told(&plan), plan.clients.len()), (vec![expected.to_owned()], 0));
        // In the same files it is as good.
        let both = [text, "---\n", &group("name: unknown")].concat();
        let plan = super::plan(&wanted(&both), &present, false);
        assert_eq!((told(&plan), plan.clients.len(), plan.groups.len()), (vec![], 1, 1));
    }

    #[test]
    fn a_new_one_needs_its_required_fields() {
        let plan = plan(&wanted(&client("id: c, note: n")), &Present::default(), false);
        let all = told(&plan);
        assert_eq!(all.len(), 2, "{all:?}");
        assert!(all[0].contains("spec.name is missing: client c does not exist yet"), "{all:?}");
        assert!(all[1].contains("spec.display_name is missing"), "{all:?}");
    }

    #[test]
    fn pruning_touches_named_kinds_alone_and_neither_clients_nor_flows() {
        let flow = "{apiVersion: keygate/v1, kind: ApprovalFlow, spec: {type: KA, levels: [[admin]]}}\n---\n";
        let other_flow = flow.replace("KA", "KU");
        let everything = [
            ORDERS,
            &group("name: g, apis: [shop/orders]"),
            &group("name: h"),
            &client("id: c, name: c, display_name: C, note: n"),
            &client("id: d, name: d, display_name: D, note: n"),
            flow,
            &other_flow,
        ]
        .concat();
        let present = there(&everything);
        let deletions = |text: &str| {
            let plan = plan(&wanted(text), &present, true);
            assert_eq!(told(&plan), Vec::<String>::new());
            let names = |list: Vec<(Kind, String)>| list.into_iter().map(|(_, id)| id).collect::<Vec<_>>();
            (names(plan.deletions), names(plan.spared))
        };
        let (none, own) = (Vec::<String>::new(), |id: &str| vec![id.to_owned()]);
        assert_eq!(deletions(&everything), (none.clone(), none.clone()));
        assert_eq!(deletions(&group("name: g")), (own("h"), none.clone()));
        assert_eq!(deletions(&client("id: c")), (none.clone(), own("d")));
        assert_eq!(deletions(flow), (none.clone(), own("KU")));
        let text = [ORDERS, &client("id: c, groups: [h]")].concat();
        assert_eq!(deletions(&text), (none, own("d")));
        // Without the word nothing goes.
        assert_eq!(plan(&wanted(&group("name: g")), &present, false).deletions, []);
    }

    #[test]
    fn what_pruning_would_delete_cannot_be_named() {
        let present = there(&[&group("name: g"), &group("name: h")].map(|s| s.as_str()).concat());
        let text =
            [group("name: g"), client("id: c, name: c, display_name: C, note: n, groups: [h]")].concat();
        let plan = plan(&wanted(&text), &present, true);
        assert!(told(&plan)[0].contains("would be deleted by --prune"), "{:?}", told(&plan));
    }
}
