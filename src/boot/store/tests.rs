//! Every store keeps the same promises.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Condvar, Mutex};

use super::*;
use crate::boot::BootConfig;

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(50);

fn directory(name: &str) -> std::path::PathBuf {
    let path = std::env::temp_dir().join(format!("ringtree-store-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    path
}

/// What every store must do, seen by two users of it.
fn behaves(one: &dyn Store, other: &dyn Store) {
    let missing = other.get("a", SHORT).unwrap_err().to_string();
    assert!(missing.contains("'a'") && missing.contains("0.05 s"), "{missing}");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| other.get("late/é", LONG).unwrap());
        one.set("late/é", b"come").unwrap();
        assert_eq!(waiting.join().unwrap(), b"come");
    });
    one.set("empty", b"").unwrap();
    assert_eq!(other.get("empty", LONG).unwrap(), b"");
    one.set("late/é", b"again").unwrap();
    assert_eq!(other.get("late/é", LONG).unwrap(), b"again");
    let big = vec![7; MAX_VALUE];
    one.set("big", &big).unwrap();
    assert_eq!(other.get("big", LONG).unwrap(), big);
    assert!(other.delete("big").unwrap());
    assert!(!one.delete("big").unwrap());
    assert!(one.get("big", SHORT).is_err());
    assert!(matches!(one.set("k", &vec![0; MAX_VALUE + 1]), Err(Error::Misuse { .. })));
    assert!(matches!(one.get(&"k".repeat(MAX_KEY + 1), LONG), Err(Error::Misuse { .. })));
    assert!(matches!(one.delete(""), Err(Error::Misuse { .. })));

    let config = BootConfig { one_host: true, timeout: Duration::from_millis(1), ..Default::default() };
    let id = UniqueId::with_config(&config).unwrap();
    publish_id(one, "job/1", &id).unwrap();
    assert_eq!(fetch_id(other, "job/1", LONG).unwrap(), id);
    assert!(fetch_id(other, "job/2", SHORT).is_err());
    one.set("job/3/unique_id", b"not an id").unwrap();
    assert!(fetch_id(other, "job/3", LONG).is_err());
}

#[test]
fn the_store_inside_a_process_behaves() {
    let store = MemoryStore::new();
    behaves(&store, &store);
}

#[test]
fn the_store_of_files_behaves() {
    let path = directory("behaves");
    behaves(&FileStore::open(&path).unwrap(), &FileStore::open(&path).unwrap());
    std::fs::remove_dir_all(&path).unwrap();
}

#[test]
fn files_of_a_store_are_private_and_no_draft_is_left() {
    let path = directory("private");
    let store = FileStore::open(&path).unwrap();
    store.set("k", b"1").unwrap();
    store.set("k", b"2").unwrap();
    let files: Vec<_> = std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap()).collect();
    assert_eq!(files.len(), 1);
    assert_eq!(files[0].metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    std::fs::remove_dir_all(&path).unwrap();
}

#[test]
fn a_file_that_others_could_have_written_is_refused() {
    let path = directory("foreign");
    let store = FileStore::open(&path).unwrap();
    store.set("k", b"1").unwrap();
    let file = std::fs::read_dir(&path).unwrap().next().unwrap().unwrap().path();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
    let message = store.get("k", LONG).unwrap_err().to_string();
    assert!(message.contains("is not a private file") && message.contains("0666"), "{message}");

    // Of another user, where this test may make such a file.
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    if std::os::unix::fs::chown(&file, Some(4242), None).is_ok() {
        let message = store.get("k", LONG).unwrap_err().to_string();
        assert!(message.contains("owner 4242"), "{message}");
    }

    // A link to a file of ours is not ours.
    std::fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", &file).unwrap();
    assert!(store.get("k", LONG).is_err());
    std::fs::remove_dir_all(&path).unwrap();
}

#[test]
fn the_store_of_our_server_behaves() {
    let server = StoreServer::start("127.0.0.1:0".parse().unwrap(), b"word").unwrap();
    let one = TcpStore::connect(server.address(), b"word", LONG).unwrap();
    let other = TcpStore::connect(server.address(), b"word", LONG).unwrap();
    behaves(&one, &other);
}

