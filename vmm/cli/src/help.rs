//! Texts of `--help` beyond the options: what a newcomer types first.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Below the help of `shem`.
pub const SHEM: &str = "\
Examples:
  shem doctor                                  is this machine ready?
  shem image build alpine -o my.gvmi           make an image of Docker's, or of a folder
  shem run my.gvmi -- echo hello               boot it and run a command
  shem run -it my.gvmi -- sh                   a shell in it
  shem shell my.gvmi                           the same, as Golem's providers run it
  shem cp box:/var/log ./log                   files out of the VM named box

`shem help run` tells more about each command.";

/// Below the help of `shem run`.
pub const RUN: &str = "\
Examples:
  shem run my.gvmi -- echo hello               run a command and take over its exit status
  shem run my.gvmi                             run the image's own ENTRYPOINT and CMD
  shem run -it my.gvmi -- sh                   an interactive shell
  echo hello | shem run -i my.gvmi -- wc -c    feed a command
  shem run -m 2g --cpus 4 -e DEBUG=1 my.gvmi -- make test
  shem run task.gvmi base.gvmi -- app          two images stacked, the first on top
  shem run -v ./src:/src:ro my.gvmi -- ls /src       a folder of this host
  shem run -v cache:/var/cache my.gvmi -- build      a volume with a name, kept
  shem run --mount type=disk,src=db.img,size=10g,dst=/db my.gvmi -- db
  shem run --disk-size 20g my.gvmi -- make -C /usr/src/big
  shem run -p 8080:80 my.gvmi -- httpd -f            port 80 of the VM at 8080 of this host
  shem run --net passt my.gvmi -- wget http://example.com
  shem run --net tap=tap0,ip=10.0.0.2/24,gateway=10.0.0.1 my.gvmi -- serve
  shem run --plugin entropy --device entropy,id=rng0 my.gvmi -- head -c 8 /dev/hwrng

Changes that the command makes to the image's files are gone when it ends; they
are in the VM's RAM unless --disk-size puts them on a disk. Volumes keep theirs.

