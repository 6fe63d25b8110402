//! The container contract without a container engine: the worker as process 1 of a root directory that holds what the
//! image copies and the libraries of its base that the binary needs, read-only, as the image's user, without rights.
//!
//! What this cannot show is that the image builds, and that the versions of the base's libraries fit.

use std::{
    fs::{self, Permissions},
    net::TcpListener,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    collector::Collector,
    image::{Copy, Image},
    process::{Ended, Process, signal},
    repository,
};

/// The path of programs in the image.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The libraries that a binary may need: those of Rust's in `distroless/cc`.
const LIBRARIES: [&str; 6] = ["libc.so", "libm.so", "libgcc_s.so", "libdl.so", "libpthread.so", "ld-linux"];

/// Lays the mounts that an engine would, in namespaces of its own, and becomes the image's command.
const ENTER: &str = r#"
set -eu
root=$1 state=$2 user=$3 group=$4 workdir=$5 volume=$6
shift 6
echo box >/proc/sys/kernel/hostname
mount --bind "$root" "$root"
mount --bind "$state" "$root$volume"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mount -o remount,bind,ro "$root"
exec setpriv --no-new-privs unshare --root="$root" --wd="$workdir" --setgid="$group" --setuid="$user" "$@"
"#;

struct Container {
    process: Process,
    folder: TempDir,
}

impl Container {
    /// Starts the image's command, with these flows mounted in place of its own, and telemetry to a collector outside.
    fn start(flows: &Path, collector: &Collector) -> Self {
        Self::start_at("127.0.0.1:0", flows, collector)
    }

    /// Starts one that is asked how it is at this address, which is of the machine's own network.
    fn start_at(health: &str, flows: &Path, collector: &Collector) -> Self {
        let (image, folder) = (Image::read(), tempfile::tempdir().unwrap());
        let (root, state) = (folder.path().join("root"), folder.path().join("state"));
        lay(&image, &root, flows);
        fs::create_dir(&state).unwrap();
        let (user, group) = image.user.split_once(':').unwrap();
        chown(&state, user.parse().ok(), group.parse().ok())
            .expect("these tests give files away and lay mounts: run them as root");
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "sh", "-c", ENTER, "sh"])
            .args([root.as_os_str(), state.as_os_str()])
            .args([user, group, &image.workdir, &image.volume])
            .args(&image.command)
            .env_clear()
            .env("PATH", PATH)
            .envs(image.environment)
            .env("FLOWGEN_HEALTH__ADDRESS", health)
            .env("FLOWGEN_TELEMETRY__ENABLED", "true")
            .env("FLOWGEN_TELEMETRY__OTLP_ENDPOINT", format!("http://collector:{}", collector.port));
        Self { process: Process::start(&mut command), folder }
    }

    /// Returns the id, as seen from outside, of the process that is number 1 inside.
    fn first_process(&self) -> u32 {
        let outer = self.process.id();
        let children = fs::read_to_string(format!("/proc/{outer}/task/{outer}/children")).unwrap();
        children.trim().parse().unwrap()
    }

    /// Panics unless it is as locked in as the contract says.
    fn assert_locked_in(&self) {
        let inside = |file: &str| {
            let path = format!("/proc/{}/{file}", self.first_process());
            fs::read_to_string(path).unwrap()
        };
        let status = inside("status");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(field("Name:"), ["flowgen"]);
        assert_eq!(field("NSpid:").last().unwrap(), "1", "process 1 gets no signal that it does not ask for");
        assert_eq!((field("Uid:"), field("Gid:")), (vec!["65532".into(); 4], vec!["65532".into(); 4]));
        assert_eq!(field("Groups:"), Vec::<String>::new());
        assert_eq!((field("CapEff:"), field("NoNewPrivs:")), (vec!["0".repeat(16)], vec!["1".into()]));
        let mounts = inside("mountinfo");
        let options = |point: &str| {
            let mut lines = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
            lines.find(|fields| fields[4] == point).unwrap()[5].to_owned()
        };
        assert!(options("/").starts_with("ro,"), "{mounts}");
        assert!(options("/var/lib/flowgen").starts_with("rw,"), "{mounts}");
    }

    /// Returns where the volume is, seen from outside.
    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Asks process 1 to stop, as an engine does.
    fn stop(&self) {
        signal(self.first_process(), Signal::TERM);
    }

    /// Waits for it to end. What it wrote is there as long as the folder.
    fn end(self) -> (Ended, TempDir) {
        (self.process.end(), self.folder)
    }
}

