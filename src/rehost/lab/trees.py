"""What machines are made from: a disk with Debian 12 as a cloud's image has it, and a registry with a stand-in
for `python:3.11-slim-bookworm`. Built once, kept in the user's cache under a hash of what builds them.

A build goes to a temporary name and is renamed when whole, under a lock that dies with its holder: a killed build
leaves nothing that the next one would take for whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rehost.lab import images
from rehost.lab.base_files import BASE_FILES, SCRIPTS
from rehost.lab.places import cache_directory, locked
from rehost.lab.programs import run
from rehost.run.errors import Refused, RehostError

Progress = Callable[[str], None]

SUITE = "bookworm"  # Debian 13's systemd does not boot on cgroup v1
BUILD_DEADLINE = 900.0
CA_DIRECTORY = Path("/usr/local/share/ca-certificates")
KEPT_DAYS = 14
DISK_GB = 10  # of the cached disk; a machine's copy is grown to its own size

# What Google's own Debian 12 image has that the main job meets.
BASE_PACKAGES = (
    "systemd", "systemd-sysv", "dbus", "libpam-systemd", "openssh-server", "sudo", "iproute2", "iputils-ping",
    "ca-certificates", "google-guest-agent", "google-compute-engine-oslogin", "curl", "ifupdown",
    "isc-dhcp-client", "procps", "python3", "kmod", "netbase", "apparmor", "unattended-upgrades",
)  # fmt: skip
# Fetched beforehand into apt's cache: the machine's own `apt-get install` really runs, but downloads little.
FETCHED_PACKAGES = ("docker.io", "caddy", "zstd", "rsync", "nftables")
# What waits for hardware, kernel modules or file systems that no container has: processor time of each boot.
MASKED_UNITS = (
    "dev-hugepages.mount", "e2scrub_all.timer", "e2scrub_reap.service", "ifupdown-pre.service",
    "modprobe@configfs.service", "modprobe@dm_mod.service", "modprobe@drm.service", "modprobe@efi_pstore.service",
    "modprobe@fuse.service", "modprobe@loop.service", "sys-fs-fuse-connections.mount", "sys-kernel-config.mount",
    "sys-kernel-debug.mount", "sys-kernel-tracing.mount", "systemd-modules-load.service",
)  # fmt: skip
IMAGE_PACKAGES = ("python3.11-minimal", "python3.11-venv", "ca-certificates", "tzdata", "netbase")
# The official slim images leave these out too.
IMAGE_EXCLUDED = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*")


@dataclass(frozen=True, slots=True)
class HostSettings:
    """What the trees take over from this computer: how it reaches Debian, and the certificates it trusts."""

    sources: str  # one-line apt sources of Debian 12; empty: mmdebstrap's default
    apt_options: tuple[str, ...]
    certificates: Mapping[str, bytes]


# -- what builds them (pure) -------------------------------------------------------------------------------

_ONE_LINE = re.compile(
    r"deb\s+(?:\[(?P<options>[^]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<components>.+)"
)
_SUITES = (SUITE, f"{SUITE}-updates", f"{SUITE}-security")


def debian_sources(texts: Iterable[str]) -> str:
    """Debian 12's own archives among a host's apt sources (one-line or deb822), as one-line sources of `main`.

    Sources of other publishers and other suites are left out.
    """
    found: dict[str, None] = {}
    for text in texts:
        for uri, suite, components, signed in [*_one_line(text), *_deb822(text)]:
            ours = suite in _SUITES and "main" in components
            if ours and (not signed or "debian-archive" in signed):
                found[f"deb {uri} {suite} main"] = None
    lines = list(found)
    # Without the release itself (a Debian 13 host that has a single old suite, say) the default is better.
    return "\n".join(lines) + "\n" if any(f" {SUITE} main" in line for line in lines) else ""


def _one_line(text: str) -> list[tuple[str, str, list[str], str]]:
    out = []
    for line in text.splitlines():
        match = _ONE_LINE.fullmatch(line.split("#", 1)[0].strip())
        if match:
            signed = re.search(r"signed-by=(\S+)", match["options"] or "")
            out.append(
                (match["uri"], match["suite"], match["components"].split(), signed[1] if signed else "")
            )
    return out


def _deb822(text: str) -> list[tuple[str, str, list[str], str]]:
    out = []
    kept = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for stanza in re.split(r"\n\s*\n", kept):
        joined = re.sub(r"\n[ \t]+", " ", stanza)
        fields = {}
        for line in joined.splitlines():
            key, colon, value = line.partition(":")
            if colon:
                fields[key.strip().lower()] = value.strip()
        if fields.get("enabled", "yes").lower() == "no" or "deb" not in fields.get("types", "").split():
            continue
        for uri in fields.get("uris", "").split():
            out += [
                (uri, suite, fields.get("components", "").split(), fields.get("signed-by", ""))
                for suite in fields.get("suites", "").split()
            ]
    return out


_TAKEN_OVER = re.compile(r'Acquire::(?:(?:http|https)::Proxy|Check-Valid-Until|Check-Date) "[^"]*";')


def apt_options(dump: str) -> tuple[str, ...]:
    """What of `apt-config dump` a machine needs to reach the same archives in the same way."""
    return tuple(line for line in dump.splitlines() if _TAKEN_OVER.fullmatch(line))


def recipe_key(kind: str, host: HostSettings) -> str:
    """Twelve hexadecimal digits of everything that makes a tree of that kind ("base" or "images")."""
    parts: dict[str, object] = {
        "sources": host.sources,
        "options": host.apt_options,
        "certificates": {name: hashlib.sha256(data).hexdigest() for name, data in host.certificates.items()},
        "machine": os.uname().machine,
    }
    if kind == "base":
        parts["base"] = [BASE_PACKAGES, FETCHED_PACKAGES, MASKED_UNITS, BASE_FILES, DISK_GB]
    else:
        parts["images"] = [IMAGE_PACKAGES, IMAGE_EXCLUDED, images.recipe(bool(host.certificates))]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


# -- where they are ----------------------------------------------------------------------------------------


@cache
def host_settings() -> HostSettings:
    """Read once a process."""
    files = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    texts = [path.read_text() for path in files if path.is_file() and path.suffix in (".list", ".sources")]
    certificates = {path.name: path.read_bytes() for path in sorted(CA_DIRECTORY.glob("*.crt"))}
    return HostSettings(debian_sources(texts), apt_options(run("apt-config", "dump")), certificates)


def base_disk() -> Path:
    """An ext4 file with the machine's system on it; there once `prepare` has run."""
    return cache_directory() / f"base-{recipe_key('base', host_settings())}" / "disk.ext4"