Folders: cache=coherent (default) shows what the host changes at the next look,
cache=exclusive is faster where only the VM changes the folder. owner=as-is has
the VM's users be the host's (root's default), owner=mapped records the VM's
owners and permissions beside files that stay yours (default of others), and
owner=squash has all belong to one user. An empty volume gets what the image has
at its place where the image declares a VOLUME, and one with a name anywhere;
nocopy leaves it empty.

Disks: one that is not there is made with size=, as a file that is as long as the
disk is large, with holes. format=qcow2 makes an image that is as long as what has
been written, for where lengths are counted. preallocate= takes room at once.

Ports: -p is Docker's, with ranges (8000-8002:80-82) and an address of this host
to listen at (127.0.0.1:8080:80; without one at all its IPv4 addresses). Servers in the VM see
connections from its own 127.0.0.1, or ::1, so they need listen nowhere else. A
port that is chosen is told on standard error. With --net passt, passt takes those
whose port of this host is said, with /udp too, and leads them to the VM's own
address.

Networks: without --net the VM has none. passt is the Internet as this host sees it,
without being root; host_loopback=true lets the gateway be this host's own servers.
tap=NAME is an interface of this host, golem=udp://ADDR:PORT or tcp:// or unix:// one
of Golem's networks (network=vpn or inet, local=ADDR:PORT), hub=FOLDER where VMs of
this host meet. ip=, gateway= and dns= are for the guest and may come again; passt has
them by itself, and its own dns is this host's. What else is said goes to the driver:
`shem plugin info net`. Each --net is a card: eth0, eth1.

Devices: --device DRIVER,id=ID,KEY=VALUE… adds one, of a --plugin or built in. A key
that comes again is a list. In the file of --config it is
  [[device]]
  driver = \"entropy\"
  plugin = \"entropy\"
beside images, command, env, volumes, net, publish and plugins, lists of what the
command line takes, [machine] with cpus, memory and hostname, and [boot] with kernel.
Images, command, machine, kernel and networks of the command line take the place of the
file's; volumes, ports, variables, plugins and devices come on top. Paths of images,
plugins and volumes (./…) start at the file, those in [[device]] where shem runs.

Exit status: that of the command, and
  124  the limit of --timeout passed
  125  shem or the VM failed; standard error says why
  126  the command cannot be executed
  127  the command was not found in the image
  128+n  signal n ended the command (130 Ctrl-C, 137 killed, 143 terminated);
         141 also when what reads our output went away

Ctrl-C and SIGTERM go to the command; a second one ends the VM. With -it
Ctrl-C is a key like any other, and `kill` of shem ends the VM.";

/// Below the help of `shem shell`.
pub const SHELL: &str = "\
Examples:
  shem shell my.gvmi                           a shell, in a VM as a provider boots it
  shem shell my.gvmi --workdir work            keep the volumes, in the folder work
  shem shell --workdir work --no-deploy        and start it again with them
  shem shell my.gvmi -- ls -l /golem/work      run something else and end
  echo 'id; pwd' | shem shell my.gvmi          run a script

The image is deployed to a work folder and booted by the code of ya-runtime-shem, so
what is seen is what a task of Golem's would see: the image's VOLUMEs are folders of
the work folder, told on standard error as PATH -> FOLDER, and changes to other files
are gone with the VM. Other volumes are ordered as in
  --volume-override '{\"/data\":{\"storage\":{\"size\":\"1gi\"}},\"/in\":{\"host\":{}}}'

User, environment and working directory are the image's. Ctrl-D ends the shell, and
the VM is then shut down in order. Without a terminal on standard input that is read
as it comes. Exit status: as with `shem run`.";

/// Below the help of `shem golem exec-script`.
pub const EXEC_SCRIPT: &str = "\
Examples:
  shem golem exec-script my.gvmi task.json
  shem golem exec-script my.gvmi task.json --workdir work --mem-gib 1 --timeout 60
  shem golem exec-script my.gvmi - --runtime ./ya-runtime-vm

task.json is what a requestor sends:
  [{\"deploy\": {\"volumes\": [\"/golem/work\"], \"hostname\": \"box\"}},
   {\"start\": {\"args\": []}},
   {\"transfer\": {\"from\": \"./in.txt\", \"to\": \"container:/golem/work/in.txt\"}},
   {\"run\": {\"entry_point\": \"/bin/sh\", \"args\": [\"-c\", \"wc /golem/work/*\"]}},
   {\"transfer\": {\"from\": \"container:/golem/work/out\", \"to\": \"file:///tmp/out\"}},
   {\"terminate\": {}}]

The runtime is started and spoken to as exe-unit does. What a run writes comes on
standard output and error as it is written, whatever its `capture` says, and a log of
the commands on standard error. Files are transferred between a path in a volume, as
container:/PATH, and a path of this host, plain or as file:///PATH; http:// is read
from. There are no networks of Golem's, no gftp and no https.

The first command that fails ends it, and so does the end of the script: the VM is
shut down. Ctrl-C does so too; a second one does not wait.

Exit status: 0 when all went well, 1 when a command failed, 125 when it could not
begin, as with a script that makes no sense, and 128 and the signal for one that came.";

/// Below the help of `shem image`.
pub const IMAGE: &str = "\
Examples:
  shem image build alpine -o alpine.gvmi       from a registry, without Docker
  shem image inspect alpine.gvmi               what it is and how it runs
  shem image ls -lR alpine.gvmi /etc           what is in it
  shem image diff old.gvmi new.gvmi            what has changed
  shem image push my.gvmi ghcr.io/me/my:1      keep it in a registry";

/// Below the help of `shem image build`.
pub const BUILD: &str = "\
Examples:
  shem image build alpine:3.20 -o alpine.gvmi
  shem image build docker://ghcr.io/me/app@sha256:0123… -o app.gvmi
  docker save app | shem image build docker-archive:- -o app.gvmi
  shem image build oci:./layout:v1 -o app.gvmi --env PORT=8080
  shem image build ./rootfs -o my.gvmi --cmd '[\"sh\"]'

Sources, named as skopeo does:
  docker://[REGISTRY/]NAME[:TAG|@DIGEST]       in a registry, by default Docker's
  docker-archive:FILE[:NAME:TAG]               written by `docker save`; - is stdin
  oci:DIR[:TAG], oci-archive:FILE[:TAG]        an OCI layout
  dir:PATH, tar:FILE                           a root file system
Without the word before the colon, a path is told by what is there, and what is not
there is a name in a registry.

No Docker is needed, nothing of the image is unpacked or run here, and no root is
needed. What the image says of how it runs is kept, but for what options change. The
same source makes the same bytes. A folder keeps the owners that its files have here.

lzo, the default, runs everywhere: every kernel that Golem's providers have reads it,
which is not so of zstd. zstd packs smaller and faster where only shem is to run it.

Limits protect from archives that unpack to more than they should. Layers of registries
are kept (see `shem image prune`). Needs mksquashfs, of the package squashfs-tools.";

/// Below the help of `shem image diff`.
pub const DIFF: &str = "\
A line for each file: A that only the second image has, D that only the first has, C that
both have and is not the same, with what is different. How the images run (`shem image
inspect`) is not compared.

Exit status: 0 when they are the same, 1 when not.";

/// Below the help of `shem image verify`.
pub const VERIFY: &str = "\
Reads every name, attribute and byte, as a VM that uses all of it would.

Exit status: 0 when all are whole, 1 when one is damaged, 125 when one cannot be read.";

/// Below the help of `shem image push`.
pub const PUSH: &str = "\
Examples:
  shem image login ghcr.io -u me
  shem image push my.gvmi ghcr.io/me/my:1
  shem image pull ghcr.io/me/my:1 -o my.gvmi

The image is an OCI artifact there, byte for byte, which any registry takes. Docker
cannot run it.";

/// Below the help of `shem image login`.
pub const LOGIN: &str = "\
Examples:
  shem image login                             to Docker's own registry
  shem image login ghcr.io -u me
  shem image login ghcr.io -u me --password-stdin < token

It is kept where `docker login` keeps it: by the credential helper that Docker's
config.json names, else in that file.";

/// Below the help of `shem volume`.
pub const VOLUME: &str = "\
Examples:
  shem volume create data                      a folder, kept until it is removed
  shem volume create --disk 10g db             a disk, for one VM at a time
  shem run -v data:/data my.gvmi -- ls /data
  shem volume ls
  shem volume rm data db

`shem run -v NAME:PATH` makes a folder of that name where there is none. Volumes
lie in the store: $SHEM_STORE, else ~/.local/share/shem.";

/// Below the help of `shem plugin`.
pub const PLUGIN: &str = "\
Examples:
  shem plugin new my-device                    a new plugin, in the folder my-device
  shem plugin check ./libshem_my_device.so     does it keep the rules?
  shem plugin info ./libshem_my_device.so      what it is, needs and offers
  shem plugin ls                               those in the folders below

Plugin NAME is libshem_NAME.so (with _ for -) in a folder of $SHEM_PLUGIN_PATH, the
folder of shem itself, /usr/local/lib/shem/plugins or /usr/lib/shem/plugins. To be
shown it is loaded, which runs its initialisers and nothing else of it.";

/// Below the help of `shem plugin new`.
pub const PLUGIN_NEW: &str = "\
Examples:
  shem plugin new my-device                    in Rust, with the SDK
  shem plugin new my-device --lang c           in C, with the headers and a Makefile
  shem plugin new my-device --sdk ~/src/shem   with the SDK of these sources

A plugin in Rust depends on the crate plugin_sdk by its path in shem's sources:
those of --sdk or $SHEM_SDK, else those that shem was built from, else
/usr/share/shem/sdk. One in C depends on nothing.";

/// Below the help of `shem plugin check`.
pub const PLUGIN_CHECK: &str = "\
Examples:
  shem plugin check ./libshem_my_device.so     each driver, in its smallest configuration
  shem plugin check my-device --driver other   one of its drivers

A configuration is written as in --config '{\"greeting\":\"ahoy\"}'.

Each check is made in a process of its own, so that a crash fails that check and
no more. The device is made, used and destroyed as in a VM, by a guest that is
hostile. With valgrind installed, memory is checked too.

Exit status: 0 when all is well, 1 when a check failed.";

/// Below the help of `shem cp`.
pub const CP: &str = "\
Examples:
  shem run --name box my.gvmi -- serve         a VM with a name
  shem cp ./conf box:/etc/app                  a file or a folder into it
  shem cp box:/var/log ./log                   and out of it
  shem cp box:/data/. ./data                   what is in a folder, without the folder
  shem cp -a ./rootfs/. volume:data:/          into a volume, with owners
  shem cp box:/etc - | tar t                   as a tar stream

SRC may be a file, a folder, or what is in a folder as FOLDER/. and DST is as with
`docker cp`: in a folder that is there the copy has the name of SRC, else it is
DST itself. Links are copied as links. Nothing is seen at DST before all of it
is there. A path of this host with a colon begins with / or ./.

Without -a what comes into a VM belongs to root, and what comes out to you.
Device nodes are not made on this host. A volume that is a folder may be in use;
a disk may not: copy through the VM that has it.";

/// Below the help of `shem doctor`.
pub const DOCTOR: &str = "\
Examples:
  shem doctor                   what works here, and what to do about what does not
  shem doctor --probe           only: can KVM here run a guest? exit status 0 or 1

Exit status: 0 when images can be run, 1 when not.";

/// Printed when an option of the command was taken for one of ours.
pub const SEPARATOR: &str =
    "hint: what to run in the image goes after `--`, as in: shem run IMAGE -- sh -c 'echo hi'";

/// What to write instead of `first` and `rest` as images one after the other.
pub fn separator(first: &Path, rest: &[PathBuf]) -> String {
    let words: Vec<String> = rest.iter().map(|word| word.display().to_string()).collect();
    format!(
        "to run it as a command write: shem run {} -- {}",
        first.display(),
        words.join(" ")
    )
}

/// Whether a command line is one of `run` or `shell` that has no `--`.
pub fn lacks_separator(args: impl IntoIterator<Item = OsString>) -> bool {
    let args: Vec<OsString> = args.into_iter().skip(1).collect();
    let has = |word: &str| args.iter().any(|arg| arg == OsStr::new(word));
    (has("run") || has("shell")) && !has("--")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_separator_is_seen_where_one_may_be() {
        let lacks = |line: &str| lacks_separator(line.split(' ').map(OsString::from));
        assert!(lacks("shem run image sh -c date"));
        assert!(lacks("shem -v run image sh -c date"));
        assert!(lacks("shem shell image ls"));
        assert!(!lacks("shem run --nonsense image -- sh -c date"));
        assert!(!lacks("shem doctor --nonsense"));
    }
}
