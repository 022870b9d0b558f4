//! The step that opens windows: every rank tells the others where its buffers lie. All see the same places, so all come to the same
//! conclusion whether every buffer can be reached.

use super::cursor::incoming;
use super::job::{Context, Fault};
use crate::error::Error;
use crate::plan::{Step, Take};
use crate::transport::{Links, Shared, Window};

/// What the messages of such a step carry.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct Places {
    input: Shared,
    output: Shared,
}

const _: () = assert!(size_of::<Places>() <= crate::transport::SMALL);

/// Does such a step. False: some rank's buffers lie where others can't reach them.
pub(super) fn exchange_places<L: Links>(
    context: &mut Context,
    channel: u32,
    step: &Step,
    slot: Option<*mut u8>,
    links: &mut L,
) -> Result<bool, Fault> {
    let rank = context.program().rank();
    if let Some(slot) = slot {
        let own = own_places(context, links);
        // SAFETY: the slot was reserved with this size; it may be misaligned.
        unsafe { slot.cast::<Places>().write_unaligned(own) };
        context.windows.clear();
    }
    if step.take != Take::FoldBoards {
        return Ok(true);
    }
    let fetches = context.program().plan().fetches();
    let mut all_reached = true;
    for from in 0..links.size() {
        let places = if from == rank {
            own_places(context, links)
        } else {
            let message = links.peek(channel, incoming(step, from))?;
            let Some(message) = message.filter(|message| message.len == size_of::<Places>()) else {
                let what = "places of registered buffers, and changed them".into();
                return Err(Fault::Links(Error::Corrupt { place: Default::default(), rank: from as usize, what }));
            };
            // SAFETY: the message has the length of Places, which any bytes make.
            unsafe { message.at.cast::<Places>().read_unaligned() }
        };
        let window = window(context, from, places, fetches, links)?;
        all_reached &= window.is_some();
        context.windows.extend(window);
    }
    Ok(all_reached)
}

/// What a rank's places are to this rank; nothing: out of reach, for all ranks alike.
fn window<L: Links>(
    context: &Context,
    from: u32,
    places: Places,
    fetches: bool,
    links: &mut L,
) -> Result<Option<Window>, Fault> {
    let (input, output) = (context.input_bytes(from), context.output_bytes(from));
    let (read, written) = (places.input, places.output);
    if fetches && (input == 0 || read.heap == Shared::PRIVATE && read.at != 0) {
        return Ok(Some(Window::Fetched(read.at)));
    }
    let mapped = |place: Shared| place.at != 0 && place.heap != Shared::PRIVATE;
    // Plans that fetch don't touch the outputs of others.
    if !mapped(read) || !fetches && !mapped(written) {
        return Ok(None);
    }
    let output = if fetches { Some(std::ptr::null_mut()) } else { links.resolve(from, written, output) };
    match links.resolve(from, read, input).zip(output) {
        Some((input, output)) => Ok(Some(Window::Mapped { input, output })),
        None => {
            let what = "a place of a registered buffer that lies outside its memory".into();
            Err(Fault::Links(Error::Corrupt { place: Default::default(), rank: from as usize, what }))
        }
    }
}

fn own_places<L: Links>(context: &Context, links: &L) -> Places {
    let rank = context.program().rank();
    Places {
        input: links.share(context.buffers.input, context.input_bytes(rank)),
        output: links.share(context.buffers.output, context.output_bytes(rank)),
    }
}
