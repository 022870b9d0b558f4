//! A process manager's side of PMI-1, and ours.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use super::*;

/// A process manager for `size` ranks, one thread and one socket each; the ranks' ends.
pub(crate) fn process_manager(size: usize, longest: usize) -> Vec<UnixStream> {
    let (values, barrier) = (Arc::new(Mutex::new(BTreeMap::new())), Arc::new(Barrier::new(size)));
    (0..size)
        .map(|_| {
            let (near, far) = UnixStream::pair().unwrap();
            let (values, barrier) = (values.clone(), barrier.clone());
            std::thread::spawn(move || serve(far, &values, &barrier, longest));
            near
        })
        .collect()
}

fn serve(stream: UnixStream, values: &Mutex<BTreeMap<String, String>>, barrier: &Barrier, longest: usize) {
    let mut out = stream.try_clone().unwrap();
    for line in BufReader::new(stream).lines().map_while(std::result::Result::ok) {
        let word = |name| field(&line, name).unwrap_or("?").to_string();
        let answer = match word("cmd").as_str() {
            "init" => "cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=0".to_string(),
            "get_maxes" => format!("cmd=maxes kvsname_max=256 keylen_max=64 vallen_max={longest}"),
            "get_my_kvsname" => "cmd=my_kvsname kvsname=kvs_7_0".to_string(),
            "put" => {
                assert_eq!(word("kvsname"), "kvs_7_0");
                values.lock().unwrap().insert(word("key"), word("value"));
                "cmd=put_result rc=0 msg=success".to_string()
            }
            "barrier_in" => {
                barrier.wait();
                "cmd=barrier_out".to_string()
            }
            "get" => match values.lock().unwrap().get(&word("key")) {
                Some(value) => format!("cmd=get_result rc=0 msg=success value={value}"),
                None => "cmd=get_result rc=-1 msg=key_not_found value=unknown".to_string(),
            },
            "finalize" => "cmd=finalize_ack".to_string(),
            _ => "cmd=nonsense".to_string(),
        };
        // In two pieces, as a pipe may deliver it.
        let (head, tail) = answer.split_at(answer.len() / 2);
        out.write_all(head.as_bytes()).unwrap();
        out.write_all(format!("{tail}\n").as_bytes()).unwrap();
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

#[test]
fn what_one_rank_puts_the_others_get_after_the_barrier() {
    let ends = process_manager(3, 1024);
    std::thread::scope(|scope| {
        for (rank, end) in ends.iter().enumerate() {
            scope.spawn(move || {
                let mut pmi = Pmi::begin(end.as_raw_fd(), soon()).unwrap();
                if rank == 1 {
                    pmi.put("k", "value-of-1").unwrap();
                }
                pmi.barrier().unwrap();
                assert_eq!(pmi.get("k").unwrap(), "value-of-1");
                assert!(pmi.get("absent").is_err());
                pmi.finish().unwrap();
            });
        }
    });
}

#[test]
fn a_value_too_long_for_the_process_manager_is_an_error() {
    let ends = process_manager(1, 100);
    let mut pmi = Pmi::begin(ends[0].as_raw_fd(), soon()).unwrap();
    let message = pmi.put("k", &"x".repeat(100)).unwrap_err().to_string();
    assert!(message.contains("below 100 bytes"), "{message}");
}

#[test]
fn a_process_manager_that_is_silent_gone_or_mad_is_an_error() {
    let (near, far) = UnixStream::pair().unwrap();
    let deadline = Instant::now() + Duration::from_millis(50);
    let message = Pmi::begin(near.as_raw_fd(), deadline).err().unwrap().to_string();
    assert!(message.contains("does not answer"), "{message}");

    (&far).write_all(&vec![b'x'; 2 * MAX_LINE]).unwrap();
    let message = Pmi::begin(near.as_raw_fd(), soon()).err().unwrap().to_string();
    assert!(message.contains("without end"), "{message}");
    drop(far);

    let (near, far) = UnixStream::pair().unwrap();
    drop(far);
    assert!(Pmi::begin(near.as_raw_fd(), soon()).is_err());
    let message = Pmi::begin(-1, soon()).err().unwrap().to_string();
    assert!(message.contains("PMI_FD is -1"), "{message}");
}
