//! What happens to networks, and strangers on other hosts.

use crate::hosts::Hosts;
use std::fs::File;

impl Hosts {
    /// Moves this thread to that host's network, for the rest of its life.
    pub fn visit(&self, host: usize) {
        let net = File::open(format!("/proc/{}/ns/net", self.hosts[host].child.id())).expect("a living host");
        nix::sched::setns(net, nix::sched::CloneFlags::CLONE_NEWNET).expect("a network to move to");
    }

    /// Takes an interface of a host down.
    pub fn take_down(&self, host: usize, network: usize) {
        self.hosts[host].ip(&format!("link set eth{network} down\n")).expect("an interface of ours");
    }

    /// Takes the cable of an interface out at the switch: the host sees nothing but silence.
    pub fn cut(&self, host: usize, network: usize) {
        self.switch.ip(&format!("link set n{network}h{host} nomaster\n")).expect("a port of ours");
    }
}
