//! Who may sign what: tables of people, forms and words.

use std::collections::BTreeSet;

use gate::time::UnixMillis;

use super::*;
use crate::approvals::rounds::{Author, Round, Signature};
use crate::approvals::{Flow, FormKind};

const ROLES: [&str; 4] = ["one", "two", "three", "chief"];

/// `rita:one` is a reviewer with that role, `ann:chief!` manages operators too, `sam:-one` has the
/// role without the permission.
fn person(text: &str) -> Person {
    let (name, roles) = text.split_once(':').unwrap_or((text, ""));
    let held = roles.trim_matches(|c| c == '!' || c == '-');
    Person {
        id: name.to_owned(),
        name: name.to_owned(),
        email: Some(format!("{name}@example.com")),
        roles: held.split('+').filter(|role| !role.is_empty()).map(str::to_owned).collect(),
        reviews: !held.is_empty() && !roles.starts_with('-'),
        manages: roles.ends_with('!'),
    }
}

fn flow(levels: &[&str]) -> Flow {
    let levels = levels.iter().map(|roles| roles.split('+').map(str::to_owned).collect()).collect();
    Flow::parse(levels, &ROLES).expect("a flow")
}

fn round(level: u32, levels: u32) -> Round {
    Round {
        form: "ap_1".into(),
        kind: FormKind::Apply,
        number: "KA-20260115-0001".into(),
        author: Author::operator("anna"),
        round: 1,
        level,
        levels,
        since: UnixMillis(0),
        reminded_at: None,
        escalated_at: None,
        reported_at: None,
        signatures: Vec::new(),
    }
}

/// `rita@1`, `ben for rita@1`, `rosa!@1` by escalation.
fn signature(text: &str) -> Signature {
    let (who, level) = text.split_once('@').expect("who@level");
    let (signer, on_behalf_of) = match who.split_once(" for ") {
        Some((delegate, principal)) => (delegate, Some(principal.to_owned())),
        None => (who, None),
    };
    Signature {
        level: level.parse().expect("a number"),
        signer: signer.trim_end_matches('!').to_owned(),
        on_behalf_of,
        escalated: signer.ends_with('!'),
    }
}

fn listed(text: &str) -> impl Iterator<Item = &str> {
    text.split(", ").filter(|part| !part.is_empty())
}

/// One situation: who there is, who stands in for whom, what was signed.
struct Case {
    circle: Circle,
    flow: Flow,
    round: Round,
}

impl Case {
    fn new(people: &str, stand_ins: &str, levels: &[&str], signed: &str, rules: FourEyes) -> Self {
        let stand_in = |text: &str| {
            let (delegate, principal) = text.split_once(" for ").expect("b for a");
            StandIn { principal: principal.to_owned(), delegate: delegate.to_owned() }
        };
        let people = listed(people).map(person).collect();
        let stand_ins = listed(stand_ins).map(stand_in).collect();
        let signatures: Vec<_> = listed(signed).map(signature).collect();
        let flow = flow(levels);
        let level = u32::try_from(signatures.len()).expect("few") + 1;
        let round = Round { signatures, ..round(level, flow.count()) };
        Self { circle: Circle::new(people, stand_ins, rules), flow, round }
    }

    fn escalated(mut self) -> Self {
        self.round.escalated_at = Some(UnixMillis(1));
        self
    }

    fn by(mut self, author: Author) -> Self {
        self.round.author = author;
        self
    }

    fn word(&self, who: &str) -> String {
        let told = |right: &Right| {
            let grounds = if right.grounds == Grounds::Escalation { " by escalation" } else { "" };
            let behalf = right.on_behalf_of.as_ref().map(|one| format!(" for {one}")).unwrap_or_default();
            format!("signs{behalf}{grounds}")
        };
        match self.circle.word(&self.flow, &self.round, who) {
            Word::Nothing => "nothing".into(),
            Word::Barred(Bar::OwnForm) => "own form".into(),
            Word::Barred(Bar::Signed { level }) => format!("has signed {level}"),
            Word::NoApproval(right, shortage) => {
                format!("{}, but is needed for {}", told(&right), shortage.level())
            }
            Word::Full(right) => told(&right),
        }
    }

    fn short(&self) -> String {
        match self.circle.shortage(&self.flow, &self.round) {
            None => String::new(),
            Some(Shortage::Nobody { level, .. }) => format!("{level}"),
            Some(Shortage::TooFew { levels, people }) => {
                let levels: Vec<_> = levels.iter().map(u32::to_string).collect();
                format!("{}: {}", levels.join(" "), people.join(" "))
            }
        }
    }
}

