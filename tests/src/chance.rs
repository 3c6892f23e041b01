//! Damage to messages that is the same in every run.

/// Numbers from a seed that is not zero (Marsaglia, "Xorshift RNGs", 2003).
#[derive(Debug)]
pub struct Chance(u64);

impl Chance {
    /// The same seed gives the same numbers.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        assert!(seed != 0, "the seed must not be zero");
        Self(seed)
    }

    /// A number below `end`, which must not be zero.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).expect("less than a number of this type")
    }

    /// The message with one to three bytes changed, put in, left out or repeated; new ones are of
    /// `alphabet`. Neither may be empty.
    pub fn mutate(&mut self, message: &[u8], alphabet: &[u8]) -> Vec<u8> {
        let mut mutated = message.to_vec();
        for _ in 0..=self.below(3) {
            let at = self.below(mutated.len());
            let old = mutated.remove(at);
            let new = *alphabet.get(self.below(alphabet.len())).expect("an alphabet");
            let put: &[u8] = match self.below(4) {
                0 => &[new],
                1 => &[new, old],
                2 => &[],
                _ => &[old, old],
            };
            drop(mutated.splice(at..at, put.iter().copied()));
        }
        mutated
    }
}
