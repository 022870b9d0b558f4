//! How often the messages of a plan cross the borders of racks and pods, on lists of hosts in no order: no more often than they must.
//!
//! Crossings are counted in the plans themselves: who puts messages to whom.

#[path = "worlds/chance.rs"]
mod chance;

use chance::Chance;
use ringtree::plan::{Algorithm, Group, Plan, Put, Tuning, World};
use ringtree::topo::site::{Location, Order};
use ringtree::types::{Call, Collective, DataType, Reduction};
use std::collections::{BTreeMap, BTreeSet};

/// Hosts that ranks are on, and where they are.
struct Job {
    host_of: Vec<u32>,
    /// By host.
    locations: Vec<Location>,
    world: World,
}

impl Job {
    /// Ranks come host by host, as launchers start them, or dealt out in turn.
    fn new(locations: Vec<Location>, ranks: &[u32], dealt: bool) -> Job {
        let mut seats: Vec<(u32, u32)> = (0..locations.len() as u32)
            .flat_map(|host| (0..ranks[host as usize]).map(move |place| (host, place)))
            .collect();
        if dealt {
            seats.sort_by_key(|(host, place)| (*place, *host));
        }
        let host_of: Vec<u32> = seats.into_iter().map(|(host, _)| host).collect();
        // As a communicator does it: hosts are told apart first, in the order of their lowest ranks.
        let order = Order::of(&locations.iter().map(Location::mark).collect::<Vec<_>>());
        let turns = order.turns();
        let domain_of: Vec<u32> = host_of.iter().map(|host| turns[*host as usize]).collect();
        Job { host_of, locations, world: World::in_order(&domain_of, &order.borders) }
    }

    /// The group of a rank at that level, from 1 for the outermost; deeper than all names is its host.
    fn group(&self, rank: u32, level: usize) -> (Vec<String>, Option<u32>) {
        let host = self.host_of[rank as usize];
        let names = self.locations[host as usize].names();
        (names[..names.len().min(level)].to_vec(), (level > DEEPEST).then_some(host))
    }

    fn groups(&self, level: usize) -> usize {
        (0..self.world.size()).map(|rank| self.group(rank, level)).collect::<BTreeSet<_>>().len()
    }

    fn crossing(&self, edges: &BTreeSet<(u32, u32)>, level: usize) -> usize {
        edges.iter().filter(|(from, to)| self.group(*from, level) != self.group(*to, level)).count()
    }

    fn plan(&self, algorithm: Algorithm, collective: Collective, root: u32, channels: u32) -> Plan {
        let call = Call::new(collective, DataType::F32, Reduction::Sum, root, 1000);
        let tuning = Tuning { algorithm: Some(algorithm), channels: Some(channels), ..Tuning::default() };
        Plan::new(&self.world, &call, &tuning).expect("a plan")
    }
}

/// Levels of names; the level behind is that of hosts.
const DEEPEST: usize = 3;

/// Who puts messages to whom.
fn edges(plan: &Plan, channel: u32) -> BTreeSet<(u32, u32)> {
    let ranks = 0..plan.world().size();
    let puts =
        |rank: u32| plan.steps(rank, channel).filter(|step| step.put == Put::Pair).map(move |step| (rank, step.to));
    ranks.flat_map(puts).collect()
}

/// Sites of several shapes, unequal and with holes, their hosts in no order, and how many ranks each has.
fn jobs() -> Vec<Job> {
    let mut jobs = Vec::new();
    for seed in 0..60 {
        let mut chance = Chance::new(seed);
        let (pods, racks, most_hosts) = (chance.between(1, 4), chance.between(1, 5), chance.between(1, 7));
        let mut locations: Vec<Location> = Vec::new();
        for pod in 0..pods {
            for rack in 0..racks {
                for _ in 0..chance.between(1, most_hosts) {
                    let text = match seed % 4 {
                        0 => format!("rack{}", pod * racks + rack),
                        1 => format!("pod{pod}/rack{rack}"),
                        2 => format!("fabric{}/pod{pod}/rack{rack}", pod % 2),
                        // Of some hosts nobody knows where they are, of others the pod alone.
                        _ => match chance.below(5) {
                            0 => String::new(),
                            1 => format!("pod{pod}"),
                            _ => format!("pod{pod}/rack{rack}"),
                        },
                    };
                    locations.push(text.parse().unwrap_or_default());
                }
            }
        }
        shuffle(&mut locations, &mut chance);
        let most = chance.pick(&[1, 1, 2, 4]);
        let ranks: Vec<u32> = locations.iter().map(|_| chance.between(1, most) as u32).collect();
        jobs.push(Job::new(locations, &ranks, chance.one_in(2)));
    }
    assert!(jobs.iter().any(|job| job.groups(1) > 1 && job.groups(2) > job.groups(1)));
    jobs
}

fn shuffle<T>(things: &mut [T], chance: &mut Chance) {
    for last in (1..things.len()).rev() {
        things.swap(last, chance.below(last as u64 + 1) as usize);
    }
}

