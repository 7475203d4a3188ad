//! The bridge that hosts are connected to, and rules by which packets are lost.

use std::fmt;

use crate::commands::{run, run_with_input};

/// The client's address on the bridge.
pub(super) const CLIENT: &str = "10.77.0.1";

/// Creates the bridge, with the client's address, in the namespace of this process.
pub(super) fn set_up_bridge() -> anyhow::Result<()> {
    run("ip link set lo up")?;
    run("ip link add farcall0 type bridge")?;
    run(&format!("ip addr add {CLIENT}/24 dev farcall0"))?;
    run("ip link set farcall0 up")
}

/// The packets that are dropped on arrival, so that their sender learns nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drops {
    /// This part of them, in percent, at random.
    Percent(u32),
    All,
}

impl fmt::Display for Drops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percent(part) => write!(f, "numgen random mod 100 < {part} drop"),
            Self::All => write!(f, "drop"),
        }
    }
}

/// Drops packets from an address: at the host with the process `pid`, at the client without one. `None` drops none.
pub(super) fn drop_from(address: &str, pid: Option<i32>, drops: Option<Drops>) -> anyhow::Result<()> {
    let table = format!("farcall_{}", address.replace('.', "_"));
    let rule = drops.map_or_else(String::new, |drops| format!("ip saddr {address} {drops}\n"));
    let rules = format!(
        "table inet {table} {{}}\ndelete table inet {table}\ntable inet {table} {{\nchain input {{\n\
         type filter hook input priority 0;\n{rule}}}\n}}\n"
    );
    let enter = pid.map_or_else(String::new, |pid| format!("nsenter -t {pid} -n "));
    run_with_input(&format!("{enter}nft -f -"), &rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_rules_of_nftables() {
        assert_eq!(Drops::Percent(5).to_string(), "numgen random mod 100 < 5 drop");
        assert_eq!(Drops::All.to_string(), "drop");
    }
}
