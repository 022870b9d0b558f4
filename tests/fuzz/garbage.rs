//! Garbage that is nearly right: what was written properly, changed in a few places. The same seed gives the same garbage.

use crate::chance::Chance;

/// Numbers at which readers go wrong.
const EDGES: [&str; 14] = [
    "0",
    "-1",
    "1",
    "255",
    "65535",
    "65536",
    "2147483648",
    "4294967295",
    "4294967296",
    "18446744073709551615",
    "99999999999999999999999999",
    "1e309",
    "0x",
    "",
];

/// One of the samples, changed in up to six places. `words` are what the reader looks for.
pub fn garbage(chance: &mut Chance, samples: &[Vec<u8>], words: &[&str], most: usize) -> Vec<u8> {
    let mut bytes = samples[below(chance, samples.len())].clone();
    // Some stay as they are: a reader that refuses everything would be found.
    if !chance.one_in(16) {
        for _ in 0..chance.between(1, 6) {
            change(chance, &mut bytes, samples, words);
        }
    }
    bytes.truncate(most);
    bytes
}

fn change(chance: &mut Chance, bytes: &mut Vec<u8>, samples: &[Vec<u8>], words: &[&str]) {
    let at = below(chance, bytes.len() + 1);
    let end = (at + below(chance, 40)).min(bytes.len());
    match below(chance, 9) {
        0 if at < bytes.len() => bytes[at] ^= 1 << below(chance, 8),
        1 if at < bytes.len() => bytes[at] = chance.word() as u8,
        2 => drop(bytes.drain(at..end)),
        3 => {
            let copy = bytes[at..end].to_vec();
            let again = chance.between(1, 8) as usize;
            bytes.splice(at..at, copy.repeat(again));
        }
        4 => {
            let word = chance.pick(words);
            bytes.splice(at..at, word.bytes());
        }
        5 => {
            // A number's place taken by one at an edge.
            let digits = bytes[at..].iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
            let edge = chance.pick(&EDGES);
            bytes.splice(at..at + digits, edge.bytes());
        }
        6 => bytes.truncate(at),
        7 => {
            let other = &samples[below(chance, samples.len())];
            let from = below(chance, other.len() + 1);
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
        _ => {
            // Four bytes as a length would be.
            let number = chance.pick(&[0, 1, 0xff, 0x8000_0000u32, u32::MAX]).to_le_bytes();
            let end = (at + 4).min(bytes.len());
            bytes.splice(at..end, number);
        }
    }
}

/// From 0 to below `end`; 0 if there is nothing below it.
fn below(chance: &mut Chance, end: usize) -> usize {
    if end == 0 { 0 } else { chance.below(end as u64) as usize }
}
