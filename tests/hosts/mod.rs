//! Hosts made of network namespaces: each has its own name, its own interfaces and its own loopback, and looks like a host to the library.
//!
//! ```text
//!   this test ── holds ──> host 0          host 1          host 2           a process each, which ends with this one; a namespace
//!                          eth0  eth1      eth0  eth1      eth0  eth1       lasts as long as its processes
//!                            │     │         │     │         │     │
//!                        ════╧═════┼═════════╧═════┼═══╗ ╔═══╧═════┼═══     network 0: a bridge a rack, racks on a cable
//!                        ══════════╧═══════════════╧═══╝ ╚═════════╧═══     network 1
//! ```
//!
//! Host `h` is 10.66.`n`.`h + 1` and fd66:`n`::`h + 1` on network `n`. Nothing leads out.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};

/// What hosts there are and how they are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Layout {
    pub hosts: usize,
    pub networks: usize,
    pub racks: usize,
}

/// A process that keeps a namespace.
pub struct Holder {
    pub child: Child,
    /// It ends when this closes.
    _stdin: ChildStdin,
}

/// The hosts of a test.
pub struct Hosts {
    layout: Layout,
    pub switch: Holder,
    pub hosts: Vec<Holder>,
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ended_before = self.child.kill();
        let _known = self.child.wait();
    }
}

impl Holder {
    fn new(name: &str) -> Result<Holder, String> {
        let script = format!("hostname {name} && ip link set lo up && echo ready && exec cat");
        let mut command = Command::new("unshare");
        command.args(["--net", "--uts", "sh", "-c", &script]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("no command unshare ({error})"))?;
        let (stdin, stdout) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        let mut first = String::new();
        BufReader::new(stdout).read_line(&mut first).map_err(|error| error.to_string())?;
        if first.trim() == "ready" {
            return Ok(Holder { child, _stdin: stdin });
        }
        drop(stdin);
        let said = child.wait_with_output().map_err(|error| error.to_string())?;
        Err(format!("no network namespace can be made ({})", String::from_utf8_lossy(&said.stderr).trim()))
    }

    /// Runs commands of `ip` in the namespace, one a line.
    pub fn ip(&self, lines: &str) -> Result<(), String> {
        let pid = self.child.id().to_string();
        let mut command = Command::new("nsenter");
        command.args(["--net", "--target", &pid, "ip", "-batch", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("no command nsenter ({error})"))?;
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(lines.as_bytes()).map_err(|error| error.to_string())?;
        drop(stdin);
        let said = child.wait_with_output().map_err(|error| error.to_string())?;
        let complaint = String::from_utf8_lossy(&said.stderr).trim().to_string();
        if said.status.success() { Ok(()) } else { Err(format!("ip refused something: {complaint}\n{lines}")) }
    }
}

impl Hosts {
    /// These hosts, or why there can be none here.
    pub fn new(layout: Layout) -> Result<Hosts, String> {
        let switch = Holder::new("switch")?;
        let hosts = (0..layout.hosts).map(|host| Holder::new(&format!("host{host}"))).collect::<Result<Vec<_>, _>>()?;
        let made = Hosts { layout, switch, hosts };
        made.switch.ip(&made.cables())?;
        for (host, holder) in made.hosts.iter().enumerate() {
            let lines = (0..layout.networks).map(|network| {
                format!(
                    "addr add {}/24 dev eth{network}\naddr add fd66:{network}::{}/64 dev eth{network} nodad\nlink set eth{network} up\n",
                    Hosts::address(host, network),
                    host + 1
                )
            });
            holder.ip(&lines.collect::<String>())?;
        }
        Ok(made)
    }

    /// What the switch is told.
    fn cables(&self) -> String {
        let mut lines = String::new();
        let mut say = |line: String| lines.push_str(&(line + "\n"));
        for network in 0..self.layout.networks {
            for rack in 0..self.layout.racks {
                say(format!("link add name n{network}r{rack} type bridge"));
                say(format!("link set n{network}r{rack} up"));
            }
            for rack in 1..self.layout.racks {
                say(format!("link add name u{network}r{rack} type veth peer name d{network}r{rack}"));
                for (end, at) in [("u", 0), ("d", rack)] {
                    say(format!("link set {end}{network}r{rack} master n{network}r{at}"));
                    say(format!("link set {end}{network}r{rack} up"));
                }
            }
            for (host, holder) in self.hosts.iter().enumerate() {
                let (port, pid) = (format!("n{network}h{host}"), holder.child.id());
                say(format!("link add name {port} type veth peer name eth{network} netns {pid}"));
                say(format!("link set {port} master n{network}r{}", host * self.layout.racks / self.layout.hosts));
                say(format!("link set {port} up"));
            }
        }
        lines
    }

    /// A host's address on a network.
    pub fn address(host: usize, network: usize) -> String {
        format!("10.66.{network}.{}", host + 1)
    }

    /// Lets a command run on that host.
    pub fn enter(&self, command: &mut Command, host: usize) {
        let pid = self.hosts[host].child.id();
        let open =
            |kind: &str| std::fs::File::open(format!("/proc/{pid}/ns/{kind}")).expect("the namespace of a living host");
        let (net, uts) = (open("net"), open("uts"));
        // SAFETY: between fork and exec only two system calls are made, with descriptors that were opened before.
        unsafe {
            command.pre_exec(move || {
                for namespace in [&net, &uts] {
                    nix::sched::setns(namespace, nix::sched::CloneFlags::empty())?;
                }
                Ok(())
            });
        }
    }
}
