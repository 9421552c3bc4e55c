//! A real Slurm of two fake nodes on this machine: munged, slurmctld and a slurmd a node, as whoever runs the tests, without
//! systemd, cgroups, accounting or anything outside its folder. Listens on 127.0.0.1 only.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) const NODES: [&str; 2] = ["n1", "n2"];

/// What must be there: Debian's slurm-wlm and munge, and a name for this user, by which Slurm knows him.
pub(crate) fn missing() -> Vec<&'static str> {
    let programs = [
        "munged",
        "slurmctld",
        "slurmd",
        "sbatch",
        "squeue",
        "scontrol",
        "scancel",
    ];
    let named = Command::new("id").arg("-un").output().is_ok_and(|o| o.status.success());
    let absent = programs.into_iter().filter(|p| find(p).is_none());
    absent.chain((!named).then_some("name for this user")).collect()
}

/// A program's path; daemons lie where users do not look.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into(), "/usr/local/sbin".into()]);
    places.map(|p| p.join(program)).find(|p| p.is_file())
}

/// Waits until something holds.
pub(crate) fn until(what: &str, seconds: u64, holds: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(seconds);
    while !holds() {
        assert!(Instant::now() < end, "gave up waiting for {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

pub(crate) struct Testbed {
    dir: PathBuf,
    munged: Child,
    controller: Child,
    nodes: Vec<(&'static str, Option<Child>)>,
}

impl Testbed {
    /// Starts a cluster in `dir`, whose path must be short: munge's socket has 107 characters at most.
    pub(crate) fn start(dir: &Path, max_array: usize) -> Self {
        fs::create_dir_all(dir.join("log")).unwrap();
        for d in ["state", "spool/n1", "spool/n2"] {
            fs::create_dir_all(dir.join(d)).unwrap();
        }
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(dir.join("slurm.conf"), configuration(dir, max_array)).unwrap();
        let key: Vec<u8> = (0..1024_u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        fs::write(dir.join("munge.key"), key).unwrap();
        fs::set_permissions(dir.join("munge.key"), fs::Permissions::from_mode(0o600)).unwrap();
        let path = |name: &str| dir.join(name).display().to_string();
        let munged = daemon(
            dir,
            "munged",
            &[
                "--foreground",
                "--force",
                &format!("--socket={}", path("munge.socket")),
                &format!("--key-file={}", path("munge.key")),
                &format!("--pid-file={}", path("munge.pid")),
                &format!("--seed-file={}", path("munge.seed")),
                &format!("--log-file={}", path("log/munged.log")),
            ],
            &[],
        );
        until("munged", 30, || dir.join("munge.socket").exists());
        let controller = daemon(dir, "slurmctld", &["-D", "-c", "-f", &path("slurm.conf")], &[]);
        let mut testbed = Self {
            dir: dir.to_owned(),
            munged,
            controller,
            nodes: NODES.map(|n| (n, None)).into_iter().collect(),
        };
        until("slurmctld", 30, || testbed.ask("scontrol", &["ping"]).contains("UP"));
        for n in NODES {
            testbed.start_node(n);
        }
        testbed
    }

    pub(crate) fn configuration(&self) -> PathBuf {
        self.dir.join("slurm.conf")
    }

    /// What a program of Slurm says on stdout.
    pub(crate) fn ask(&self, program: &str, args: &[&str]) -> String {
        let out = Command::new(program)
            .args(args)
            .env("SLURM_CONF", self.configuration())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    fn slot(&mut self, node: &str) -> &mut Option<Child> {
        &mut self.nodes.iter_mut().find(|n| n.0 == node).unwrap().1
    }

    /// Starts a node, or brings it back.
    pub(crate) fn start_node(&mut self, node: &'static str) {
        if self.slot(node).is_none() {
            let conf = self.configuration().display().to_string();
            let child = daemon(
                &self.dir,
                "slurmd",
                &["-D", "-N", node, "-f", &conf],
                &[("TESTBED_NODE", node)],
            );
            *self.slot(node) = Some(child);
        }
        until(&format!("node {node}"), 60, || {
            let state = self.ask("sinfo", &["-h", "-N", "-n", node, "-o", "%T"]);
            ["idle", "mixed", "allocated", "completing"].contains(&state.trim())
        });
    }

    /// What a cut cable does: the node falls silent, its jobs live on.
    pub(crate) fn mute_node(&mut self, node: &str) {
        if let Some(mut slurmd) = self.slot(node).take() {
            slurmd.kill().unwrap();
            slurmd.wait().unwrap();
        }
    }

    /// What a power cut does: no process of the node is left. How many processes of medft were among them.
    pub(crate) fn kill_node(&mut self, node: &str) -> usize {
        self.mute_node(node);
        let mut medft = 0;
        for pid in self.processes(Some(node)) {
            let args = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            medft += usize::from(String::from_utf8_lossy(&args).contains("as-medft\0run\0"));
            signal(pid, "-KILL");
        }
        medft
    }

    /// Stops the controller, or lets it go on.
    pub(crate) fn controller(&self, signal_name: &str) {
        signal(self.controller.id(), signal_name);
    }

    pub(crate) fn controller_pid(&self) -> u32 {
        self.controller.id()
    }

    /// Processes of jobs, of one node or of all, with the slurmstepd above each.
    fn processes(&self, node: Option<&str>) -> Vec<u32> {
        let conf = format!("SLURM_CONF={}", self.configuration().display());
        let mut out = Vec::new();
        for e in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = e.file_name().to_string_lossy().parse::<u32>() else {
                continue;
            };
            let environ = fs::read(e.path().join("environ")).unwrap_or_default();
            let has = |text: &str| environ.split(|b| *b == 0).any(|v| v == text.as_bytes());
            let of_node = match node {
                Some(n) => has(&format!("SLURMD_NODENAME={n}")),
                None => NODES.iter().any(|n| has(&format!("SLURMD_NODENAME={n}"))),
            };
            if !of_node || !has(&conf) {
                continue;
            }
            let stat = fs::read_to_string(e.path().join("stat")).unwrap_or_default();
            let parent = stat
                .rsplit(')')
                .next()
                .and_then(|s| s.split_whitespace().nth(1)?.parse::<u32>().ok());
            let name = |pid: u32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            // The step first: else it would tell the controller of its job's end.
            if let Some(p) = parent.filter(|p| name(*p).starts_with("slurmstepd")) {
                out.insert(0, p);
            }
            out.push(pid);
        }
        out.sort_unstable_by_key(|p| {
            !fs::read_to_string(format!("/proc/{p}/comm"))
                .unwrap_or_default()
                .starts_with("slurmstepd")
        });
        out.dedup();
        out
    }
}

impl Drop for Testbed {
    fn drop(&mut self) {
        self.controller("-CONT");
        self.ask("scancel", &["--me"]);
        std::thread::sleep(Duration::from_millis(500));
        for node in NODES {
            self.mute_node(node);
        }
        for pid in self.processes(None) {
            signal(pid, "-KILL");
        }
        for child in [&mut self.controller, &mut self.munged] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub(crate) fn signal(pid: u32, name: &str) {
    let _ = Command::new("kill")
        .args([name, &pid.to_string()])
        .stderr(Stdio::null())
        .status();
}

fn daemon(dir: &Path, program: &str, args: &[&str], env: &[(&str, &str)]) -> Child {
    let node = env.first().map_or("", |e| e.1);
    let log = fs::File::options()
        .create(true)
        .append(true)
        .open(dir.join(format!("log/{program}{node}.out")))
        .unwrap();
    Command::new(find(program).unwrap())
        .args(args)
        .envs(env.iter().copied())
        .env("SLURM_CONF", dir.join("slurm.conf"))
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

fn configuration(dir: &Path, max_array: usize) -> String {
    let said = |program: &str, text: &str| {
        let out = Command::new(program).arg(text).output().unwrap().stdout;
        String::from_utf8_lossy(&out).trim().to_owned()
    };
    let user = said("id", "-un");
    let host = said("uname", "-n");
    let host = host.split('.').next().unwrap();
    let listeners: Vec<TcpListener> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let ports: Vec<u16> = listeners.iter().map(|l| l.local_addr().unwrap().port()).collect();
    let dir = dir.display();
    let nodes: String = NODES
        .iter()
        .zip(&ports[1..])
        .map(|(n, port)| {
            format!(
                "NodeName={n} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=2 RealMemory=4000 State=UNKNOWN\n"
            )
        })
        .collect();
    // A requeued job may start again only when its old credential has run out: 120 s if nothing is said, 5 s at least.
    format!(
        "ClusterName=testbed
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={dir}/munge.socket,cred_expire=5
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={dir}/state
SlurmdSpoolDir={dir}/spool/%n
SlurmctldPidFile={dir}/slurmctld.pid
SlurmdPidFile={dir}/slurmd-%n.pid
SlurmctldLogFile={dir}/log/slurmctld.log
SlurmdLogFile={dir}/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,sched_min_interval=100000,bf_interval=1,batch_sched_delay=0
PriorityType=priority/basic
PropagateResourceLimits=NONE
JobRequeue=1
ReturnToService=2
MinJobAge=300
MaxArraySize={max_array}
KillWait=5
CompleteWait=0
InactiveLimit=0
SlurmctldTimeout=30
SlurmdTimeout=5
MessageTimeout=5
TCPTimeout=2
SlurmdParameters=config_overrides
{nodes}PartitionName=main Nodes=n[1-2] Default=YES MaxTime=INFINITE State=UP
",
        ports[0]
    )
}
