//! Topologies of machines that others have published, read, written and asked: `topologies/` has them, and its README the counts.

use ringtree::topo::graph::{Host, Spot, Way};
use ringtree::topo::xml;
use std::collections::BTreeMap;
use std::path::PathBuf;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/topologies")
}

/// Every file with what it was read into.
fn all() -> BTreeMap<String, Vec<Host>> {
    let files = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let xml = files.filter(|path| path.extension().is_some_and(|extension| extension == "xml"));
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        let hosts = xml::read(&text).unwrap_or_else(|wrong| panic!("{name}: {wrong}"));
        (name, hosts)
    };
    xml.map(read).collect()
}

fn one(name: &str) -> Host {
    let hosts = all().remove(name).unwrap_or_else(|| panic!("there is no {name}"));
    assert_eq!(hosts.len(), 1);
    hosts.into_iter().next().unwrap()
}

#[test]
fn everything_in_a_file_is_in_the_graph() {
    let readme = std::fs::read_to_string(folder().join("README.md")).unwrap();
    let files = all();
    let mut seen = 0;
    for line in readme.lines().filter(|line| line.starts_with("| ") && line.contains(".xml |")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let expected: Vec<u32> = cells[3..].iter().map(|cell| cell.parse().unwrap()).collect();
        let hosts = &files[cells[0]];
        let sum = |count: &dyn Fn(&Host) -> usize| hosts.iter().map(count).sum::<usize>() as u32;
        let links =
            hosts.iter().flat_map(|host| &host.gpus).flat_map(|gpu| &gpu.links).map(|link| link.count).sum::<u32>();
        let nets = sum(&|host| host.nics.iter().map(|nic| nic.nets.len()).sum());
        let found =
            [sum(&|host| host.nodes.len()), sum(&|host| host.pci.len()), sum(&|host| host.gpus.len()), nets, links];
        assert_eq!(expected, found, "{}", cells[0]);
        seen += 1;
    }
    assert_eq!(seen, files.len(), "the README has a line for every file");
    assert!(seen >= 30);
}

#[test]
fn what_is_written_is_read_back_in_both_forms() {
    for (name, hosts) in all() {
        for host in hosts {
            assert_eq!(host.validate(), Ok(()), "{name}");
            let (again, text) = (xml::read(&xml::write(&host)).unwrap(), Host::parse(&host.to_string()));
            assert_eq!(text.as_ref(), Ok(&host), "{name}, as text");
            // A node's interfaces without a place come last when they are written; then nothing moves any more.
            let twice = xml::read(&xml::write(&again[0])).unwrap();
            assert_eq!(again, twice, "{name}, as XML");
            let count = |host: &Host| (host.pci.len(), host.gpus.clone(), host.nics.len(), host.processor.clone());
            assert_eq!(count(&host), count(&again[0]), "{name}, as XML");
        }
    }
}

#[test]
fn every_gpu_reaches_every_interface_and_the_nearest_comes_first() {
    for (name, hosts) in all() {
        for host in hosts {
            for gpu in 0..host.gpus.len() as u32 {
                let reached = host.nets_from(Spot::Gpu(gpu));
                assert_eq!(reached.len(), host.nics.iter().map(|nic| nic.nets.len()).sum::<usize>(), "{name}");
                assert!(reached.is_sorted_by_key(|reach| reach.route.way), "{name}");
                assert!(reached.iter().all(|reach| reach.route.bandwidth > 0), "{name}");
            }
        }
    }
}

#[test]
fn a_gpu_of_an_hgx_board_has_a_card_of_its_own_below_its_switch() {
    let host = one("dgx-b200-pcilink.xml");
    let nearest: Vec<u32> = (0..8).map(|gpu| host.nets_from(Spot::Gpu(gpu))[0].nic).collect();
    let mut distinct = nearest.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), 8, "{nearest:?}");
    assert!((0..8).all(|gpu| host.nets_from(Spot::Gpu(gpu))[0].route.way <= Way::Switches));
    assert!((1..8).all(|gpu| host.route(Spot::Gpu(0), Spot::Gpu(gpu)).unwrap().way == Way::NvLink));
}

#[test]
fn gpus_of_a_cube_mesh_reach_some_others_only_over_a_third() {
    let host = one("dgx-1-v100.xml");
    let ways: Vec<Way> = (1..8).map(|gpu| host.route(Spot::Gpu(0), Spot::Gpu(gpu)).unwrap().way).collect();
    assert_eq!(ways.iter().filter(|way| **way == Way::NvLink).count(), 4, "{ways:?}");
    assert_eq!(ways.iter().filter(|way| **way == Way::NvBridge).count(), 3, "{ways:?}");
}

#[test]
fn two_hosts_in_a_file_are_two() {
    let hosts = &all()["gb300-two-trays.xml"];
    assert_eq!(hosts.len(), 2);
    assert!(hosts.iter().all(|host| host.gpus.len() == 4 && host.nodes.len() == 2));
}
