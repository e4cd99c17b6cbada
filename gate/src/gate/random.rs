//! Random numbers of one VM, drawn from a seed that the host gave once.

use sha2::{Digest, Sha256};

/// A generator: SHA-256 of the seed and a counter. Seeded with 32 bytes that nobody can guess,
/// neither can what comes out.
pub struct Random {
    seed: [u8; 32],
    drawn: u64,
}

impl Random {
    /// Draws from `seed` from here on.
    pub fn new(seed: [u8; 32]) -> Self {
        Self { seed, drawn: 0 }
    }

    /// 32 random bytes.
    pub fn bytes(&mut self) -> [u8; 32] {
        self.drawn = self.drawn.wrapping_add(1);
        Sha256::new().chain_update(self.seed).chain_update(self.drawn.to_le_bytes()).finalize().into()
    }

    /// 63 random bits: the ledger keeps numbers in a signed BIGINT.
    pub fn number(&mut self) -> u64 {
        let mut bytes = [0; 8];
        bytes.iter_mut().zip(self.bytes()).for_each(|(to, from)| *to = from);
        u64::from_le_bytes(bytes) >> 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn a_seed_gives_one_sequence_and_another_seed_another() {
        let draw = |seed: u8| {
            let mut random = Random::new([seed; 32]);
            [random.number(), random.number(), random.number()]
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        let [a, b, c] = draw(1);
        assert!(a != b && b != c && a >> 63 == 0);
    }
}
