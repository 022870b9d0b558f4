//! Which ranks of a communicator are near each other. All ranks come to the same answer, from what all of them said at the start.
//!
//! A rank that is bound to processors of one cache, or of one NUMA node, belongs to that domain. One that may run anywhere is near nobody
//! in particular: the scheduler moves it while plans stay as they are. Then all ranks are in one domain, and `ringtree doctor` tells
//! how to bind them. What counts is the binding at the start; a rank that is bound later is taken as it was.
//!
//! Where there are several hosts, these are the domains, and come in an order that keeps those of a rack together.

use super::setup::processor_mask;
use crate::config::Domains;
use crate::error::Result;
use crate::plan::World;
use crate::topo::detect::{Home, home};
use crate::topo::graph::CpuSet;
use crate::topo::site::{Mark, Order};
use std::path::Path;

/// In place of a cache's or a node's number: the rank does not know it.
pub(super) const UNKNOWN: u32 = u32::MAX;

/// The cache and the node that this thread is bound to.
pub(super) fn own_home() -> [u32; 2] {
    let mask = processor_mask();
    let cpus: CpuSet =
        (0..64 * mask.len()).filter(|cpu| mask[cpu / 64] >> (cpu % 64) & 1 == 1).map(|cpu| cpu as u32).collect();
    let Home { cache, node } = home(Path::new("/"), &cpus);
    [cache, node].map(|domain| domain.unwrap_or(UNKNOWN))
}

/// The world of ranks that live there, if nobody says otherwise: by caches where these tell ranks apart, by nodes if not.
pub(super) fn chosen(domains: &Domains, homes: &[[u32; 2]]) -> Result<World> {
    let size = homes.len() as u32;
    domains.check(size)?;
    Ok(match domains {
        Domains::Flat => World::flat(size),
        Domains::Sizes(sizes) => useful(World::domains(sizes)),
        Domains::Auto => {
            let at = |level: usize| homes.iter().map(|home| home[level]).collect::<Vec<u32>>();
            let known = [at(0), at(1)].into_iter().filter(|level| !level.contains(&UNKNOWN));
            let mut worlds = known.map(|level| useful(World::from_domains(&level)));
            worlds.find(|world| world.domain_count() > 1).unwrap_or_else(|| World::flat(size))
        }
    })
}

/// The world of ranks on those hosts, between which there are sockets alone, and which are there in their site.
pub(super) fn of_hosts(domains: &Domains, hosts: &[u32], marks: &[Mark]) -> Result<World> {
    let size = hosts.len() as u32;
    domains.check(size)?;
    let world = match domains {
        Domains::Flat => World::flat(size),
        Domains::Sizes(sizes) => World::domains(sizes),
        Domains::Auto => World::from_domains(hosts),
    };
    Ok(useful(on_site(&world, marks)))
}

/// The same domains in the order in which rings visit them; a domain is where its lowest rank is.
fn on_site(world: &World, marks: &[Mark]) -> World {
    let mark_of = |domain: u32| world.domain(domain).get(0).and_then(|rank| marks.get(rank as usize));
    let order = Order::of(
        &(0..world.domain_count()).map(|domain| mark_of(domain).copied().unwrap_or_default()).collect::<Vec<_>>(),
    );
    let turns = order.turns();
    let domain_of: Vec<u32> = (0..world.size()).map(|rank| turns[world.seat(rank).0 as usize]).collect();
    World::in_order(&domain_of, &order.borders)
}

/// The world of ranks that are in no particular place: threads, which their program may move as it likes.
pub(super) fn of_threads(domains: &Domains, size: u32) -> Result<World> {
    chosen(domains, &vec![[UNKNOWN; 2]; size as usize])
}

/// The world of some ranks of another one: each keeps its domain.
pub(super) fn of_members(parent: &World, members: &[usize]) -> World {
    useful(part(parent, members))
}

/// The same where ranks are on several hosts, which are there in their site.
pub(super) fn of_members_on_hosts(parent: &World, members: &[usize], marks: &[Mark]) -> World {
    useful(on_site(&part(parent, members), marks))
}

fn part(parent: &World, members: &[usize]) -> World {
    World::from_domains(&members.iter().map(|member| parent.seat(*member as u32).0).collect::<Vec<_>>())
}

