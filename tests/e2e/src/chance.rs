//! Chance that can be played again: numbers that follow from a seed. (SplitMix64.)

/// In [0, 1), the same for the same number: runs can be compared.
pub fn of(number: u64) -> f64 {
    (mixed(number) >> 11) as f64 / (1u64 << 53) as f64
}

/// Draws in the order of its seed.
#[derive(Clone, Debug)]
pub struct Chance {
    seed: u64,
    drawn: u64,
}

impl Chance {
    /// The draws of `seed`.
    pub fn of_seed(seed: u64) -> Self {
        Self { seed: mixed(seed), drawn: 0 }
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.drawn += 1;
        mixed(self.seed.wrapping_add(self.drawn)) % bound
    }
}

fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
