//! The records of an encrypted data connection: AES-256-GCM, with a key for each direction that follows from the connection's session key.
//!
//! ```text
//!   frames:     │header│payload │header│payload │ …       one stream of bytes, cut into records wherever one is full
//!                 ╲______________╲__________
//!   a record:   │ len │ not len │ ciphertext │ tag │      the tag vouches for the length, the bytes and, by its nonce, the record's place
//!                 2 B     2 B       len B      16 B
//! ```
//!
//! The nonce is the record's number under its key, which nobody sends: a record that is changed, left out, repeated or moved fails, and
//! nothing of it is shown to anybody. The length can't be known to be right before the record has come; its complement tells a flipped bit
//! from the wait for more. After [`RECORDS_OF_A_KEY`] records both ends go on with the next key, which follows from the last one.

use super::peer::Nonsense;
use crate::boot::wire::{DataKeys, Secret, derive};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

/// Bytes of a record that can be read: with 16 KiB a record fits in a first-level cache, and its tag costs a thousandth.
pub(super) const MOST: usize = 16 << 10;

/// Bytes before and behind those.
const LENGTH: usize = 4;
const TAG: usize = 16;
const AROUND: usize = LENGTH + TAG;

/// Records that are encrypted with one key: at most 16 GiB. GCM's bound on what an attacker learns from seeing so much is below 2^-60 (RFC
/// 8446 stops after 2^24.5 records).
const RECORDS_OF_A_KEY: u64 = 1 << 20;

/// Ciphertext that waits for the kernel at most: so much goes with one system call.
const OUT: usize = 8 * (MOST + AROUND);

/// Ciphertext that is taken in at a time.
const INTO: usize = 8 * (MOST + AROUND);

/// A key with the number of its next record.
struct Way {
    key: LessSafeKey,
    /// What the key was made of, and the next one will be.
    seed: Secret,
    next: u64,
    last: u64,
}

fn key_of(seed: &Secret) -> LessSafeKey {
    let bytes = derive(seed, &[b"ringtree record key"]);
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &bytes).expect("a key of 32 bytes"))
}

impl Way {
    fn new(seed: Secret, records: u64) -> Way {
        Way { key: key_of(&seed), seed, next: 0, last: records }
    }

    /// The nonce of the next record, which is used once.
    fn nonce(&mut self) -> Nonce {
        if self.next == self.last {
            self.seed = derive(&self.seed, &[b"ringtree next key"]);
            self.key = key_of(&self.seed);
            self.next = 0;
        }
        let mut bytes = [0; 12];
        bytes[4..].copy_from_slice(&self.next.to_be_bytes());
        self.next += 1;
        Nonce::assume_unique_for_key(bytes)
    }
}

/// A record's first bytes.
fn length_field(len: usize) -> [u8; LENGTH] {
    let len = len as u16;
    let ([a, b], [c, d]) = (len.to_le_bytes(), (!len).to_le_bytes());
    [a, b, c, d]
}

/// What goes out.
pub(super) struct Outgoing {
    way: Way,
    /// Whole records, and the one that is being filled.
    bytes: Vec<u8>,
    sent: usize,
    /// Where the record begins that is being filled.
    open: Option<usize>,
}

impl Outgoing {
    /// Encrypts as many of these bytes as there is room for; how many that were.
    ///
    /// # Safety
    /// `at` is valid for reads of `len` bytes.
    pub(super) unsafe fn put(&mut self, at: *const u8, len: usize) -> usize {
        let mut done = 0;
        while done < len {
            let begin = match self.open {
                Some(begin) => begin,
                None if self.bytes.len() + AROUND + MOST > OUT => break,
                None => {
                    self.open = Some(self.bytes.len());
                    self.bytes.extend_from_slice(&[0; LENGTH]);
                    self.bytes.len() - LENGTH
                }
            };
            let count = (len - done).min(begin + LENGTH + MOST - self.bytes.len());
            self.bytes.reserve(count);
            let end = self.bytes.len();
            // SAFETY: the caller vouches for what is read; there is room for as much behind the end, all of which is written.
            unsafe {
                std::ptr::copy_nonoverlapping(at.add(done), self.bytes.as_mut_ptr().add(end), count);
                self.bytes.set_len(end + count);
            }
            done += count;
            if self.bytes.len() == begin + LENGTH + MOST {
                self.close();
            }
        }
        done
    }

    /// Ends the record that is being filled: it can be sent.
    pub(super) fn close(&mut self) {
        let Some(begin) = self.open.take() else { return };
        let field = length_field(self.bytes.len() - begin - LENGTH);
        self.bytes[begin..begin + LENGTH].copy_from_slice(&field);
        let (nonce, plain) = (self.way.nonce(), &mut self.bytes[begin + LENGTH..]);
        let sealed = self.way.key.seal_in_place_separate_tag(nonce, Aad::from(field), plain);
        self.bytes.extend_from_slice(sealed.expect("a record is shorter than GCM allows").as_ref());
    }

    /// What is to be sent.
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// Where what was put in last ends, among all that is to be sent.
    pub(super) fn end(&self) -> usize {
        self.bytes.len()
    }

    /// So much of the rest was sent. How much that is of all.
    pub(super) fn advance(&mut self, count: usize) -> usize {
        self.sent += count;
        let sent = self.sent;
        if sent == self.bytes.len() {
            self.bytes.clear();
            self.sent = 0;
        }
        sent
    }
}

/// What comes in.
pub(super) struct Incoming {
    way: Way,
    bytes: Box<[u8]>,
    from: usize,
    to: usize,
}