/// Domains of one rank each tell nothing, unless there is an order to visit them in: no link is better than another.
fn useful(world: World) -> World {
    let alone = (0..world.domain_count()).all(|domain| world.domain(domain).len() < 2);
    if alone && !world.has_order() { World::flat(world.size()) } else { world }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topo::site::Location;

    fn auto(caches: &[u32], nodes: &[u32]) -> World {
        let homes: Vec<[u32; 2]> = caches.iter().zip(nodes).map(|(cache, node)| [*cache, *node]).collect();
        chosen(&Domains::Auto, &homes).expect("a world")
    }

    #[test]
    fn ranks_that_share_caches_are_divided_by_them() {
        assert_eq!(auto(&[0, 0, 8, 8], &[0, 0, 0, 0]), World::domains(&[2, 2]));
        assert_eq!(auto(&[8, 0, 8, 0, 8], &[0; 5]), World::from_domains(&[0, 1, 0, 1, 0]));
    }

    #[test]
    fn where_caches_tell_nothing_nodes_do() {
        assert_eq!(auto(&[0, 4, 8, 12], &[0, 0, 8, 8]), World::domains(&[2, 2]), "each alone in its cache");
        assert_eq!(auto(&[0, UNKNOWN, 8, 8], &[0, 0, 8, 8]), World::domains(&[2, 2]), "one spans two caches");
        assert_eq!(auto(&[UNKNOWN; 3], &[0, 0, 8]), World::domains(&[2, 1]), "caches can't be seen");
    }

    #[test]
    fn one_rank_that_may_run_anywhere_leaves_all_in_one_domain() {
        let flat = World::flat(4);
        assert_eq!(auto(&[0, 0, 8, UNKNOWN], &[0, 0, 8, UNKNOWN]), flat);
        assert_eq!(auto(&[UNKNOWN; 4], &[UNKNOWN; 4]), flat);
        assert_eq!(auto(&[0; 4], &[0; 4]), flat, "all share one cache");
        assert_eq!(auto(&[0, 1, 2, 3], &[0, 1, 2, 3]), flat, "nobody is near anybody");
    }

    #[test]
    fn a_setting_is_stronger_than_what_is_found() {
        let homes = [[0, 0], [0, 0], [8, 8], [8, 8]];
        assert_eq!(chosen(&Domains::Flat, &homes).unwrap(), World::flat(4));
        assert_eq!(chosen(&Domains::Sizes(vec![1, 3]), &homes).unwrap(), World::domains(&[1, 3]));
        assert!(chosen(&Domains::Sizes(vec![1, 2]), &homes).is_err());
        assert_eq!(of_threads(&Domains::Auto, 4).unwrap(), World::flat(4));
        assert_eq!(of_threads(&Domains::Sizes(vec![2, 2]), 4).unwrap(), World::domains(&[2, 2]));
    }

    fn marks(locations: &[&str]) -> Vec<Mark> {
        locations.iter().map(|text| text.parse::<Location>().unwrap().mark()).collect()
    }

    #[test]
    fn hosts_are_visited_rack_by_rack_and_racks_are_known() {
        let racks = marks(&["a", "a", "b", "a", "b", "c"]);
        let world = of_hosts(&Domains::Auto, &[0, 0, 1, 2, 3, 4], &racks).unwrap();
        assert_eq!(world, World::in_order(&[0, 0, 2, 1, 3, 4], &[vec![0, 2, 4]]));
        assert_eq!(of_hosts(&Domains::Flat, &[0, 0, 1, 2, 3, 4], &racks).unwrap(), World::flat(6));
        let sizes = of_hosts(&Domains::Sizes(vec![2, 1, 3]), &[0, 0, 1, 2, 3, 4], &racks).unwrap();
        assert_eq!(sizes, World::in_order(&[0, 0, 2, 1, 1, 1], &[vec![0, 2]]));
    }

    #[test]
    fn hosts_of_one_rank_have_an_order_where_racks_are_known_and_none_where_not() {
        let unknown = vec![Mark::default(); 4];
        assert_eq!(of_hosts(&Domains::Auto, &[0, 1, 2, 3], &unknown).unwrap(), World::flat(4));
        let world = of_hosts(&Domains::Auto, &[0, 1, 2, 3], &marks(&["a", "b", "a", "b"])).unwrap();
        assert_eq!(world, World::in_order(&[0, 2, 1, 3], &[vec![0, 2]]));
        let members = |members: &[usize], racks: &[&str]| of_members_on_hosts(&world, members, &marks(racks));
        assert_eq!(members(&[3, 2, 1, 0], &["b", "a", "b", "a"]), World::in_order(&[0, 2, 1, 3], &[vec![0, 2]]));
        assert_eq!(members(&[1, 3], &["b", "b"]), World::flat(2), "one rack");
        assert_eq!(of_hosts(&Domains::Auto, &[0; 4], &unknown).unwrap(), World::flat(4));
    }

    #[test]
    fn members_keep_the_domains_of_their_parent() {
        let parent = World::domains(&[3, 3, 1]);
        assert_eq!(of_members(&parent, &[0, 1, 2, 3, 4, 5, 6]), parent);
        assert_eq!(of_members(&parent, &[5, 0, 4, 1]), World::from_domains(&[0, 1, 0, 1]));
        assert_eq!(of_members(&parent, &[0, 3]), World::flat(2));
        assert_eq!(of_members(&parent, &[3, 4, 5]), World::flat(3));
        assert_eq!(of_members(&World::flat(5), &[4, 2]), World::flat(2));
    }
}
