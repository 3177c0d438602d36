//! Mutations of inputs, the same for the same number.

/// Pieces that mean something to one or another of the targets.
const WORDS: [&[u8]; 30] = [
    b"\n",
    b"\n---\n",
    b"- ",
    b": ",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"'",
    b"&a ",
    b"*a",
    b"|\n",
    b"!!binary ",
    b"null",
    b"~",
    b"1e400",
    b"-0",
    b"0x10",
    b"\\u0000",
    b"\xef\xbb\xbf",
    b"\xe2\x80\xa8",
    b"\xc2\x9b",
    b"items:\n",
    b"podCIDRs: ",
    b"kind: Node\n",
    b"10.244.2.0/24",
    b"fd00::/64",
    b"0.0.0.0/0",
    b"10.0.0.2",
];

const LONGEST: usize = 64 << 10;

pub(super) struct Mutator {
    state: u64,
}

impl Mutator {
    pub(super) fn new(number: u64) -> Self {
        Self {
            state: number.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        }
    }

    /// A seed with one to eight changes.
    pub(super) fn mutate(&mut self, seeds: &[&[u8]]) -> Vec<u8> {
        let mut input = seeds[self.below(seeds.len())].to_vec();
        for _ in 0..=self.below(8) {
            self.change(&mut input, seeds);
            input.truncate(LONGEST);
        }
        input
    }

    fn change(&mut self, input: &mut Vec<u8>, seeds: &[&[u8]]) {
        let at = self.below(input.len() + 1);
        match self.below(9) {
            0 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << self.below(8);
                }
            }
            1 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte = [0, 1, 2, 16, 32, 33, 64, 127, 128, 129, 254, 255][self.below(12)];
                }
            }
            2 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte = self.next() as u8;
                }
            }
            3 => input.truncate(at),
            4 => drop(input.drain(at..input.len().min(at + 1 + self.below(32)))),
            5 => {
                let word = WORDS[self.below(WORDS.len())];
                input.splice(at..at, word.iter().copied());
            }
            6 => {
                let piece = input[at..input.len().min(at + 1 + self.below(256))].to_vec();
                let to = self.below(input.len() + 1);
                input.splice(to..to, piece);
            }
            7 => {
                let other = seeds[self.below(seeds.len())];
                let from = self.below(other.len() + 1);
                let length = self.below(other.len() - from + 1);
                input.splice(at..at, other[from..from + length].iter().copied());
            }
            _ => {
                let bytes = self.next().to_ne_bytes();
                input.splice(at..at, bytes);
            }
        }
    }

    /// From 0 to `bound` - 1.
    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators").
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