const STRICT: FourEyes = FourEyes { own_forms: false, two_levels: false };
const OWN: FourEyes = FourEyes { own_forms: true, two_levels: false };
const TWO: FourEyes = FourEyes { own_forms: false, two_levels: true };
const BOTH: FourEyes = FourEyes { own_forms: true, two_levels: true };

#[test]
fn nobody_signs_an_own_form_unless_the_setting_allows_it() {
    // Anna filed it.
    let people = "anna:one, rita:one, ben:, cleo:one";
    for (stand_ins, who, strict, allowed) in [
        ("", "rita", "signs", "signs"),
        ("", "anna", "own form", "signs"),
        ("", "ben", "nothing", "nothing"),
        ("", "nobody", "nothing", "nothing"),
        // Whoever signs for the applicant signs the applicant's own form.
        ("ben for anna", "ben", "own form", "signs for anna"),
        // The applicant signs it as somebody else's delegate no more than as oneself.
        ("anna for rita", "anna", "own form", "signs"),
        // Others are not kept from their own right by being somebody's delegate, or having one.
        ("rita for anna", "rita", "signs", "signs"),
        ("anna for rita", "rita", "signs", "signs"),
        // A delegate of two signs for the one who may.
        ("ben for anna, ben for rita", "ben", "signs for rita", "signs for anna"),
    ] {
        for (rules, expected) in [(STRICT, strict), (OWN, allowed), (TWO, strict), (BOTH, allowed)] {
            let case = Case::new(people, stand_ins, &["one"], "", rules);
            assert_eq!(case.word(who), expected, "{who} with {stand_ins:?} and {rules:?}");
        }
    }
}

#[test]
fn an_applicant_without_a_role_gets_none_by_a_delegation_of_an_own_form() {
    for (rules, expected) in [(STRICT, "own form"), (OWN, "signs for rita")] {
        let case = Case::new("anna:, rita:one, cleo:one", "anna for rita", &["one"], "", rules);
        assert_eq!(case.word("anna"), expected, "{rules:?}");
    }
}

#[test]
fn the_operator_of_a_visitors_address_is_that_visitor() {
    for (email, rules, expected) in [
        ("RITA@example.com", STRICT, "own form"),
        ("rita@example.com", OWN, "signs"),
        ("rita@example.org", STRICT, "signs"),
    ] {
        let author = Author { operator: None, emails: vec!["other@example.com".into(), email.into()] };
        let case = Case::new("rita:one", "", &["one"], "", rules).by(author);
        assert_eq!(case.word("rita"), expected, "{email} {rules:?}");
    }
    // A client is nobody's account, but for the operator who knows its password.
    let case = Case::new("rita:one", "", &["one"], "", STRICT).by(Author::default());
    assert_eq!(case.word("rita"), "signs");
    let case = Case::new("rita:one", "", &["one"], "", STRICT).by(Author::operator("rita"));
    assert_eq!(case.word("rita"), "own form");
}

#[test]
fn nobody_signs_two_levels_of_a_round_unless_the_setting_allows_it() {
    let people = "rita:one+two, ralph:two+one, ben:, cleo:two";
    for (stand_ins, signed, who, strict, allowed) in [
        ("", "rita@1", "rita", "has signed 1", "signs"),
        ("", "rita@1", "ralph", "signs", "signs"),
        ("", "ralph@1", "ralph", "has signed 1", "signs"),
        // It counts for the delegate and for the one on whose behalf.
        ("ben for rita", "ben for rita@1", "rita", "has signed 1", "signs"),
        ("ben for ralph", "ben for rita@1", "ben", "has signed 1", "signs for ralph"),
        ("ben for rita", "rita@1", "ben", "has signed 1", "signs for rita"),
        ("ben for rita, ben for cleo", "rita@1", "ben", "signs for cleo", "signs for cleo"),
        ("cleo for rita", "cleo for rita@1", "cleo", "has signed 1", "signs"),
        // Whoever signs by escalation signs one level, whatever the setting.
        ("", "rita!@1", "rita", "has signed 1", "has signed 1"),
    ] {
        for (rules, expected) in [(STRICT, strict), (TWO, allowed), (OWN, strict), (BOTH, allowed)] {
            let case = Case::new(people, stand_ins, &["one", "two"], signed, rules);
            assert_eq!(case.word(who), expected, "{who} after {signed:?} with {stand_ins:?} and {rules:?}");
        }
    }
}

