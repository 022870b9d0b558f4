//! Hosts of a site, and ranks on them.

use crate::Failure;
use crate::values::MOST_RANKS;
use ringtree::plan::World;
use ringtree::topo::site::{Location, Order, Site, compress, expand};
use std::fmt::Write;

/// More groups of hosts are not for people.
const MOST_SHOWN: usize = 12;

/// The ranks of a job on hosts of a site.
pub(super) struct OnSite {
    pub(super) world: World,
    /// In which order rings visit the hosts, in words.
    pub(super) words: String,
}

/// `hosts`: a list, in the order in which the job has them; none: all of the site. `sizes`: how many ranks each has; none: one a rail.
pub(super) fn on_site(site: &Site, hosts: Option<&str>, sizes: &[u32]) -> Result<OnSite, Failure> {
    let names: Vec<String> = match hosts {
        Some(list) => expand(list).map_err(|wrong| Failure::Usage(format!("--hosts: {wrong}")))?,
        None => site.hosts().map(|(name, _)| name.to_string()).collect(),
    };
    let sizes = if sizes.is_empty() { vec![site.rails.max(1); names.len()] } else { sizes.to_vec() };
    if sizes.len() != names.len() {
        return Err(Failure::Usage(format!(
            "there are {} hosts, and sizes of {} domains: give one for each host",
            names.len(),
            sizes.len()
        )));
    }
    let ranks: u64 = sizes.iter().copied().map(u64::from).sum();
    if ranks == 0 || ranks > u64::from(MOST_RANKS) {
        return Err(Failure::Usage(format!("these hosts have {ranks} ranks; from 1 to {MOST_RANKS} are planned here")));
    }
    let unknown = Location::default();
    let places: Vec<&Location> = names.iter().map(|name| site.find(name).unwrap_or(&unknown)).collect();
    let order = Order::of(&places.iter().map(|place| place.mark()).collect::<Vec<_>>());
    let turns = order.turns();
    let domains = turns.iter().zip(&sizes).flat_map(|(turn, size)| std::iter::repeat_n(*turn, *size as usize));
    let world = World::in_order(&domains.collect::<Vec<_>>(), &order.borders);
    let visits: Vec<(&Location, &str)> =
        order.visits.iter().map(|host| (places[*host as usize], &names[*host as usize][..])).collect();
    let groups: Vec<&[(&Location, &str)]> = visits.chunk_by(|one, next| one.0 == next.0).collect();
    let mut words = String::from("Rings visit the hosts in this order:");
    for group in groups.iter().take(MOST_SHOWN) {
        let hosts: Vec<&str> = group.iter().map(|(_, name)| *name).collect();
        let _ = write!(words, "\n  {}: {}", group[0].0, compress(&hosts));
    }
    if groups.len() > MOST_SHOWN {
        let _ = write!(words, "\n  … and {} more places", groups.len() - MOST_SHOWN);
    }
    Ok(OnSite { world, words })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SITE: &str = "ringtree-site 1\nrails 2\nplace a n[1-2]\nplace b n[3-4]\n";

    #[test]
    fn hosts_come_in_the_order_of_the_job_and_are_visited_rack_by_rack() {
        let site = Site::parse(SITE).unwrap();
        let job = on_site(&site, Some("n3,n1,n[4,2],x"), &[1, 1, 1, 1, 2]).unwrap_or_else(|_| panic!("a job"));
        assert_eq!(job.world, World::in_order(&[0, 2, 1, 3, 4, 4], &[vec![0, 2, 4]]));
        assert!(job.words.ends_with("\n  b: n[3-4]\n  a: n[1-2]\n  unknown: x"), "{}", job.words);
    }

    #[test]
    fn without_a_list_all_hosts_take_part_with_a_rank_a_rail() {
        let site = Site::parse(SITE).unwrap();
        let job = on_site(&site, None, &[]).unwrap_or_else(|_| panic!("a job"));
        assert_eq!(job.world, World::in_order(&[0, 0, 1, 1, 2, 2, 3, 3], &[vec![0, 2]]));
        assert!(on_site(&site, None, &[1, 2]).is_err() && on_site(&site, Some("n[1"), &[]).is_err());
    }
}
