//! A network namespace for the server, and a virtual link to it that can fail.
//!
//! No packet leaves the machine: the addresses belong to the range reserved for benchmarks (198.18.0.0/15), and they
//! are unreachable while the link is down.

use crate::RunError;
use std::path::Path;
use std::process::Command;

/// The network namespace of a server. It is removed when this is dropped.
#[derive(Debug)]
pub(super) struct NetNamespace {
    name: String,
    /// The name of this end of the link.
    outside: String,
    subnet: String,
    /// The address of the server.
    pub(super) host: String,
}

/// The name of the end of the link in the namespace.
const INSIDE: &str = "server";

impl NetNamespace {
    /// Creates a namespace, or returns why the machine does not allow it.
    pub(super) fn new() -> Result<Self, RunError> {
        let id = std::process::id();
        let (outside, subnet) = (format!("sl{id}"), format!("198.18.{}", id % 250));
        let (name, host) = (format!("syncline-{id}"), format!("{subnet}.2"));
        run("ip", &["netns", "add", &name])?;
        let net = Self { name, outside, subnet, host };
        let (name, outside, subnet) = (&net.name, &net.outside, &net.subnet);
        run("ip", &["link", "add", outside, "type", "veth", "peer", "name", INSIDE, "netns", name])?;
        run("ip", &["addr", "add", &format!("{subnet}.1/30"), "dev", outside])?;
        // Without the link there must be no other route, such as the default route.
        run("ip", &["route", "add", "unreachable", &format!("{subnet}.0/30"), "metric", "4096"])?;
        run("ip", &["link", "set", outside, "up"])?;
        run("ip", &["-n", name, "addr", "add", &format!("{}/30", net.host), "dev", INSIDE])?;
        run("ip", &["-n", name, "link", "set", "lo", "up"])?;
        net.set_link(true)?;
        Ok(net)
    }

    /// Returns the words of a command that runs another command in the namespace.
    pub(super) fn wrapper(&self) -> Vec<String> {
        ["ip", "netns", "exec", &self.name].map(str::to_owned).into()
    }

    /// Sets the link up or down. This happens in the namespace, so that the outer end keeps its routes.
    pub(super) fn set_link(&self, is_up: bool) -> Result<(), RunError> {
        run("ip", &["-n", &self.name, "link", "set", INSIDE, if is_up { "up" } else { "down" }])
    }

    /// Starts or stops to drop, delay, reorder and duplicate packets.
    pub(super) fn set_packet_loss(&self, is_enabled: bool) -> Result<(), RunError> {
        if !is_enabled {
            return run("tc", &["qdisc", "del", "dev", &self.outside, "root"]);
        }
        let how = ["netem", "delay", "20ms", "15ms", "loss", "5%", "reorder", "10%", "duplicate", "2%"];
        run("tc", &[&["qdisc", "replace", "dev", &self.outside, "root"], &how[..]].concat())
    }
}

impl Drop for NetNamespace {
    fn drop(&mut self) {
        // A namespace may have been created only in part, so errors are ignored.
        let _ = run("ip", &["link", "del", &self.outside]);
        let _ = run("ip", &["route", "del", "unreachable", &format!("{}.0/30", self.subnet), "metric", "4096"]);
        let _ = run("ip", &["netns", "del", &self.name]);
    }
}

fn run(program: &str, args: &[&str]) -> Result<(), RunError> {
    let output = Command::new(program).args(args).output().map_err(RunError::because("start", Path::new(program)))?;
    if output.status.success() {
        return Ok(());
    }
    let (command, status) = (format!("{program} {}", args.join(" ")), output.status.to_string());
    Err(RunError::Command { command, status, said: String::from_utf8_lossy(&output.stderr).trim().to_owned() })
}
