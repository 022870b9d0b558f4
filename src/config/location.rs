//! Where this host is in its site: what the user or the scheduler says of racks and pods.
//!
//! | first that says something | what it is |
//! |---|---|
//! | RINGTREE_LOCATION | the names themselves, as pod1/rack3 |
//! | RINGTREE_SITE | a file that says it of every host ([`crate::topo::site`]) |
//! | RINGTREE_LOCATION_FROM | names of variables that hold the names, as the labels of a Kubernetes node |
//! | SLURM_TOPOLOGY_ADDR, SLURM_TOPOLOGY_ADDR_PATTERN | set by Slurm where it knows the switches |

use crate::boot::{HOST_NAMES, host_name};
use crate::error::{Error, Result};
use crate::topo::site::{Location, MOST_LEVELS, Site, of_slurm, of_variables};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Once;

/// No site's file has more bytes.
const MAX_FILE: u64 = 16 << 20;

/// Where this host is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Located {
    /// The names of the groups that it is in; none where nobody knows.
    pub location: Location,
    /// Who says so.
    pub from: String,
    /// What was said and is of no use, where the location is unknown because of that.
    pub complaint: Option<String>,
}

impl Located {
    fn by(location: Location, from: impl Into<String>) -> Located {
        Located { location, from: from.into(), complaint: None }
    }
}

/// Where this host is, by these variables.
pub fn locate(variable: impl Fn(&str) -> Option<String>) -> Result<Located> {
    if let Some(text) = variable("RINGTREE_LOCATION") {
        let advice = "Set it to names from the outermost group inwards, as pod1/rack3, or to unknown";
        let location = text.parse().map_err(|wrong: String| bad("RINGTREE_LOCATION", &text, &wrong, advice))?;
        return Ok(Located::by(location, "RINGTREE_LOCATION"));
    }
    if let Some(path) = variable("RINGTREE_SITE") {
        return in_file(&path, &own_names(&variable));
    }
    if let Some(text) = variable("RINGTREE_LOCATION_FROM") {
        return from_labels(&text, &variable);
    }
    let (Some(address), Some(pattern)) = (variable("SLURM_TOPOLOGY_ADDR"), variable("SLURM_TOPOLOGY_ADDR_PATTERN"))
    else {
        return Ok(Located::default());
    };
    let from = "SLURM_TOPOLOGY_ADDR".to_string();
    Ok(match of_slurm(&address, &pattern) {
        Ok(location) => Located::by(location, from),
        Err(wrong) => Located { complaint: Some(format!("{from} is of no use: {wrong}")), from, ..Located::default() },
    })
}

/// Says once why nobody knows where this host is, if somebody tried to say it.
pub(super) fn complain_once(variable: impl Fn(&str) -> Option<String>) {
    static ONCE: Once = Once::new();
    if let Ok(Located { complaint: Some(complaint), .. }) = locate(variable) {
        ONCE.call_once(|| log::warn!("where this host is stays unknown: {complaint}"));
    }
}

/// The site that a file describes.
pub fn read_site(path: &Path) -> Result<Site> {
    let failed = |why: String| Error::Choice {
        what: format!("the site '{}' can't be read: {why}", path.display()),
        advice: "Name a file that begins with 'ringtree-site 1'".into(),
    };
    let options = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let mut bytes = Vec::new();
    let read = options.and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes));
    read.map_err(|error| failed(error.to_string()))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(failed(format!("it has more than {} MiB", MAX_FILE >> 20)));
    }
    let text = String::from_utf8(bytes).map_err(|_| failed("it is no text in UTF-8".into()))?;
    Site::parse(&text).map_err(|wrong| failed(wrong.to_string()))
}

/// Names that this host may have in a file, the most telling first.
fn own_names(variable: &impl Fn(&str) -> Option<String>) -> Vec<String> {
    let told = HOST_NAMES.iter().chain(&["SLURMD_NODENAME"]).filter_map(|name| variable(name));
    told.chain([host_name()]).filter(|name| !name.is_empty()).collect()
}

fn in_file(path: &str, names: &[String]) -> Result<Located> {
    let site = read_site(Path::new(path)).map_err(|error| {
        let advice = "Set it to a file that every host can read (`ringtree topo --site FILE` shows what is in it)";
        Error::Choice { what: format!("RINGTREE_SITE is '{path}': {error}"), advice: advice.into() }
    })?;
    let from = format!("RINGTREE_SITE={}", path.escape_debug());
    Ok(match names.iter().find_map(|name| site.find(name)) {
        Some(location) => Located::by(location.clone(), from),
        None => {
            let complaint = format!(
                "{from} has {} hosts, and none is {} (RINGTREE_HOST gives this host another name)",
                site.hosts().len(),
                names.join(" or ").escape_debug()
            );
            Located { complaint: Some(complaint), from, ..Located::default() }
        }
    })
}

