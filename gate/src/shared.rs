//! What the workers of one process share: keys, values, and a compare-and-swap. The filter
//! implements it with Envoy's shared data, the simulation with a map.

use alloc::vec::Vec;

/// The number of one write of one value; another write gives another number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cas(pub u32);

/// Somebody else wrote in between: read again, decide again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CasMismatch;

/// Values shared by the workers of one process. They live as long as the process and cannot be
/// removed; an **empty value counts as absent** to everything in this crate.
pub trait Shared {
    /// The value and its number, or nothing where there is none.
    fn get(&mut self, key: &[u8]) -> Option<(Vec<u8>, Cas)>;

    /// Writes over the value that was read with `cas`, and over no other.
    fn set(&mut self, key: &[u8], value: &[u8], cas: Cas) -> Result<(), CasMismatch>;

    /// Writes where there is nothing yet, and fails where there is something.
    ///
    /// Envoy has no such call: a write with number 0 is unconditional and loses updates, a write
    /// with another number *inserts* where the key is absent and must match where it is not. So
    /// the filter writes with a number that cannot match ([`CREATE`]).
    fn create(&mut self, key: &[u8], value: &[u8]) -> Result<(), CasMismatch>;
}

/// A number that matches no write: Envoy counts all writes of a process up from 1.
pub const CREATE: Cas = Cas(u32::MAX);

/// How often [`update`] tries before it gives up. Two workers at full speed on one key collide
/// in 2 % of their writes; 64 collisions in a row mean that something else is wrong.
pub const CAS_ATTEMPTS: usize = 64;

/// What [`update`] shall do with the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Nothing changed.
    Keep,
    /// Write this.
    Put(Vec<u8>),
}

/// Reads, lets `change` decide, and writes, until nobody wrote in between. `change` may run
/// more than once and must draw everything from its arguments. `None`: [`CAS_ATTEMPTS`] were
/// not enough, and nothing was written.
pub fn update<S: Shared + ?Sized, T>(
    shared: &mut S,
    key: &[u8],
    mut change: impl FnMut(Option<&[u8]>) -> (Write, T),
) -> Option<T> {
    let mut result = None;
    let written = write_until_alone(shared, key, &mut |value| {
        let (write, changed) = change(value);
        result = Some(changed);
        write
    });
    if written { result } else { None }
}

/// One loop for all: [`update`] is compiled for each of its many callers.
fn write_until_alone<S: Shared + ?Sized>(
    shared: &mut S,
    key: &[u8],
    change: &mut dyn FnMut(Option<&[u8]>) -> Write,
) -> bool {
    for _ in 0..CAS_ATTEMPTS {
        let found = shared.get(key);
        let value = found.as_ref().map(|(value, _)| value.as_slice()).filter(|value| !value.is_empty());
        let written = match (change(value), found) {
            (Write::Keep, _) => Ok(()),
            (Write::Put(value), Some((_, cas))) => shared.set(key, &value, cas),
            (Write::Put(value), None) => shared.create(key, &value),
        };
        if written.is_ok() {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    /// One value; the first `mismatches` writes fail as if another worker had added one.
    struct Contended {
        value: Option<(Vec<u8>, Cas)>,
        mismatches: usize,
    }

    impl Contended {
        fn write(&mut self, value: &[u8], expected: Option<Cas>) -> Result<(), CasMismatch> {
            if self.mismatches > 0 {
                self.mismatches -= 1;
                let (old, cas) = self.value.clone().unwrap_or((vec![0], Cas(1)));
                self.value = Some((vec![old[0] + 1], Cas(cas.0 + 1)));
            }
            if self.value.as_ref().map(|(_, cas)| *cas) != expected {
                return Err(CasMismatch);
            }
            self.value = Some((value.to_vec(), Cas(expected.map_or(1, |cas| cas.0 + 1))));
            Ok(())
        }
    }

    impl Shared for Contended {
        fn get(&mut self, _: &[u8]) -> Option<(Vec<u8>, Cas)> {
            self.value.clone()
        }
        fn set(&mut self, _: &[u8], value: &[u8], cas: Cas) -> Result<(), CasMismatch> {
            self.write(value, Some(cas))
        }
        fn create(&mut self, _: &[u8], value: &[u8]) -> Result<(), CasMismatch> {
            self.write(value, None)
        }
    }

    fn add_one(value: Option<&[u8]>) -> (Write, u8) {
        let next = value.map_or(0, |value| value[0]) + 1;
        (Write::Put(vec![next]), next)
    }

    #[test]
    fn no_update_is_lost_under_contention() {
        for mismatches in [0, 1, 5, CAS_ATTEMPTS - 1] {
            let mut shared = Contended { value: None, mismatches };
            assert_eq!(update(&mut shared, b"k", add_one), Some(mismatches as u8 + 1));
        }
    }

    #[test]
    fn endless_contention_is_given_up_and_writes_nothing() {
        let mut shared = Contended { value: None, mismatches: CAS_ATTEMPTS };
        assert_eq!(update(&mut shared, b"k", add_one), None);
        assert_eq!(shared.value.map(|(value, _)| value), Some(vec![CAS_ATTEMPTS as u8]));
    }

    #[test]
    fn an_empty_value_counts_as_absent_and_is_written_over() {
        let mut shared = Contended { value: Some((vec![], Cas(7))), mismatches: 0 };
        assert_eq!(update(&mut shared, b"k", add_one), Some(1));
        assert_eq!(shared.value.map(|(_, cas)| cas), Some(Cas(8)));
    }
}