def image_store() -> Path:
    """The directory with the registry's program and its storage; there once `prepare` has run."""
    return cache_directory() / f"images-{recipe_key('images', host_settings())}"


def prepared() -> bool:
    return base_disk().exists() and image_store().exists()


def cache_size() -> int:
    """Bytes on disk (not the length of sparse files)."""
    root = cache_directory()
    return sum(path.lstat().st_blocks * 512 for path in root.rglob("*")) if root.is_dir() else 0


def drop_cache() -> None:
    """Removes all trees, also half-built ones. Labs must be down: the mirror of one that runs would lose its images.

    Raises Refused while another process builds one.
    """
    root = cache_directory()
    if not root.is_dir():
        return
    with ExitStack() as stack:
        for half in root.glob(".*.half"):
            try:
                stack.enter_context(locked(half.with_suffix(".lock"), wait=False))
            except BlockingIOError:
                raise Refused(
                    f"another command is building {half.stem.removeprefix('.')} in {root}",
                    cure="Wait for it, then try again.",
                ) from None
            _remove_half(half)
        for tree in _trees():
            shutil.rmtree(tree)
    for lock in root.glob(".*.lock"):
        lock.unlink()  # of killed builds; a lock that is held is one of a half-built tree
    root.rmdir()


# -- building ----------------------------------------------------------------------------------------------


def prepare(progress: Progress) -> None:
    """Builds what is not cached, both trees at once. Raises RehostError with mmdebstrap's last lines.

    Takes 1-2 minutes from nothing, no time when cached. Another process that builds the same is waited for.
    """
    host = host_settings()
    jobs = [(base_disk().parent, _build_base), (image_store(), _build_images)]
    missing = [(target, build) for target, build in jobs if not target.exists()]
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(_build, target, build, host, progress) for target, build in missing]
    for job in running:
        job.result()
    _prune([target for target, _ in jobs])


def _prune(used: list[Path]) -> None:
    """Trees of former recipes go when nobody has used them for long: another checkout may still want them."""
    for target in used:
        os.utime(target)
    for half in cache_directory().glob(".*.half"):  # of killed builds; one that goes on holds its lock
        with suppress(BlockingIOError), locked(half.with_suffix(".lock"), wait=False):
            _remove_half(half)
    oldest = time.time() - KEPT_DAYS * 86400
    for tree in _trees():
        if tree.stat().st_mtime < oldest:
            shutil.rmtree(tree)


def _trees() -> list[Path]:
    """The whole ones, of all recipes."""
    found = cache_directory().glob("*-*")
    return sorted(tree for tree in found if tree.is_dir() and not tree.name.startswith("."))


def _build(
    target: Path,
    build: Callable[[Path, HostSettings, Progress], None],
    host: HostSettings,
    progress: Progress,
) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    half = target.with_name(f".{target.name}.half")
    with locked(target.with_name(f".{target.name}.lock")):
        if target.exists():  # another process built it while this one waited
            return
        _remove_half(half)
        half.mkdir()
        build(half, host, progress)
        half.rename(target)


