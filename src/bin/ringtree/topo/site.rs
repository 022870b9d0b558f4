//! A site for people: its groups within each other, and their hosts.

use super::outline::{Entry, What};
use super::picture::draw_groups;
use super::text::rails;
use crate::terminal::Paint;
use ringtree::topo::site::{Location, Order, Site, compress};
use std::fmt::Write;

/// Longer lists of hosts are not for pictures.
const LONGEST_DRAWN: usize = 110;

/// What it is, in a line.
fn title(site: &Site) -> String {
    let (hosts, rails) = (site.hosts().len(), site.rails);
    let rails = if rails > 0 { format!(", {rails} rails") } else { String::new() };
    format!("{}{rails}, {hosts} host{}", site.fabric, if hosts == 1 { "" } else { "s" })
}

/// The groups, and the hosts of each, in the order in which rings visit them. `own` is where this host is.
fn entries(site: &Site, own: &Location) -> Vec<Entry> {
    let hosts: Vec<(&str, &Location)> = site.hosts().collect();
    let order = Order::of(&hosts.iter().map(|(_, location)| location.mark()).collect::<Vec<_>>());
    let visits: Vec<(&str, &Location)> = order.visits.iter().map(|host| hosts[*host as usize]).collect();
    let mut entries = Vec::new();
    let mut before: &[String] = &[];
    for together in visits.chunk_by(|one, next| one.1 == next.1) {
        let names = together[0].1.names();
        let known = names.iter().zip(before).take_while(|(name, other)| name == other).count();
        for (level, name) in names.iter().enumerate().skip(known) {
            let own_group = own.names().starts_with(&names[..=level]);
            let text = if own_group { format!("{name} (this host is in it)") } else { name.clone() };
            entries.push(Entry { depth: level, what: What::Group { own: own_group }, text });
        }
        let list = compress(&together.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        let text = if names.is_empty() { format!("nobody says where: {list}") } else { list };
        entries.push(Entry { depth: names.len(), what: What::Hosts, text });
        before = names;
    }
    entries
}

/// For people.
pub(super) fn outline(site: &Site, own: &Location, paint: Paint) -> String {
    let entries = entries(site, own);
    let mut out = paint.bold(&title(site)) + "\n";
    for (at, Entry { text, what, .. }) in entries.iter().enumerate() {
        let text = match what {
            What::Group { own: true } => paint.green(text),
            What::Group { own: false } => paint.bold(text),
            _ => text.clone(),
        };
        let _ = writeln!(out, "{}{text}", rails(&entries, at));
    }
    out
}

/// The same drawn.
pub(super) fn picture(site: &Site, own: &Location) -> String {
    let mut entries = entries(site, own);
    for entry in &mut entries {
        if entry.text.len() > LONGEST_DRAWN {
            entry.text.truncate(LONGEST_DRAWN);
            entry.text.push('…');
        }
    }
    draw_groups(&title(site), &entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_within_each_other_and_the_own_one_is_told() {
        let text = "ringtree-site 1\nrails 2\nplace p1/r1 n[1-2]\nplace p2/r1 n3\nplace p1/r2 n4\nplace unknown n5\n";
        let site = Site::parse(text).unwrap();
        let shown = outline(&site, &"p1/r2".parse().unwrap(), Paint::plain());
        let expected = "fat-tree, 2 rails, 5 hosts\n├─ p1 (this host is in it)\n│  ├─ r1\n│  │  └─ n[1-2]\n\
                        │  └─ r2 (this host is in it)\n│     └─ n4\n├─ p2\n│  └─ r1\n│     └─ n3\n└─ nobody says where: n5\n";
        assert_eq!(shown, expected);
        let drawn = picture(&site, &Location::default());
        assert!(drawn.starts_with("<svg ") && drawn.contains("n[1-2]") && !drawn.contains("this host"), "{drawn}");
    }
}
