//! Buffers between guards.

use ringtree::{Communicator, Element, Registered};

/// What guards hold.
const GUARD: u8 = 0xa5;

/// Elements before and behind a buffer, at least.
const MARGIN: usize = 70;

/// Bytes of each registered piece.
const REGISTERED: usize = 1 << 20;

/// The bytes of elements.
pub fn bytes<T: Element>(elements: &[T]) -> &[u8] {
    // SAFETY: elements have no padding (`Element`), so their bytes are initialised.
    unsafe { std::slice::from_raw_parts(elements.as_ptr().cast(), size_of_val(elements)) }
}

fn bytes_mut<T: Element>(elements: &mut [T]) -> &mut [u8] {
    // SAFETY: as above, and every bit pattern is an element.
    unsafe { std::slice::from_raw_parts_mut(elements.as_mut_ptr().cast(), size_of_val(elements)) }
}

/// Where a buffer is to lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Plain,
    Registered,
}

/// The memory of one rank for inputs and outputs, used again and again and never cleaned.
pub struct Memory {
    plain: [Vec<u128>; 2],
    registered: Option<[Registered<u8>; 2]>,
}

impl Memory {
    pub fn new() -> Memory {
        Memory { plain: [Vec::new(), Vec::new()], registered: None }
    }

    /// With registered pieces too; all ranks call this together.
    pub fn with_registered(communicator: &Communicator) -> Memory {
        let piece = || communicator.alloc(REGISTERED).expect("registered memory");
        Memory { plain: [Vec::new(), Vec::new()], registered: Some([piece(), piece()]) }
    }

    /// An input and an output of those lengths, each `skew` elements off its natural place.
    pub fn buffers<T: Element>(&mut self, place: Place, lens: [usize; 2], skew: usize) -> [Guarded<'_, T>; 2] {
        let needed = lens.map(|len| (len + 2 * MARGIN + skew) * size_of::<T>());
        let regions: [&mut [u8]; 2] = match (&mut self.registered, place) {
            (Some(pieces), Place::Registered) if needed.iter().all(|len| *len <= REGISTERED) => {
                pieces.each_mut().map(|piece| &mut piece[..])
            }
            _ => {
                let [first, second] = &mut self.plain;
                [grow(first, needed[0]), grow(second, needed[1])]
            }
        };
        let [first, second] = regions;
        [Guarded::new(first, lens[0], skew), Guarded::new(second, lens[1], skew)]
    }
}

fn grow(list: &mut Vec<u128>, len: usize) -> &mut [u8] {
    if list.len() * 16 < len {
        list.resize(len.div_ceil(16), 0);
    }
    bytemuck::cast_slice_mut(list)
}

/// A buffer with guards on both sides.
pub struct Guarded<'m, T> {
    elements: &'m mut [T],
    at: usize,
    len: usize,
}

impl<'m, T: Element> Guarded<'m, T> {
    fn new(region: &'m mut [u8], len: usize, skew: usize) -> Guarded<'m, T> {
        let total = len + 2 * MARGIN + skew;
        assert!(region.len() >= total * size_of::<T>() && region.as_ptr().cast::<T>().is_aligned());
        // SAFETY: long enough and aligned, and every bit pattern is an element.
        let elements = unsafe { std::slice::from_raw_parts_mut(region.as_mut_ptr().cast::<T>(), total) };
        let mut guarded = Guarded { elements, at: MARGIN + skew, len };
        guarded.guards().into_iter().for_each(|guard| bytes_mut(guard).fill(GUARD));
        guarded
    }

    fn guards(&mut self) -> [&mut [T]; 2] {
        let (before, rest) = self.elements.split_at_mut(self.at);
        [before, &mut rest[self.len..]]
    }

    pub fn data(&mut self) -> &mut [T] {
        &mut self.elements[self.at..][..self.len]
    }

    /// Whether the guards are as they were.
    pub fn is_whole(&mut self) -> bool {
        self.guards().into_iter().all(|guard| bytes(guard).iter().all(|byte| *byte == GUARD))
    }
}