fn from_labels(text: &str, variable: &impl Fn(&str) -> Option<String>) -> Result<Located> {
    let setting = "RINGTREE_LOCATION_FROM";
    let advice = "Set it to the names of variables, the outermost group's first, as REGION,ZONE,SPINE,LEAF";
    let names: Vec<&str> = text.split(',').map(str::trim).collect();
    let odd =
        |name: &&str| name.is_empty() || name.contains(|letter: char| !letter.is_ascii_graphic() || letter == '=');
    if let Some(name) = names.iter().find(|name| odd(name)) {
        return Err(bad(setting, text, &format!("'{name}' is no name of a variable"), advice));
    }
    if names.len() > MOST_LEVELS {
        return Err(bad(setting, text, &format!("more than {MOST_LEVELS} names"), advice));
    }
    let location = of_variables(&names, variable).map_err(|wrong| bad(setting, text, &wrong, advice))?;
    let unset = location.is_unknown().then(|| format!("{setting} is '{text}', and none of these variables is set"));
    Ok(Located { location, from: format!("{setting}={}", text.escape_debug()), complaint: unset })
}

fn bad(name: &str, text: &str, why: &str, advice: &str) -> Error {
    Error::Choice { what: format!("{name} is '{text}': {why}"), advice: advice.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &[(&str, &str)]) -> Result<Located> {
        locate(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string()))
    }

    fn names(pairs: &[(&str, &str)]) -> String {
        with(pairs).unwrap().location.to_string()
    }

    /// A file that goes with the test.
    struct File(std::path::PathBuf);

    impl File {
        fn new(name: &str, text: &str) -> File {
            let path = std::env::temp_dir().join(format!("ringtree-site-{name}-{}", std::process::id()));
            std::fs::write(&path, text).unwrap();
            File(path)
        }

        fn path(&self) -> &str {
            self.0.to_str().unwrap()
        }
    }

    impl Drop for File {
        fn drop(&mut self) {
            let _gone = std::fs::remove_file(&self.0);
        }
    }

    const SLURM: [(&str, &str); 2] =
        [("SLURM_TOPOLOGY_ADDR", "core.leaf2.node12"), ("SLURM_TOPOLOGY_ADDR_PATTERN", "switch.switch.node")];

    #[test]
    fn who_says_it_more_plainly_is_heard_first() {
        let site = File::new("order", "ringtree-site 1\nplace pod1/rack3 node12\n");
        let all = [
            SLURM[0],
            SLURM[1],
            ("RINGTREE_LOCATION_FROM", "ZONE"),
            ("ZONE", "z1"),
            ("RINGTREE_SITE", site.path()),
            ("SLURMD_NODENAME", "node12"),
            ("RINGTREE_LOCATION", "here/there"),
        ];
        assert_eq!(names(&all[..2]), "core/leaf2");
        assert_eq!(names(&all[..4]), "z1");
        assert_eq!(names(&all[..6]), "pod1/rack3");
        assert_eq!(names(&all), "here/there");
        assert_eq!(with(&[]).unwrap(), Located::default());
    }

    #[test]
    fn a_host_is_found_by_what_it_was_told_before_what_it_is_called() {
        let site = File::new("names", "ringtree-site 1\nplace a node1\nplace b node2\n");
        let file = ("RINGTREE_SITE", site.path());
        assert_eq!(names(&[file, ("SLURMD_NODENAME", "node1"), ("RINGTREE_HOST", "node2")]), "b");
        let lost = with(&[file, ("RINGTREE_HOST", "node3")]).unwrap();
        assert!(lost.location.is_unknown() && lost.complaint.unwrap().contains("none is node3"));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_line_or_its_name() {
        let site = File::new("wrong", "ringtree-site 1\nplace a node[1\n");
        let wrong = |pairs: &[(&str, &str)]| with(pairs).unwrap_err().to_string();
        let message = wrong(&[("RINGTREE_SITE", site.path())]);
        assert!(message.contains("RINGTREE_SITE") && message.contains("line 2:"), "{message}");
        assert!(wrong(&[("RINGTREE_SITE", "/no/such/file")]).contains("No such file"));
        assert!(wrong(&[("RINGTREE_LOCATION", "a//b")]).contains("RINGTREE_LOCATION is 'a//b'"));
        assert!(wrong(&[("RINGTREE_LOCATION_FROM", "A,,B")]).contains("no name of a variable"));
        assert!(wrong(&[("RINGTREE_LOCATION_FROM", "A"), ("A", "x y")]).contains("A: "));
    }

    #[test]
    fn what_a_scheduler_says_wrongly_is_no_error() {
        let odd = with(&[("SLURM_TOPOLOGY_ADDR", "core"), SLURM[1]]).unwrap();
        assert!(odd.location.is_unknown() && odd.complaint.unwrap().contains("SLURM_TOPOLOGY_ADDR"));
        assert!(with(&[("RINGTREE_LOCATION_FROM", "A,B")]).unwrap().complaint.unwrap().contains("none of these"));
    }
}
