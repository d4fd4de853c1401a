//! A host for the server: a network namespace of its own, and a cable to it, which can be pulled.
//!
//! Nothing leaves the machine: the addresses are those that are set aside for measuring networks, and where the cable is
//! pulled, they lead nowhere.

use crate::Trouble;
use std::path::Path;
use std::process::Command;

/// The network namespace of a server. Removed when it is dropped.
#[derive(Debug)]
pub(super) struct NetNamespace {
    name: String,
    /// This end of the cable.
    outside: String,
    subnet: String,
    /// The address of the server.
    pub(super) host: String,
}

/// The other end of the cable.
const INSIDE: &str = "server";

impl NetNamespace {
    /// Makes one. Where the machine does not allow that, why.
    pub(super) fn new() -> Result<Self, Trouble> {
        let id = std::process::id();
        let (outside, subnet) = (format!("sl{id}"), format!("198.18.{}", id % 250));
        let (name, host) = (format!("syncline-{id}"), format!("{subnet}.2"));
        run("ip", &["netns", "add", &name])?;
        let net = Self { name, outside, subnet, host };
        let (name, outside, subnet) = (&net.name, &net.outside, &net.subnet);
        run("ip", &["link", "add", outside, "type", "veth", "peer", "name", INSIDE, "netns", name])?;
        run("ip", &["addr", "add", &format!("{subnet}.1/30"), "dev", outside])?;
        // Where the cable is no way, there is no other.
        run("ip", &["route", "add", "unreachable", &format!("{subnet}.0/30"), "metric", "4096"])?;
        run("ip", &["link", "set", outside, "up"])?;
        run("ip", &["-n", name, "addr", "add", &format!("{}/30", net.host), "dev", INSIDE])?;
        run("ip", &["-n", name, "link", "set", "lo", "up"])?;
        net.set_link(true)?;
        Ok(net)
    }

    /// What comes before a command that is to run there.
    pub(super) fn wrapper(&self) -> Vec<String> {
        ["ip", "netns", "exec", &self.name].map(str::to_owned).into()
    }

    /// Pulls the cable, or plugs it in. At the far end, so that this one keeps its routes.
    pub(super) fn set_link(&self, is_in: bool) -> Result<(), Trouble> {
        run("ip", &["-n", &self.name, "link", "set", INSIDE, if is_in { "up" } else { "down" }])
    }

    /// Loses packets, delays them and lets them overtake each other; or no more.
    pub(super) fn set_packet_loss(&self, is_bad: bool) -> Result<(), Trouble> {
        if !is_bad {
            return run("tc", &["qdisc", "del", "dev", &self.outside, "root"]);
        }
        let how = ["netem", "delay", "20ms", "15ms", "loss", "5%", "reorder", "10%", "duplicate", "2%"];
        run("tc", &[&["qdisc", "replace", "dev", &self.outside, "root"], &how[..]].concat())
    }
}

impl Drop for NetNamespace {
    fn drop(&mut self) {
        // What is left of one that was not made as a whole can't be removed as a whole.
        let _ = run("ip", &["link", "del", &self.outside]);
        let _ = run("ip", &["route", "del", "unreachable", &format!("{}.0/30", self.subnet), "metric", "4096"]);
        let _ = run("ip", &["netns", "del", &self.name]);
    }
}

fn run(program: &str, args: &[&str]) -> Result<(), Trouble> {
    let output = Command::new(program).args(args).output().map_err(Trouble::because("start", Path::new(program)))?;
    if output.status.success() {
        return Ok(());
    }
    let (command, status) = (format!("{program} {}", args.join(" ")), output.status.to_string());
    Err(Trouble::Command { command, status, said: String::from_utf8_lossy(&output.stderr).trim().to_owned() })
}
