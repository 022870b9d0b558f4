//! What the ends of a bootstrap connection say to each other once they trust each other, and how it lies in bytes. A reader takes no
//! length, count or rank unchecked: what makes no sense is `None`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::failure::Failure;

/// The most ranks a job can have.
pub const MAX_RANKS: usize = 1 << 20;
/// The most bytes one rank gives to one [`super::Rendezvous::all_gather`].
pub const MAX_PART: usize = 4096;
/// The longest text in a message; longer ones are cut.
pub(crate) const MAX_TEXT: usize = 1024;

/// Two processes with the same mark share the boot of a machine, its process ids, its network and the user.
pub(crate) type HostMark = [u8; 16];
/// The random part of an abstract Unix socket's name.
pub(crate) type UnixName = [u8; 16];

/// Where somebody listens: on one host by a Unix socket, from elsewhere by TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) host: HostMark,
    pub(crate) unix: UnixName,
    pub(crate) tcp: Option<SocketAddr>,
}

/// What a rank says of itself when it checks in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) rank: usize,
    pub(crate) size: usize,
    pub(crate) pid: u32,
    pub(crate) host_name: String,
    pub(crate) listens: Endpoint,
}

/// What all ranks do together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Round {
    /// The exchange that ends [`super::join`].
    Meet = 0,
    Gather = 1,
    Barrier = 2,
}

impl Round {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Round::Meet => "join",
            Round::Gather => "all_gather",
            Round::Barrier => "barrier",
        }
    }
}

/// What ranks gave to a round, in ascending order of rank.
pub(crate) type Entries = Vec<(usize, Vec<u8>)>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// Rank to hub: here I am.
    CheckIn(Record),
    /// Hub to rank: you are expected.
    Welcome,
    /// Root to rank: this rank lives in the process that serves the rendezvous.
    Creator { rank: usize },
    /// Root to rank: all have come; your place in the tree is here, or below that rank.
    Go { parent: Option<(usize, Endpoint)> },
    /// Rank to root: I am with my parent now.
    Moved,
    /// Upwards: what the ranks below give.
    Part { round: Round, number: u64, entries: Entries },
    /// Downwards: what all gave.
    Whole { round: Round, number: u64, entries: Entries },
    /// Either way: the job can't go on.
    Failed(Failure),
    /// I have done my part and need nothing more.
    Bye,
    /// Hub to a rank of its own process: everything that others wait for is sent; you may end.
    ByeBye,
    /// At a door: rank `rank` asks for the descriptor number `number`.
    Ask { rank: usize, number: u64 },
    /// At a door: here it is.
    Descriptor { number: u64 },
}

/// The longest frame that carries the entries of `ranks` ranks.
pub(crate) fn frame_limit(ranks: usize) -> usize {
    ranks.saturating_mul(MAX_PART + 8).saturating_add(64).min(u32::MAX as usize)
}

