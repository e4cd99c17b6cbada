//! Whether levels find persons, each one of their own: a bipartite matching.

use std::collections::{BTreeMap, BTreeSet};

/// Gives every level one of its candidates, nobody two levels. Err: the levels that share too few
/// persons, the smallest number of them that this search comes upon; one level alone has nobody.
pub fn assign<'a>(
    candidates: &BTreeMap<u32, BTreeSet<&'a str>>,
) -> Result<BTreeMap<u32, &'a str>, BTreeSet<u32>> {
    let mut holders: BTreeMap<&'a str, u32> = BTreeMap::new();
    // A level with fewer candidates first, so that one with none is named alone.
    let mut levels: Vec<u32> = candidates.keys().copied().collect();
    levels.sort_by_key(|level| candidates.get(level).map_or(0, BTreeSet::len));
    for level in levels {
        let mut visited = BTreeSet::from([level]);
        if !place(level, candidates, &mut holders, &mut BTreeSet::new(), &mut visited) {
            // All that is reachable from here is taken by the other levels that were visited: those
            // have together one person fewer than they are (Hall).
            return Err(visited);
        }
    }
    Ok(holders.into_iter().map(|(person, level)| (level, person)).collect())
}

/// Finds `level` a person, moving those before it to others where they can: at most as deep as
/// there are levels.
fn place<'a>(
    level: u32,
    candidates: &BTreeMap<u32, BTreeSet<&'a str>>,
    holders: &mut BTreeMap<&'a str, u32>,
    tried: &mut BTreeSet<&'a str>,
    visited: &mut BTreeSet<u32>,
) -> bool {
    for person in candidates.get(&level).into_iter().flatten() {
        if !tried.insert(person) {
            continue;
        }
        let free = match holders.get(person).copied() {
            None => true,
            Some(holding) => {
                visited.insert(holding);
                place(holding, candidates, holders, tried, visited)
            }
        };
        if free {
            holders.insert(person, level);
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table<'a>(levels: &[&[&'a str]]) -> BTreeMap<u32, BTreeSet<&'a str>> {
        (1..).zip(levels).map(|(level, people)| (level, people.iter().copied().collect())).collect()
    }

    #[test]
    fn levels_find_persons_of_their_own_or_those_that_share_too_few_are_named() {
        type Row = (&'static str, &'static [&'static [&'static str]], &'static [u32]);
        let rows: [Row; 11] = [
            ("one level, one person", &[&["a"]], &[]),
            ("one level, nobody", &[&[]], &[1]),
            ("the second has nobody", &[&["a"], &[]], &[2]),
            ("one person for two levels", &[&["a"], &["a"]], &[1, 2]),
            ("two for two", &[&["a", "b"], &["a"]], &[]),
            ("the first must give way", &[&["a", "b"], &["b", "a"]], &[]),
            ("a chain is moved along", &[&["a", "b"], &["b", "c"], &["a"], &["c", "d"]], &[]),
            ("each has one, three have two", &[&["a", "b"], &["a", "b"], &["a", "b"]], &[1, 2, 3]),
            ("the others do not matter", &[&["x"], &["a"], &["y"], &["a"]], &[2, 4]),
            ("a free one elsewhere does not help", &[&["a"], &["a"], &["b", "c"]], &[1, 2]),
            ("no level", &[], &[]),
        ];
        for (what, levels, short) in rows {
            let found = assign(&table(levels));
            let named = found.as_ref().err().cloned().unwrap_or_default();
            assert_eq!(named, short.iter().copied().collect(), "{what}: {found:?}");
        }
    }

    /// Tries everything: what a person would do with paper.
    fn exists(levels: &[Vec<u8>], taken: &mut Vec<u8>) -> bool {
        let Some((first, rest)) = levels.split_first() else { return true };
        first.iter().any(|person| {
            if taken.contains(person) {
                return false;
            }
            taken.push(*person);
            let found = exists(rest, taken);
            taken.pop();
            found
        })
    }

    proptest! {
        #[test]
        fn an_assignment_is_found_exactly_where_there_is_one(
            levels in prop::collection::vec(prop::collection::vec(0u8..6, 0..5), 0..7)
        ) {
            let names = ["a", "b", "c", "d", "e", "f"];
            let table: BTreeMap<u32, BTreeSet<&str>> = (1..)
                .zip(&levels)
                .map(|(level, people)| (level, people.iter().map(|one| names[usize::from(*one)]).collect()))
                .collect();
            match assign(&table) {
                Ok(assigned) => {
                    prop_assert!(exists(&levels, &mut Vec::new()));
                    prop_assert_eq!(assigned.len(), levels.len());
                    for (level, person) in &assigned {
                        prop_assert!(table[level].contains(person));
                    }
                    prop_assert_eq!(assigned.values().collect::<BTreeSet<_>>().len(), assigned.len());
                }
                Err(short) => {
                    prop_assert!(!exists(&levels, &mut Vec::new()));
                    let people: BTreeSet<_> = short.iter().flat_map(|level| &table[level]).collect();
                    prop_assert!(people.len() < short.len(), "{short:?} have {people:?}");
                }
            }
        }
    }
}