#[test]
fn a_ring_enters_every_rack_every_pod_and_every_host_once() {
    for job in jobs().iter().filter(|job| job.world.size() > 1) {
        for collective in [Collective::AllReduce, Collective::AllGather, Collective::ReduceScatter] {
            let ring = edges(&job.plan(Algorithm::Ring, collective, 0, 1), 0);
            assert_eq!(ring.len(), job.world.size() as usize);
            for level in 1..=DEEPEST + 1 {
                let groups = job.groups(level);
                let fewest = if groups > 1 { groups } else { 0 };
                assert_eq!(job.crossing(&ring, level), fewest, "{collective}, level {level}, {:?}", job.locations);
            }
        }
    }
}

#[test]
fn a_chain_that_broadcasts_goes_round_the_same_ring_from_whatever_root() {
    for job in jobs().iter().filter(|job| job.world.size() > 1).take(20) {
        let size = job.world.size();
        let ring = edges(&job.plan(Algorithm::Ring, Collective::AllReduce, 0, 1), 0);
        for (collective, root) in [(Collective::Broadcast, size - 1), (Collective::Reduce, size / 2)] {
            let chain = edges(&job.plan(Algorithm::Ring, collective, root, 1), 0);
            assert!(chain.is_subset(&ring) && chain.len() as u32 == size - 1);
        }
    }
}

#[test]
fn both_trees_enter_every_group_no_more_often_than_they_must() {
    for job in jobs().iter().filter(|job| job.world.size() > 1) {
        let size = job.world.size();
        for (collective, root) in
            [(Collective::Broadcast, 0), (Collective::Broadcast, size - 1), (Collective::Reduce, size / 2)]
        {
            let plan = job.plan(Algorithm::Tree, collective, root, 2);
            for channel in 0..2 {
                let tree = edges(&plan, channel);
                assert_eq!(tree.len() as u32, size - 1);
                for level in 1..=DEEPEST + 1 {
                    let groups = job.groups(level);
                    let crossing = job.crossing(&tree, level);
                    let (optimum, slack) = (groups - 1, groups.next_power_of_two().trailing_zeros() as usize);
                    assert!(crossing <= optimum + slack, "{crossing} over {groups} groups");
                    assert_eq!(crossing, optimum, "the tree that is built does without the slack");
                }
            }
        }
    }
}

#[test]
fn rails_keep_to_themselves_and_go_round_racks_as_rings_do() {
    let mut outer = 0;
    for job in jobs() {
        for collective in
            [Collective::AllReduce, Collective::AllGather, Collective::ReduceScatter, Collective::Broadcast]
        {
            let call = Call::new(collective, DataType::F32, Reduction::Sum, 0, 5000);
            let tuning = Tuning { algorithm: Some(Algorithm::Hierarchy), ..Tuning::default() };
            // Where every host has one rank there is no hierarchy.
            let Ok(plan) = Plan::new(&job.world, &call, &tuning) else { continue };
            let mut rails: BTreeMap<u32, BTreeSet<(u32, u32)>> = BTreeMap::new();
            for rank in 0..job.world.size() {
                for step in plan.steps(rank, 0).filter(|step| step.group() == Group::Outer && step.put == Put::Pair) {
                    let (own, other) = (job.world.seat(rank).1, job.world.seat(step.to).1);
                    assert_eq!(own, other, "{collective} goes from one rail to another");
                    rails.entry(own).or_default().insert((rank, step.to));
                    outer += 1;
                }
            }
            // More domains than meet directly: a ring, or for a broadcast a tree.
            if job.world.domain_count() > 8 && collective != Collective::AllReduce {
                let tree = usize::from(collective == Collective::Broadcast);
                for (level, edges) in (1..=DEEPEST).flat_map(|level| rails.values().map(move |edges| (level, edges))) {
                    let groups = job.groups(level);
                    let fewest = if groups > 1 { groups - tree } else { 0 };
                    assert_eq!(job.crossing(edges, level), fewest, "{collective} at level {level}");
                }
            }
        }
    }
    assert!(outer > 0);
}

#[test]
fn a_ring_on_a_torus_goes_to_neighbours() {
    let sides = [4u32, 3, 2];
    let mut all: Vec<[u32; 3]> = Vec::new();
    for x in 0..sides[0] {
        for y in 0..sides[1] {
            all.extend((0..sides[2]).map(|z| [x, y, z]));
        }
    }
    for seed in 0..20 {
        shuffle(&mut all, &mut Chance::new(seed));
        let locations = all.iter().map(|[x, y, z]| format!("torus/{x},{y},{z}").parse().unwrap()).collect();
        let job = Job::new(locations, &vec![2; all.len()], seed % 2 == 0);
        let ring = edges(&job.plan(Algorithm::Ring, Collective::AllReduce, 0, 1), 0);
        let apart = |a: u32, b: u32, side: u32| a.abs_diff(b).min(side - a.abs_diff(b));
        for (from, to) in ring {
            let [one, other] = [from, to].map(|rank| all[job.host_of[rank as usize] as usize]);
            let hops: u32 = (0..3).map(|side| apart(one[side], other[side], sides[side])).sum();
            assert!(hops <= 1, "{one:?} to {other:?}");
        }
    }
}