/// Cuts a text at a character's edge.
pub(crate) fn cut(text: &str) -> &str {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

impl Message {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Writer(Vec::new());
        match self {
            Message::CheckIn(record) => out.u8(0).record(record),
            Message::Welcome => out.u8(1),
            Message::Creator { rank } => out.u8(2).rank(*rank),
            Message::Go { parent: None } => out.u8(3).u8(0),
            Message::Go { parent: Some((rank, at)) } => out.u8(3).u8(1).rank(*rank).endpoint(at),
            Message::Moved => out.u8(4),
            Message::Part { round, number, entries } => out.u8(5).u8(*round as u8).u64(*number).entries(entries),
            Message::Whole { round, number, entries } => out.u8(6).u8(*round as u8).u64(*number).entries(entries),
            Message::Failed(failure) => {
                out.u8(7);
                failure.encode(&mut out);
                &mut out
            }
            Message::Bye => out.u8(8),
            Message::ByeBye => out.u8(9),
            Message::Ask { rank, number } => out.u8(10).rank(*rank).u64(*number),
            Message::Descriptor { number } => out.u8(11).u64(*number),
        };
        out.0
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Message> {
        let mut from = Reader(bytes);
        let message = match from.u8()? {
            0 => Message::CheckIn(from.record()?),
            1 => Message::Welcome,
            2 => Message::Creator { rank: from.rank()? },
            3 => match from.u8()? {
                0 => Message::Go { parent: None },
                1 => Message::Go { parent: Some((from.rank()?, from.endpoint()?)) },
                _ => return None,
            },
            4 => Message::Moved,
            5 => Message::Part { round: from.round()?, number: from.u64()?, entries: from.entries()? },
            6 => Message::Whole { round: from.round()?, number: from.u64()?, entries: from.entries()? },
            7 => Message::Failed(Failure::decode(&mut from)?),
            8 => Message::Bye,
            9 => Message::ByeBye,
            10 => Message::Ask { rank: from.rank()?, number: from.u64()? },
            11 => Message::Descriptor { number: from.u64()? },
            _ => return None,
        };
        from.0.is_empty().then_some(message)
    }
}

/// Puts fields one behind the other, little-endian.
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn u8(&mut self, value: u8) -> &mut Writer {
        self.0.push(value);
        self
    }

    pub(crate) fn u64(&mut self, value: u64) -> &mut Writer {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(crate) fn u32(&mut self, value: u32) -> &mut Writer {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(crate) fn rank(&mut self, rank: usize) -> &mut Writer {
        self.u32(u32::try_from(rank).unwrap_or(u32::MAX))
    }

    pub(crate) fn fixed(&mut self, bytes: &[u8]) -> &mut Writer {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Writer {
        self.u32(bytes.len() as u32).fixed(bytes)
    }

    pub(crate) fn text(&mut self, text: &str) -> &mut Writer {
        self.bytes(cut(text).as_bytes())
    }

    pub(crate) fn socket_address(&mut self, address: Option<SocketAddr>) -> &mut Writer {
        let (kind, ip) = match address.map(|address| address.ip()) {
            None => (0, [0; 16]),
            Some(IpAddr::V4(ip)) => (4, ip.to_ipv6_mapped().octets()),
            Some(IpAddr::V6(ip)) => (6, ip.octets()),
        };
        let port = address.map_or(0, |address| address.port());
        self.u8(kind).fixed(&ip).fixed(&port.to_le_bytes())
    }

    pub(crate) fn endpoint(&mut self, endpoint: &Endpoint) -> &mut Writer {
        self.fixed(&endpoint.host).fixed(&endpoint.unix).socket_address(endpoint.tcp)
    }

    fn record(&mut self, record: &Record) -> &mut Writer {
        self.rank(record.rank).rank(record.size).u32(record.pid).text(&record.host_name).endpoint(&record.listens)
    }

    fn entries(&mut self, entries: &Entries) -> &mut Writer {
        self.u32(entries.len() as u32);
        for (rank, bytes) in entries {
            self.rank(*rank).bytes(bytes);
        }
        self
    }
}

/// Takes fields from the front, each checked.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl Reader<'_> {
    pub(crate) fn fixed<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk::<N>()?;
        self.0 = tail;
        Some(*head)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.fixed::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.fixed().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.fixed().map(u64::from_le_bytes)
    }

    pub(crate) fn rank(&mut self) -> Option<usize> {
        let rank = self.u32()? as usize;
        (rank <= MAX_RANKS).then_some(rank)
    }

    pub(crate) fn bytes(&mut self, most: usize) -> Option<Vec<u8>> {
        let length = self.u32()? as usize;
        if length > most || length > self.0.len() {
            return None;
        }
        let (head, tail) = self.0.split_at(length);
        self.0 = tail;
        Some(head.to_vec())
    }

    pub(crate) fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes(MAX_TEXT)?).ok()
    }

    pub(crate) fn socket_address(&mut self) -> Option<Option<SocketAddr>> {
        let (kind, ip, port) = (self.u8()?, self.fixed::<16>()?, u16::from_le_bytes(self.fixed()?));
        let v6 = Ipv6Addr::from(ip);
        Some(match kind {
            0 => None,
            4 => Some(SocketAddr::new(IpAddr::V4(v6.to_ipv4_mapped().unwrap_or(Ipv4Addr::UNSPECIFIED)), port)),
            6 => Some(SocketAddr::new(IpAddr::V6(v6), port)),
            _ => return None,
        })
    }

    pub(crate) fn endpoint(&mut self) -> Option<Endpoint> {
        Some(Endpoint { host: self.fixed()?, unix: self.fixed()?, tcp: self.socket_address()? })
    }

    fn record(&mut self) -> Option<Record> {
        let (rank, size, pid) = (self.rank()?, self.rank()?, self.u32()?);
        Some(Record { rank, size, pid, host_name: self.text()?, listens: self.endpoint()? })
    }

    fn round(&mut self) -> Option<Round> {
        Some(match self.u8()? {
            0 => Round::Meet,
            1 => Round::Gather,
            2 => Round::Barrier,
            _ => return None,
        })
    }

    /// Ascending ranks only, so that none comes twice. The room is taken as the entries come, not as their count promises.
    fn entries(&mut self) -> Option<Entries> {
        let count = self.u32()? as usize;
        let mut entries: Entries = Vec::with_capacity(count.min(self.0.len() / 8));
        for _ in 0..count {
            let rank = self.rank()?;
            if entries.last().is_some_and(|(last, _)| *last >= rank) {
                return None;
            }
            entries.push((rank, self.bytes(MAX_PART)?));
        }
        Some(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::super::strangers::samples;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_message_comes_back_as_it_was() {
        for message in samples() {
            assert_eq!(Message::decode(&message.encode()), Some(message));
        }
    }

    #[test]
    fn a_message_cut_short_or_with_a_tail_is_refused() {
        for message in samples() {
            let bytes = message.encode();
            for end in 0..bytes.len() {
                assert_eq!(Message::decode(&bytes[..end]), None, "{message:?} cut at {end}");
            }
            assert_eq!(Message::decode(&[&bytes[..], &[0]].concat()), None);
        }
    }

    #[test]
    fn entries_that_repeat_a_rank_or_promise_what_they_lack_are_refused() {
        let twice = Message::Part { round: Round::Gather, number: 1, entries: vec![(3, vec![]), (3, vec![])] };
        assert_eq!(Message::decode(&twice.encode()), None);
        let mut promise = Message::Part { round: Round::Gather, number: 1, entries: vec![] }.encode();
        let at = promise.len() - 4;
        promise[at..].fill(0xff);
        assert_eq!(Message::decode(&promise), None);
        let long = Message::Part { round: Round::Gather, number: 1, entries: vec![(0, vec![0; MAX_PART + 1])] };
        assert_eq!(Message::decode(&long.encode()), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(kind in 0u8..14, bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Message::decode(&[&[kind], &bytes[..]].concat());
        }
    }
}