/// Lays out the root directory: what the image copies, the libraries, and what an engine puts there.
fn lay(image: &Image, root: &Path, flows: &Path) {
    for folder in ["proc", "dev", "tmp", "etc"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::set_permissions(root.join("tmp"), Permissions::from_mode(0o1777)).unwrap();
    fs::write(root.join("etc/hosts"), "127.0.0.1 localhost\n127.0.0.1 collector\n").unwrap();
    let binary = Path::new(env!("CARGO_BIN_EXE_flowgen"));
    for library in libraries(binary) {
        copy_file(&library, &inside(root, &library));
    }
    for Copy { source, target, .. } in &image.copies {
        let target = inside(root, Path::new(target));
        match source.as_str() {
            "/out/flowgen" => copy_file(binary, &target),
            "/out/state" => fs::create_dir_all(target).unwrap(),
            "flows" => copy_folder(flows, &target),
            other => panic!("what is `{other}` in a root directory?"),
        }
    }
}

fn inside(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap())
}

fn copy_file(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(from, to).unwrap();
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        copy_file(&path, &to.join(path.file_name().unwrap()));
    }
}

/// Returns the paths of the libraries that a binary is linked with, after checking that the base image has them.
fn libraries(binary: &Path) -> Vec<PathBuf> {
    let output = Command::new("ldd").arg(binary).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let paths = text.lines().flat_map(str::split_whitespace).filter(|word| word.starts_with('/'));
    let paths: Vec<_> = paths.map(PathBuf::from).collect();
    for path in &paths {
        let name = path.file_name().unwrap().to_string_lossy();
        assert!(LIBRARIES.iter().any(|library| name.starts_with(library)), "{name} is not in the base image");
    }
    assert!(paths.len() > 1, "{text}");
    paths
}

#[test]
fn the_images_own_flows_run_and_report_and_stop() {
    let collector = Collector::start();
    let mut container = Container::start(&repository().join("flows"), &collector);
    container.process.until(&["flowgen is running"]);
    container.assert_locked_in();
    container.stop();
    let (ended, _folder) = container.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let (drained, flushed) = (ended.only("flow drained"), ended.only("telemetry flushed"));

    let received = collector.stop();
    received.assert_whole_traces();
    let ticks = received.handled_by("tick");
    assert_eq!(drained["entered"], ticks.len());
    assert_eq!(drained["completed"], received.handled_by("tick_log").len());
    assert_eq!(flushed["spans_created"], received.spans.len());
    assert_eq!(ticks[0].resource["host.name"], "box");
    assert_eq!(ticks[0].resource["service.name"], "flowgen");
}

/// The image's own check, as an engine runs it: beside process 1, with the variables of the image.
#[test]
fn the_images_check_tells_whether_it_is_ready() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let check = || {
        let image = Image::read();
        let [program, arguments @ ..] = &image.check[..] else { panic!("there is no check") };
        assert_eq!(program, "flowgen");
        // The flows of the image are not mounted here.
        let arguments: Vec<_> = arguments.iter().map(|word| word.replace("/flows", "flows")).collect();
        let mut command = crate::flowgen(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        command.envs(image.environment).env("FLOWGEN_HEALTH__ADDRESS", &address).output().unwrap()
    };
    assert_eq!(check().status.code(), Some(1), "nothing runs");
    let collector = Collector::start();
    let mut container = Container::start_at(&address, &repository().join("flows"), &collector);
    container.process.until(&["flowgen is running"]);
    let checked = check();
    assert_eq!((checked.status.code(), checked.stdout.as_slice()), (Some(0), &b"ready\n"[..]));
    container.stop();
    let (ended, _folder) = container.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

#[test]
fn a_flow_writes_to_the_volume() {
    let flows = flows_that_write_to("/var/lib/flowgen/numbers.jsonl");
    let collector = Collector::start();
    let container = Container::start(flows.path(), &collector);
    let written = container.state().join("numbers.jsonl");
    let (ended, _folder) = container.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(fs::read_to_string(written).unwrap().lines().count(), 3);
    assert_eq!(collector.stop().handled_by("out").len(), 3);
}

#[test]
fn a_flow_writes_nowhere_else() {
    for (path, cause) in
        [("/tmp/numbers.jsonl", "Read-only file system"), ("/numbers.jsonl", "Permission denied")]
    {
        let flows = flows_that_write_to(path);
        let (ended, _folder) = Container::start(flows.path(), &Collector::start()).end();
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        assert!(ended.stderr.contains(cause), "{}", ended.stderr);
    }
}

/// Returns a folder with one flow that writes three lines to a file.
fn flows_that_write_to(path: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let flow = format!(
        "
flow:
  name: writes
  tasks:
    - generate: {{name: numbers, count: 3}}
    - file_write: {{name: out, path: {path}}}
"
    );
    fs::write(folder.path().join("flow.yaml"), flow).unwrap();
    folder
}