#[test]
fn a_delegate_signs_what_the_other_may_and_cannot_pass_it_on() {
    let people = "rita:one, ralph:two, ben:, cleo:, sam:-one";
    for (stand_ins, who, expected) in [
        ("ben for rita", "ben", "signs for rita"),
        ("ben for rita", "rita", "signs"),
        ("ben for ralph", "ben", "nothing"),
        // No chains: what cleo is given is ben's own, which is nothing.
        ("ben for rita, cleo for ben", "cleo", "nothing"),
        ("ben for rita, cleo for ben", "ben", "signs for rita"),
        // Nobody passes on what the permission is missing for.
        ("ben for sam", "ben", "nothing"),
        ("", "sam", "nothing"),
        // One who is not active stands in for nobody, and nobody for such a one.
        ("gone for rita", "gone", "nothing"),
        ("ben for gone", "ben", "nothing"),
        // As oneself rather than for another.
        ("rita for ralph", "rita", "signs"),
    ] {
        let case = Case::new(people, stand_ins, &["one", "two"], "", STRICT);
        assert_eq!(case.word(who), expected, "{who} with {stand_ins:?}");
    }
}

#[test]
fn a_level_is_escalated_to_the_next_and_the_last_to_administrators() {
    let people = "rita:one, ralph:two, rosa:two, ann:chief!, olga:!, ben:";
    for (signed, who, before, after) in [
        ("", "ralph", "nothing", "signs by escalation"),
        ("", "rita", "signs", "signs"),
        ("", "ann", "nothing", "nothing"),
        ("", "ben", "nothing", "signs for ralph by escalation"),
        ("rita@1", "ann", "nothing", "signs by escalation"),
        ("rita@1", "olga", "nothing", "nothing"),
        ("rita@1", "rita", "nothing", "nothing"),
        ("rita@1", "ben", "signs for ralph", "signs for ralph"),
        ("ralph!@1", "ralph", "has signed 1", "has signed 1"),
        ("ralph!@1", "rosa", "signs", "signs"),
    ] {
        let case = || Case::new(people, "ben for ralph", &["one", "two"], signed, STRICT);
        assert_eq!(case().word(who), before, "{who} after {signed:?}");
        assert_eq!(case().escalated().word(who), after, "{who} after {signed:?}, escalated");
    }
}

#[test]
fn who_has_signed_another_level_does_not_sign_by_escalation() {
    // Ann administers and has signed level 1 by her role.
    for rules in [STRICT, TWO] {
        let case = Case::new("ann:one!, ralph:two", "", &["one", "two"], "ann@1", rules).escalated();
        assert_eq!(case.word("ann"), "has signed 1", "{rules:?}");
    }
}

#[test]
fn an_approval_that_would_leave_a_level_without_signer_waits_for_another_one() {
    for (people, stand_ins, who, strict, two) in [
        // Only ralph is left for level 2: rita signs level 1.
        ("rita:one, ralph:one+two", "", "ralph", "signs, but is needed for 2", "signs"),
        ("rita:one, ralph:one+two", "", "rita", "signs", "signs"),
        ("rita:one, ralph:one+two, rosa:two", "", "ralph", "signs", "signs"),
        // A delegate's signature uses up both.
        (
            "rita:one, ralph:two",
            "ralph for rita",
            "ralph",
            "signs for rita, but is needed for 2",
            "signs for rita",
        ),
        // Where nobody is left for level 2 anyway, it keeps nobody from signing.
        ("rita:one", "", "rita", "signs", "signs"),
    ] {
        for (rules, expected) in [(STRICT, strict), (TWO, two)] {
            let case = Case::new(people, stand_ins, &["one", "two"], "", rules);
            assert_eq!(case.word(who), expected, "{who} of {people:?} with {stand_ins:?} and {rules:?}");
        }
    }
}

#[test]
fn a_form_finds_signers_of_its_own_for_every_level_or_is_told_which_ones_do_not() {
    // Anna filed it.
    for (people, levels, strict, own, two) in [
        ("rita:one", &["one"][..], "", "", ""),
        ("", &["one"], "1", "1", "1"),
        ("sam:-one", &["one"], "1", "1", "1"),
        ("anna:one", &["one"], "1", "", "1"),
        ("anna:one, rita:one", &["one"], "", "", ""),
        ("rita:one", &["one", "two"], "2", "2", "2"),
        ("rita:one+two", &["one", "two"], "1 2: rita", "1 2: rita", ""),
        ("rita:one+two, anna:two", &["one", "two"], "1 2: rita", "", ""),
        ("rita:one+two, ralph:one", &["one", "two"], "", "", ""),
        (
            "rita:one+two+three, ralph:one+two+three",
            &["one", "two", "three"],
            "1 2 3: ralph rita",
            "1 2 3: ralph rita",
            "",
        ),
        ("rita:one, ralph:two+three", &["one", "two", "three"], "2 3: ralph", "2 3: ralph", ""),
        ("rita:one, ralph:one", &["one+two", "one"], "", "", ""),
    ] {
        for (rules, expected) in [(STRICT, strict), (OWN, own), (TWO, two)] {
            let case = Case::new(people, "", levels, "", rules);
            assert_eq!(case.short(), expected, "{people:?} for {levels:?} with {rules:?}");
        }
    }
}

