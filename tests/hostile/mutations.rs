//! Mutations of seeds, the same ones every time.

/// Endless.
pub(crate) struct Mutations<'s> {
    seeds: &'s [Vec<u8>],
    state: u64,
}

/// Numbers that lengths, counts and flags are tried with.
const NUMBERS: [i32; 14] =
    [0, 1, -1, 4, 5, 15, 16, 0x7f, 0x1_0000, 48_000_000, 48_000_001, i32::MAX, i32::MIN, 0x1fff_ffff];

/// What means something to one reader or another.
const WORDS: [&[u8]; 24] = [
    b"saslStart\0",
    b"hello\0",
    b"$db\0",
    b"speculativeAuthenticate\0",
    b"documents\0",
    b"\xdd\x07\0\0",
    b"\xdc\x07\0\0",
    b"\xd4\x07\0\0",
    b"\x05\0\0\0\0",
    b"\x03a\0\x05\0\0\0\0",
    b"\n",
    b"\r\n",
    b"\x1b[2J",
    b"\"",
    b"{",
    b"}",
    b"\\u0000",
    b"\xff\xfe",
    b"\xe2\x80\xae",
    b"%00",
    b"[[log]]",
    b"{\"$numberLong\":\"1\"}",
    b"mtpb",
    b",",
];

const LEN_MAX: usize = 1 << 16;

impl<'s> Mutations<'s> {
    pub(crate) fn new(seeds: &'s [Vec<u8>]) -> Self {
        Self { seeds, state: 0x9e37_79b9_7f4a_7c15 }
    }

    /// Below `end`, which is not 0 (xorshift64*).
    fn below(&mut self, end: usize) -> usize {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        (self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len() + 1);
        let len = 1 + self.below(16);
        let end = bytes.len().min(at + len);
        match self.below(9) {
            0 | 1 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            2 if at < bytes.len() => bytes[at] = self.below(256) as u8,
            3 | 4 if at + 4 <= bytes.len() => {
                let number = NUMBERS[self.below(NUMBERS.len())];
                bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
            }
            5 => drop(bytes.drain(at..end)),
            6 => {
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            7 => {
                let seeds = self.seeds;
                let other = &seeds[self.below(seeds.len())];
                let from = self.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            _ => {
                let word = WORDS[self.below(WORDS.len())];
                bytes.splice(at..at, word.iter().copied());
            }
        }
    }
}

impl Iterator for Mutations<'_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let seed = self.below(self.seeds.len());
        let mut bytes = self.seeds[seed].clone();
        for _ in 0..=self.below(4) {
            self.mutate(&mut bytes);
        }
        bytes.truncate(LEN_MAX);
        Some(bytes)
    }
}
