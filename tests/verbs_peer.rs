//! Verbs spoken with somebody else: what a queue pair of the `ibverbs` crate sends this library's queue receives, and the reverse. The crate
//! has bindings, set-up and requests of its own, so what both ends of ours might have wrong alike shows here.
//!
//! Needs an RDMA device: tests/rdma runs it, in a guest kernel where the machine has none.

use ibverbs::{CompletionQueue, Context, ibv_access_flags, ibv_qp_type, ibv_wc, ibv_wc_opcode};
use ringtree::transport::verbs::bridge::{Bridge, HEAD};
use std::time::{Duration, Instant};

/// Messages each way: several times as many as there are slots.
const MESSAGES: usize = 100;
/// The longest one: several packets.
const MOST: usize = 20_000;

/// Bytes that tell messages and places apart.
fn payload(number: usize, from: u8) -> Vec<u8> {
    let len = [0, 1, 48, 4096, 5000, MOST][number % 6];
    (0..len).map(|at| (number * 7 + at * 13) as u8 ^ from).collect()
}

fn open(name: &str) -> Context {
    let devices = ibverbs::devices().expect("a list of devices");
    let named = |device: &ibverbs::Device<'_>| device.name().is_some_and(|other| other.to_string_lossy() == name);
    devices.iter().find(named).expect("the same device").open().expect("it opens")
}

/// What has completed, all of it well.
fn completed(queue: &CompletionQueue<'_>) -> Vec<ibv_wc> {
    let mut room = [ibv_wc::default(); 16];
    let some = queue.poll(&mut room).expect("completions");
    assert!(some.iter().all(|one| one.is_valid()), "{some:?}");
    some.to_vec()
}

#[test]
fn what_the_ibverbs_crate_sends_is_received_and_the_reverse() {
    let mut ours = Bridge::new(MOST).expect("an end of this library");
    let (count, slot) = ours.slots();
    let context = open(ours.device());
    let domain = context.alloc_pd().expect("a domain");
    let queue = context.create_cq(256, 0).expect("a completion queue");
    let mut builder = domain.create_qp(&queue, &queue, ibv_qp_type::IBV_QPT_RC);
    builder.set_access(ibv_access_flags::IBV_ACCESS_LOCAL_WRITE | ibv_access_flags::IBV_ACCESS_REMOTE_WRITE);
    builder.set_rq_psn(ours.first_packet()).set_path_mtu(ours.mtu()).set_max_send_wr(64).set_max_recv_wr(64);
    if let Some(index) = ours.gid_index() {
        builder.set_gid_index(index);
    }
    let prepared = builder.build().expect("a queue pair");
    // The slots first, behind them what is sent from.
    let mut memory = domain.allocate::<u8>((count + 1) * slot).expect("memory");
    // SAFETY: the memory outlives both ends, and slots are read between completion and news.
    unsafe { ours.join(prepared.endpoint(), &memory) }.expect("this end joins");
    let mut theirs = prepared.handshake(ours.endpoint()).expect("that end joins");
    // Where what is written with an immediate number does not go.
    let spare = count * slot..count * slot + 1;
    for number in 0..count {
        // SAFETY: the range is the memory's, which outlives the queue pair.
        unsafe { theirs.post_receive(&mut memory, spare.clone(), number as u64) }.expect("a receive");
    }
    let (mut sent, mut came, mut sent_there, mut came_there, mut sending) = (0, 0, 0, 0, false);
    let until = Instant::now() + Duration::from_secs(30);
    while came < MESSAGES || came_there < MESSAGES {
        assert!(Instant::now() < until, "{sent} sent, {came_there} came; {sent_there} sent there, {came} came here");
        if sent < MESSAGES && ours.send(&payload(sent, 1)).expect("a living queue") {
            sent += 1;
        }
        if let Some(got) = ours.receive().expect("a living queue") {
            assert!(got == payload(came, 2), "message {came} of {} bytes", got.len());
            came += 1;
        }
        for one in completed(&queue) {
            if one.opcode() == ibv_wc_opcode::IBV_WC_SEND {
                sending = false;
                continue;
            }
            assert_eq!(one.opcode(), ibv_wc_opcode::IBV_WC_RECV_RDMA_WITH_IMM);
            assert_eq!(one.imm_data().map(u32::from_be), Some(came_there as u32));
            let at = came_there % count * slot;
            let got = &memory[at + HEAD..at + one.len()];
            assert!(got == payload(came_there, 1), "message {came_there} there, of {} bytes", got.len());
            came_there += 1;
            // SAFETY: as above.
            unsafe { theirs.post_receive(&mut memory, spare.clone(), came_there as u64) }.expect("a receive");
        }
        // One at a time, with news of what was taken, and never so far ahead that the last news come too early.
        if !sending && sent_there < MESSAGES.min(came_there + 4) && sent_there - came < count / 2 {
            let message = payload(sent_there, 2);
            let at = count * slot;
            memory[at..at + 4].copy_from_slice(&(came_there as u32).to_le_bytes());
            memory[at + 4..at + HEAD].copy_from_slice(&((HEAD + message.len()) as u32).to_le_bytes());
            memory[at + HEAD..at + HEAD + message.len()].copy_from_slice(&message);
            // SAFETY: the range is left alone until the request has completed.
            unsafe { theirs.post_send(&mut memory, at..at + HEAD + message.len(), 1 << 32) }.expect("a send");
            (sent_there, sending) = (sent_there + 1, true);
        }
    }
    // This library's end goes first: nothing is written afterwards.
    drop(ours);
}
