//! What is mounted where, as the kernel tells it: for data that would go with its container.

use std::path::{Path, PathBuf};

/// Where the kernel tells it.
pub(crate) const FILE: &str = "/proc/self/mountinfo";

/// What is mounted, in the order of mounting.
#[derive(Debug, Default)]
pub struct Mounts(Vec<Mount>);

#[derive(Debug)]
struct Mount {
    point: PathBuf,
    file_system: String,
    /// The file system's own options.
    options: String,
}

impl Mounts {
    /// Reads the text of `/proc/self/mountinfo` (proc_pid_mountinfo(5)). Lines of another form are passed over.
    pub fn parse(text: &str) -> Mounts {
        Mounts(text.lines().filter_map(mount).collect())
    }

    /// Whether `path`, which is absolute and without links, lies on the writable layer of a container: on an overlay of
    /// directories that belong to a container engine. It is gone once the container is made anew.
    pub fn lies_in_container(&self, path: &Path) -> bool {
        let longest = self.0.iter().filter(|mount| path.starts_with(&mount.point));
        // Of several at one place, the last one is what is seen.
        let Some(mount) = longest.max_by_key(|mount| mount.point.as_os_str().len()) else { return false };
        let is_overlay = matches!(mount.file_system.as_str(), "overlay" | "fuse.fuse-overlayfs" | "aufs");
        let mut options = mount.options.split(',');
        let upper = options.find_map(|option| option.strip_prefix("upperdir="));
        let of_engine = |dir: &str| ENGINES.iter().any(|engine| dir.contains(engine));
        // Without an upper directory nothing can be written, or the options do not tell it.
        is_overlay && upper.is_none_or(of_engine)
    }

    /// Whether something is mounted at `from`, at `to` below it, or at a directory between them.
    pub(crate) fn has_between(&self, from: &Path, to: &Path) -> bool {
        self.0.iter().any(|mount| mount.point.starts_with(from) && to.starts_with(&mount.point))
    }
}

/// Parts of the paths under which Docker, containerd (and so Kubernetes), Podman and CRI-O keep layers.
const ENGINES: [&str; 3] = ["docker", "containerd", "containers/storage"];

fn mount(line: &str) -> Option<Mount> {
    let (place, kind) = line.split_once(" - ")?;
    let point = PathBuf::from(unescaped(place.split(' ').nth(4)?));
    let mut kind = kind.split(' ');
    let (file_system, _source, options) = (kind.next()?.to_string(), kind.next()?, kind.next().unwrap_or_default());
    Some(Mount { point, file_system, options: options.to_string() })
}

/// The kernel writes blanks, tabs, line feeds and backslashes as three octal digits.
fn unescaped(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_string(), |text, (escaped, plain)| text.replace(escaped, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As in a container of Docker with volumes at /data, and at a directory whose name has a blank.
    const DOCKER: &str = "\
1107 876 0:121 / / rw,relatime master:399 - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/GQ:/var/lib/docker/overlay2/l/OB,upperdir=/var/lib/docker/overlay2/4e31/diff,workdir=/var/lib/docker/overlay2/4e31/work,nouserxattr
1108 1107 0:124 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw
1112 1107 254:1 /var/lib/docker/volumes/etcd/_data /data rw,relatime master:1 - ext4 /dev/vda1 rw,discard,errors=remount-ro
1113 1107 254:1 /srv /my\\040data rw,relatime - ext4 /dev/vda1 rw
";

    fn lies_in_container(text: &str, path: &str) -> bool {
        Mounts::parse(text).lies_in_container(Path::new(path))
    }

    #[test]
    fn what_is_not_on_a_volume_goes_with_the_container() {
        for path in ["/", "/default.quorate", "/var/lib/etcd", "/database"] {
            assert!(lies_in_container(DOCKER, path), "{path}");
        }
        for path in ["/data", "/data/etcd", "/my data/etcd"] {
            assert!(!lies_in_container(DOCKER, path), "{path}");
        }
    }

    #[test]
    fn other_engines_have_other_directories() {
        for options in [
            "rw,lowerdir=/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/1/fs,upperdir=/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/2/fs,workdir=/w",
            "rw,lowerdir=/l,upperdir=/var/lib/containers/storage/overlay/ab/diff,workdir=/w",
            "rw,lowerdir=/l,upperdir=/home/me/.local/share/containers/storage/overlay/ab/diff,workdir=/w,userxattr",
            "rw,user_id=0,group_id=0,default_permissions,allow_other",
        ] {
            assert!(lies_in_container(&format!("1 2 0:1 / / rw - overlay overlay {options}\n"), "/data"), "{options}");
        }
    }

    #[test]
    fn other_overlays_and_other_file_systems_are_no_containers() {
        let live = "1 2 0:1 / / rw - overlay overlay rw,lowerdir=/ro,upperdir=/media/root-rw/overlay,workdir=/w\n";
        let machine = "1 2 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n";
        for text in [live, machine, "", "no such line\n", "1 2 3 - \n"] {
            assert!(!lies_in_container(text, "/data"), "{text}");
        }
    }

    #[test]
    fn what_was_mounted_last_is_seen() {
        let twice =
            format!("{DOCKER}1120 1107 0:130 / /data rw - overlay overlay rw,upperdir=/var/lib/docker/x,workdir=/w\n");
        assert!(lies_in_container(&twice, "/data/etcd"));
    }

    #[test]
    fn volumes_are_found_between_two_directories() {
        let has = |point: &str| {
            let mounts = Mounts::parse(&format!("1 2 254:1 / {point} rw - ext4 /dev/vda1 rw\n"));
            mounts.has_between(Path::new("/bitnami"), Path::new("/bitnami/etcd/data"))
        };
        for (point, want) in [
            ("/bitnami", true),
            ("/bitnami/etcd", true),
            ("/bitnami/etcd/data", true),
            ("/", false),
            ("/bitnami/etcd/data/x", false),
            ("/bitnami/other", false),
        ] {
            assert_eq!(has(point), want, "{point}");
        }
    }
}