impl Incoming {
    /// Room for what comes next, never empty once [`Incoming::next`] has nothing.
    pub(super) fn room(&mut self) -> &mut [u8] {
        if self.from > 0 {
            self.bytes.copy_within(self.from..self.to, 0);
            (self.from, self.to) = (0, self.to - self.from);
        }
        &mut self.bytes[self.to..]
    }

    /// So much has come into the room.
    pub(super) fn came(&mut self, count: usize) {
        self.to += count;
    }

    /// What the next record says, if it has come as it was sent.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, Nonsense> {
        let here = &mut self.bytes[self.from..self.to];
        let Some((field, behind)) = here.split_first_chunk_mut::<LENGTH>() else { return Ok(None) };
        let len = usize::from(u16::from_le_bytes([field[0], field[1]]));
        if *field != length_field(len) || !(1..=MOST).contains(&len) {
            return Err(forged());
        }
        let Some(record) = behind.get_mut(..len + TAG) else { return Ok(None) };
        let nonce = self.way.nonce();
        match self.way.key.open_in_place(nonce, Aad::from(*field), record) {
            Ok(plain) => {
                self.from += AROUND + len;
                Ok(Some(plain))
            }
            Err(_) => Err(forged()),
        }
    }
}

fn forged() -> Nonsense {
    let what = "an encrypted record that fails its authentication, and nothing of it was used: somebody changes what goes over the \
                connection, or a device or memory does";
    Nonsense(what.into())
}

/// Both directions of a connection, at one end.
pub(super) struct Cipher {
    pub(super) out: Outgoing,
    pub(super) into: Incoming,
}

impl Cipher {
    pub(super) fn new(keys: &DataKeys) -> Cipher {
        Cipher::with_records_of_a_key(keys, RECORDS_OF_A_KEY)
    }

    fn with_records_of_a_key(keys: &DataKeys, records: u64) -> Cipher {
        let out = Outgoing { way: Way::new(keys.out, records), bytes: Vec::new(), sent: 0, open: None };
        let bytes = vec![0; INTO].into_boxed_slice();
        Cipher { out, into: Incoming { way: Way::new(keys.into, records), bytes, from: 0, to: 0 } }
    }
}

impl std::fmt::Debug for Cipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cipher(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(records: u64) -> [Cipher; 2] {
        let (a, b) = ([1; 32], [2; 32]);
        [DataKeys { out: a, into: b }, DataKeys { out: b, into: a }]
            .map(|keys| Cipher::with_records_of_a_key(&keys, records))
    }

    /// Encrypts one record.
    fn encrypt(end: &mut Cipher, text: &[u8]) -> Vec<u8> {
        // SAFETY: the text has that length.
        assert_eq!(unsafe { end.out.put(text.as_ptr(), text.len()) }, text.len());
        end.out.close();
        let bytes = end.out.rest().to_vec();
        assert_eq!(end.out.advance(bytes.len()), bytes.len());
        bytes
    }

    fn decrypt(end: &mut Cipher, bytes: &[u8]) -> Result<Vec<u8>, Nonsense> {
        end.into.room()[..bytes.len()].copy_from_slice(bytes);
        end.into.came(bytes.len());
        let mut all = Vec::new();
        while let Some(plain) = end.into.next()? {
            all.extend_from_slice(plain);
        }
        Ok(all)
    }

    #[test]
    fn keys_follow_each_other_on_both_ends_and_no_nonce_is_used_twice_with_one() {
        let [mut here, mut there] = ends(3);
        let mut seen = std::collections::BTreeSet::new();
        for number in 0..20u8 {
            let bytes = encrypt(&mut here, b"always the same");
            assert!(seen.insert(bytes.clone()), "record {number} looks like an earlier one");
            assert_eq!(decrypt(&mut there, &bytes).unwrap(), b"always the same");
        }
        let ([mut here, _], [_, mut there]) = (ends(3), ends(4));
        let mut outcomes = (0..4).map(|_| decrypt(&mut there, &encrypt(&mut here, b"x")).is_ok());
        assert_eq!([0; 4].map(|_| outcomes.next().unwrap()), [true, true, true, false], "who does not follow is out");
    }

    #[test]
    fn long_texts_are_cut_into_records_and_come_whole_however_they_come() {
        let text: Vec<u8> = (0..5 * MOST as u32 + 77).map(|at| (at % 251) as u8).collect();
        let [mut here, mut there] = ends(1 << 20);
        let bytes = encrypt(&mut here, &text);
        assert_eq!(bytes.len(), text.len() + 6 * AROUND);
        let mut all = Vec::new();
        for part in bytes.chunks(1001) {
            all.extend(decrypt(&mut there, part).unwrap());
        }
        assert_eq!(all, text);
    }

    #[test]
    fn no_more_is_encrypted_than_is_sent_soon() {
        let [mut here, _] = ends(1 << 20);
        let text = vec![7u8; 2 * OUT];
        // SAFETY: the text has that length.
        let count = unsafe { here.out.put(text.as_ptr(), text.len()) };
        assert!(count < text.len() && here.out.bytes.len() <= OUT);
        // SAFETY: as above.
        assert_eq!(unsafe { here.out.put(text.as_ptr(), text.len()) }, 0);
    }

    #[test]
    fn lengths_that_no_record_has_are_refused_before_anything_else_comes() {
        for field in [length_field(0), length_field(MOST + 1), [1, 0, 1, 0], [0xff; 4]] {
            let [_, mut there] = ends(9);
            assert!(decrypt(&mut there, &field).is_err(), "{field:?}");
        }
        let [_, mut there] = ends(9);
        assert_eq!(decrypt(&mut there, &length_field(MOST)).unwrap(), [0u8; 0], "it may still come");
    }
}