def _remove_half(half: Path) -> None:
    """A killed mmdebstrap leaves mounts of /proc, /sys and /dev in its tree: those go first, or rm meets the host's."""
    if not half.exists():
        return
    inside = f"{half.resolve()}/"
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in sorted((point for point in points if point.startswith(inside)), reverse=True):
        run("umount", "--lazy", point)
    shutil.rmtree(half)


def _build_base(half: Path, host: HostSettings, progress: Progress) -> None:
    progress("building the machines' Debian 12 (once; cached)")
    root, extra = half / "root", half / "extra"
    _write_files(extra, {**BASE_FILES}, host)
    for script in SCRIPTS:
        (extra / script).chmod(0o755)
    hooks = [
        f'cp -R "{extra}/." "$1/"',
        'chroot "$1" update-ca-certificates',
        'chroot "$1" systemctl enable lab-hardware.service',
        f'chroot "$1" systemctl mask {" ".join(MASKED_UNITS)}',
        'chroot "$1" apt-get clean',  # what is installed already is not fetched again
        f'chroot "$1" apt-get --yes --download-only install {" ".join(FETCHED_PACKAGES)}',
        # The guest agent makes host keys for an instance it has not seen; an empty machine-id is made anew at boot.
        'rm -f "$1"/etc/ssh/ssh_host_*',
        ': > "$1/etc/machine-id"',
        'rm -f "$1/etc/hostname" "$1/etc/resolv.conf"',
    ]
    _mmdebstrap(root, host, BASE_PACKAGES, hooks, [])
    progress("writing the machines' disk")
    disk = half / "disk.ext4"
    run("mke2fs", "-q", "-t", "ext4", "-L", "root", "-E", "lazy_itable_init=1,lazy_journal_init=1",
        "-d", root, disk, f"{DISK_GB}G", timeout=BUILD_DEADLINE)  # fmt: skip
    shutil.rmtree(root)
    shutil.rmtree(extra)


def _build_images(half: Path, host: HostSettings, progress: Progress) -> None:
    progress("building the stand-in for python:3.11-slim-bookworm (once; cached)")
    layer, extra = half / "layer.tar", half / "extra"
    _write_files(extra, {}, host)
    hooks = [
        f'cp -R "{extra}/." "$1/"',
        'chroot "$1" update-ca-certificates',
        # A virtual environment with copies puts python and pip where the official image has them.
        'chroot "$1" python3.11 -m venv --copies /usr/local',
        'chroot "$1" sh -c "cd /tmp && apt-get download docker-registry"',
        f'cp "$1"/tmp/docker-registry_*.deb "{half}/registry.deb"',
        'rm -rf "$1"/tmp/* "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*',
        'rm -f "$1/etc/hostname" "$1/etc/resolv.conf"',
    ]
    options = [f"--dpkgopt=path-exclude={pattern}" for pattern in IMAGE_EXCLUDED]
    _mmdebstrap(layer, host, IMAGE_PACKAGES, hooks, options)
    run("dpkg-deb", "--extract", half / "registry.deb", half / "package")
    (half / "package/usr/bin/docker-registry").rename(half / "docker-registry")
    progress("storing the stand-in image")
    images.store(half, layer, certificates=bool(host.certificates))
    layer.unlink()
    (half / "registry.deb").unlink()
    shutil.rmtree(half / "package")
    shutil.rmtree(extra)


def _write_files(root: Path, files: Mapping[str, str], host: HostSettings) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    trusted = root / "usr/local/share/ca-certificates"
    trusted.mkdir(parents=True)
    for name, data in host.certificates.items():
        (trusted / name).write_bytes(data)


def _mmdebstrap(
    target: Path, host: HostSettings, packages: Iterable[str], hooks: list[str], options: list[str]
) -> None:
    log = target.with_name("mmdebstrap.log")
    # A process namespace of its own, that dies when this process is killed, with all that mmdebstrap started.
    words = ["setpriv", "--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    words += ["--propagation", "slave"]  # or its copies of a lab's mounts would outlive the lab
    words += ["mmdebstrap", "--mode=root", "--variant=minbase", "--skip=cleanup/apt", f"--logfile={log}"]
    words += [f"--include={','.join(packages)}", *options]
    words += [f"--aptopt={option.removesuffix(';')}" for option in host.apt_options]
    words += [f"--customize-hook={hook}" for hook in hooks]
    words += [SUITE, str(target)]
    with ExitStack() as stack:
        if host.sources:
            words.append("-")  # sources on standard input
        stack.callback(lambda: log.unlink(missing_ok=True))
        try:
            run(*words, given=host.sources, timeout=BUILD_DEADLINE)
        except RehostError as failure:
            raise RehostError(
                f"Debian 12 could not be built into {target.parent}",
                cure="Can this computer reach Debian's archive? `apt-get update` shows. Then run the same again.",
                detail=failure.detail,
                retryable=True,
            ) from failure