#[test]
fn delegates_are_no_further_signers() {
    let case = Case::new("rita:one+two, ben:", "ben for rita", &["one", "two"], "", STRICT);
    assert_eq!(case.short(), "1 2: rita");
}

#[test]
fn only_the_levels_that_are_left_want_signers() {
    for (signed, expected) in [("rita@1", ""), ("ralph@1", "2"), ("ben for ralph@1", "2")] {
        let case =
            Case::new("rita:one, ralph:one+two, ben:", "ben for ralph", &["one", "two"], signed, STRICT);
        assert_eq!(case.short(), expected, "after {signed}");
    }
}

#[test]
fn an_escalation_asks_somebody_new_and_leaves_enough() {
    for (people, levels, signed, rules, expected) in [
        ("rita:one, ralph:two, rosa:two", &["one", "two"][..], "", STRICT, "ralph rosa"),
        // The only one of level 2 is needed there.
        ("rita:one, ralph:two", &["one", "two"], "", STRICT, "leaves 2"),
        ("rita:one, ralph:two", &["one", "two"], "", TWO, "leaves 2"),
        ("rita:one, ralph:two+one, rosa:two", &["one", "two"], "", STRICT, "rosa"),
        // Nobody new.
        ("rita:one, ralph:one", &["one", "one"], "", STRICT, "nobody"),
        ("rita:one, anna:two", &["one", "two"], "", STRICT, "nobody"),
        // The last level: administrators.
        ("rita:one, ann:chief!", &["one"], "", STRICT, "ann"),
        ("rita:one, olga:!", &["one"], "", STRICT, "nobody"),
        ("rita:one, anna:chief!", &["one"], "", STRICT, "nobody"),
        ("rita:one, anna:chief!", &["one"], "", OWN, "anna"),
        ("ann:one!, ralph:two", &["one", "two"], "ann@1", STRICT, "nobody"),
        // A level in whose place nobody signs now is what escalation is for.
        ("ralph:two, rosa:two", &["one", "two"], "", STRICT, "ralph rosa"),
        ("ralph:two", &["one", "two"], "", STRICT, "leaves 2"),
    ] {
        let case = Case::new(people, "", levels, signed, rules);
        let found = match case.circle.escalate(&case.flow, &case.round) {
            Ok(signers) => signers.into_iter().map(|signer| signer.person.name).collect::<Vec<_>>().join(" "),
            Err(NoEscalation::NobodyNew { .. }) => "nobody".into(),
            Err(NoEscalation::Leaves { shortage, .. }) => format!("leaves {}", shortage.level()),
        };
        assert_eq!(found, expected, "{people:?} for {levels:?} after {signed:?} with {rules:?}");
    }
}

#[test]
fn with_an_escalation_a_level_finds_a_signer_again() {
    for (people, rules, before, after) in [
        ("ralph:two, rosa:two", STRICT, "1", ""),
        ("ralph:two", STRICT, "1", "1 2: ralph"),
        ("ralph:two, rosa:two", TWO, "1", ""),
        ("ralph:two", TWO, "1", "2"),
    ] {
        let case = || Case::new(people, "", &["one", "two"], "", rules);
        assert_eq!(case().short(), before, "{people:?} {rules:?}");
        assert_eq!(case().escalated().short(), after, "{people:?} {rules:?}, escalated");
    }
}

#[test]
fn a_shortage_is_told_in_words() {
    let told = |people: &str, levels: &[&str]| {
        let case = Case::new(people, "", levels, "", STRICT);
        case.circle.shortage(&case.flow, &case.round).expect("a shortage").to_string()
    };
    assert_eq!(
        told("rita:one", &["one", "two+three"]),
        "level 2 has nobody who could sign: no active operator with the role three or two and applications.review is \
         left for it"
    );
    assert_eq!(
        told("rita:one+two", &["one", "two"]),
        "levels 1, 2 have only rita to sign them, and nobody signs two levels of a form"
    );
}

#[test]
fn signers_are_all_who_have_a_word() {
    let case = Case::new(
        "rita:one, ralph:one+two, ben:, anna:one, cleo:",
        "ben for rita",
        &["one", "two"],
        "",
        STRICT,
    );
    let signers = case.circle.signers(&case.flow, &case.round);
    let names: BTreeSet<_> = signers.iter().map(|signer| signer.person.name.as_str()).collect();
    assert_eq!(names, BTreeSet::from(["ben", "ralph", "rita"]));
}