#[test]
fn our_server_refuses_a_wrong_secret_and_ends_when_dropped() {
    let server = StoreServer::start("127.0.0.1:0".parse().unwrap(), b"word").unwrap();
    let message = TcpStore::connect(server.address(), b"other", LONG).unwrap_err().to_string();
    assert!(message.contains("does not know this job's secret"), "{message}");
    let address = server.address();
    let client = TcpStore::connect(address, b"word", LONG).unwrap();
    drop(server);
    let message = client.set("k", b"v").and(client.get("k", LONG).map(drop)).unwrap_err().to_string();
    assert!(message.contains("is lost"), "{message}");
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn our_server_keeps_no_more_keys_than_it_says() {
    let server = StoreServer::start("127.0.0.1:0".parse().unwrap(), b"word").unwrap();
    let store = TcpStore::connect(server.address(), b"word", LONG).unwrap();
    for key in 0..4096 {
        store.set(&key.to_string(), b"").unwrap();
    }
    let message = store.set("one more", b"").unwrap_err().to_string();
    assert!(message.contains("is full"), "{message}");
    store.set("7", b"replaced").unwrap();
    store.delete("8").unwrap();
    store.set("one more", b"").unwrap();
}

type Values = Arc<(Mutex<BTreeMap<Vec<u8>, Vec<u8>>>, Condvar)>;

/// A server of PyTorch's store protocol, a thread for each client; its port.
pub(crate) fn fake_torch_store() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let values: Values = Default::default();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let values = values.clone();
            std::thread::spawn(move || serve_torch(stream.unwrap(), &values));
        }
    });
    port
}

fn serve_torch(mut stream: TcpStream, values: &Values) -> std::io::Result<()> {
    fn number(stream: &mut TcpStream) -> std::io::Result<u64> {
        let mut bytes = [0; 8];
        stream.read_exact(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }
    fn text(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; number(stream)? as usize];
        stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }
    let mut hello = [0; 5];
    stream.read_exact(&mut hello)?;
    assert_eq!(hello, [0, 0xce, 0xf7, 0x85, 0x3c]);
    let (map, changed) = &**values;
    loop {
        let mut command = [0];
        stream.read_exact(&mut command)?;
        match command[0] {
            1 => {
                let (key, value) = (text(&mut stream)?, text(&mut stream)?);
                map.lock().unwrap().insert(key, value);
                changed.notify_all();
            }
            3 => {
                let key = text(&mut stream)?;
                let value = map.lock().unwrap()[&key].clone();
                stream.write_all(&(value.len() as u64).to_le_bytes())?;
                stream.write_all(&value)?;
            }
            5 => {
                assert_eq!(number(&mut stream)?, 1);
                let key = text(&mut stream)?;
                stream.write_all(&[!map.lock().unwrap().contains_key(&key) as u8])?;
            }
            6 => {
                assert_eq!(number(&mut stream)?, 1);
                let key = text(&mut stream)?;
                let guard = map.lock().unwrap();
                drop(changed.wait_while(guard, |map| !map.contains_key(&key)).unwrap());
                stream.write_all(&[0])?;
            }
            8 => {
                let key = text(&mut stream)?;
                let count = map.lock().unwrap().remove(&key).is_some() as i64;
                stream.write_all(&count.to_le_bytes())?;
            }
            other => panic!("command {other}"),
        }
    }
}

#[test]
fn a_store_of_pytorch_carries_the_id() {
    let port = fake_torch_store();
    let connect = || TorchStore::connect("127.0.0.1", port, LONG).unwrap();
    let (one, other) = (connect(), connect());
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| other.get("k", LONG).unwrap());
        one.set("k", b"value").unwrap();
        assert_eq!(waiting.join().unwrap(), b"value");
    });
    assert!(one.delete("k").unwrap());
    assert!(!one.delete("k").unwrap());
    let config = BootConfig { one_host: true, timeout: Duration::from_millis(1), ..Default::default() };
    let id = UniqueId::with_config(&config).unwrap();
    publish_id(&one, "ringtree/run/0", &id).unwrap();
    assert_eq!(fetch_id(&other, "ringtree/run/0", LONG).unwrap(), id);
    let message = fetch_id(&other, "ringtree/run/1", SHORT).unwrap_err().to_string();
    assert!(message.contains("ringtree/run/1") && message.contains("0.05 s"), "{message}");
}

#[test]
fn a_pytorch_store_that_is_absent_or_mad_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mad = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut room = [0; 19 + 5];
        stream.read_exact(&mut room[..5 + 1 + 8 + 8 + 1]).unwrap();
        stream.write_all(&[0]).unwrap();
        stream.read_exact(&mut room[..1 + 8 + 1]).unwrap();
        // A length that no value has.
        stream.write_all(&[0xff; 64]).unwrap();
    });
    let store = TorchStore::connect("127.0.0.1", port, LONG).unwrap();
    let message = store.get("k", LONG).unwrap_err().to_string();
    assert!(message.contains("a value of 18446744073709551615 bytes"), "{message}");
    mad.join().unwrap();
    let message = TorchStore::connect("127.0.0.1", port, SHORT).unwrap_err().to_string();
    assert!(message.contains("could not be reached within 0.05 s"), "{message}");
}
