//! Which computer this is, which process, and whether another process of it lives: what temp files and leases are signed with.

use super::read::read_system;
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::OnceLock;

/// The signature of a process.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Process {
    /// The node's name; a batch system's own name for it where there is one.
    pub host: String,
    /// Changes with every start of the computer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
    /// The space that the pid is counted in: containers have their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid_space: Option<String>,
    pub pid: u32,
    /// Clock ticks from the computer's start to the process's: tells processes of the same pid apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<u64>,
}

impl Process {
    /// This process.
    pub fn this() -> &'static Self {
        static THIS: OnceLock<Process> = OnceLock::new();
        THIS.get_or_init(|| {
            let pid = std::process::id();
            let name = std::env::var("SLURMD_NODENAME").ok().filter(|n| !n.is_empty());
            Self {
                host: name
                    .or_else(|| line("/proc/sys/kernel/hostname"))
                    .unwrap_or_else(host_by_command),
                boot: line("/proc/sys/kernel/random/boot_id"),
                pid_space: std::fs::read_link("/proc/self/ns/pid")
                    .ok()
                    .map(|p| p.to_string_lossy().into_owned()),
                pid,
                began: began(pid),
            }
        })
    }

    /// Whether this process of this computer has ended; `None` where that cannot be seen from here.
    pub fn has_ended(&self) -> Option<bool> {
        let here = Self::this();
        let seen = self.host == here.host
            && self.boot.is_some()
            && self.boot == here.boot
            && self.pid_space.is_some()
            && self.pid_space == here.pid_space;
        seen.then(|| match (began(self.pid), self.began) {
            (None, _) => !alive(self.pid),
            (Some(now), Some(then)) => now != then,
            (Some(_), None) => false,
        })
    }

    /// A short name of the space in which pids of this process's kind are unique.
    pub fn space(&self) -> String {
        let all = format!("{} {:?} {:?}", self.host, self.boot, self.pid_space);
        let hash = Sha256::digest(all.as_bytes());
        hash[..4].iter().map(|b| format!("{b:02x}")).collect()
    }
}

/// Whether a process of this pid is there, in this process's own space; true where the system does not tell.
pub fn alive(pid: u32) -> bool {
    let processes = Path::new("/proc/self/stat");
    !processes.exists() || began(pid).is_some()
}

/// What `uname -n` says, on systems without `/proc`.
fn host_by_command() -> String {
    let said = std::process::Command::new("uname").arg("-n").output();
    said.map_or_else(
        |_| String::new(),
        |o| String::from_utf8_lossy(&o.stdout).trim().to_owned(),
    )
}

fn line(path: &str) -> Option<String> {
    Some(read_system(path)?.trim().to_owned())
}

/// Field 22 of `/proc/<pid>/stat`; nothing for a process that has ended and was not waited for.
fn began(pid: u32) -> Option<u64> {
    let stat = read_system(format!("/proc/{pid}/stat"))?;
    // The name in brackets may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    match fields.next()? {
        "Z" | "X" => None,
        _ => fields.nth(18)?.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives_and_one_that_was_waited_for_does_not() {
        let this = Process::this();
        assert_eq!(this.has_ended(), Some(false));
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let of_child = Process {
            pid: child.id(),
            began: began(child.id()),
            ..this.clone()
        };
        assert_eq!(of_child.has_ended(), Some(false));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(of_child.has_ended(), Some(true));
        // The same pid begun at another time is another process.
        let reused = Process {
            began: Some(1),
            ..this.clone()
        };
        assert_eq!(reused.has_ended(), Some(true));
        for elsewhere in [
            Process {
                host: "n2".into(),
                ..of_child.clone()
            },
            Process {
                boot: Some("x".into()),
                ..of_child.clone()
            },
            Process {
                pid_space: Some("pid:[1]".into()),
                ..of_child.clone()
            },
            Process {
                boot: None,
                ..of_child.clone()
            },
        ] {
            assert_eq!(elsewhere.has_ended(), None);
        }
    }
}
