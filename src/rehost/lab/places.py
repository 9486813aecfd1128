"""Where everything of a lab is: derived from its name, so that a sweep by name finds all of it.

Nothing here changes the system except `Places.claim`, which makes the state directory and records the subnet.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from rehost.run.errors import RehostError, UsageError

METADATA_ADDRESS = "169.254.169.254"  # RFC 3927 link-local; where Compute Engine's metadata server answers
METADATA_PORT = (
    8254  # where the lab's metadata server listens on the gateway; reached by port 80 of the above
)
MARKER = "REHOST_LAB"  # in the environment of every process that a lab starts
_NAME = re.compile(r"[a-z][a-z0-9-]{0,29}")


@dataclass(frozen=True, slots=True)
class Places:
    """The directories, addresses and names of one lab.

    state: files of this lab alone, gone with it. cache: trees and images, shared by all labs of the user.
    """

    name: str
    state: Path
    cache: Path
    subnet: IPv4Network

    @classmethod
    def of(cls, name: str = "default") -> Places:
        """The lab of that name; changes nothing. Until `claim`, the subnet is the one that would be chosen.

        Raises UsageError for a name that is not allowed.
        """
        state = _state_root() / _checked(name)
        recorded = _recorded(state)
        return cls(name, state, cache_directory(), recorded or free_subnet(state, _taken()))

    @classmethod
    def claim(cls, name: str = "default") -> Places:
        """`of`, with the state directory (0700) made and the subnet recorded. May be repeated."""
        state = _state_root() / _checked(name)
        with locked(state.parent / ".lock"):
            places = cls.of(name)
            state.mkdir(mode=0o700, exist_ok=True)
            _write(state / "subnet", str(places.subnet))
        return places

    @property
    def claimed(self) -> bool:
        """Whether this lab has a state directory: it runs, or was killed and not yet swept."""
        return self.state.is_dir()

    # -- names in the kernel -------------------------------------------------------------------------------

    @property
    def prefix(self) -> str:
        """Begins every kernel name of the lab. From the state directory: two users' "default" don't meet."""
        return "rl" + hashlib.sha256(str(self.state).encode()).hexdigest()[:6]

    @property
    def bridge(self) -> str:
        """The interface that holds the gateway's address. No cable ends at it: packets to machines are routed."""
        return self.prefix

    @property
    def table(self) -> str:
        """The nft table of the lab, in the family `inet`."""
        return self.prefix

    @property
    def cgroup(self) -> str:
        """The cgroup above all machines of the lab, below the root of each hierarchy."""
        return self.prefix

    def veth(self, internal: str) -> str:
        """The host's end of a machine's cable; an interface name has 15 characters at most."""
        return f"{self.cables}{internal.rsplit('.', 1)[1]}"

    @property
    def cables(self) -> str:
        """Begins the names of the host's ends of all cables of the lab."""
        return f"{self.prefix}v"

    def namespace(self, machine: str) -> str:
        return f"{self.prefix}-{machine}"

    def environment(self) -> dict[str, str]:
        """What a process of this lab carries in its environment, so that `clean` finds it."""
        return {MARKER: self.prefix}

    # -- addresses -----------------------------------------------------------------------------------------

    @property
    def gateway(self) -> str:
        """The bridge's own address: metadata server, image mirror and database listen here."""
        return str(self.subnet[1])

    @property
    def internal_addresses(self) -> list[str]:
        return [str(self.subnet[last]) for last in range(2, 100)]

    @property
    def external_addresses(self) -> list[str]:
        return [str(self.subnet[last]) for last in range(100, 255)]

    # -- files ---------------------------------------------------------------------------------------------

    def machine(self, name: str) -> Path:
        """Disk, console and settings of one machine."""
        return self.state / "machines" / name

    def log(self, service: str) -> Path:
        """The log of a program beside the machines: "mirror", "database", "server", "lxcfs"."""
        return self.state / "log" / f"{service}.log"

    @property
    def boot_faults(self) -> Path:
        """A file for each machine whose next boots go wrong, by its name: a line of sh a boot."""
        return self.state / "boot-faults"

    @property
    def lxcfs(self) -> Path:
        return self.state / "lxcfs"

    @property
    def store(self) -> Path:
        """Where the block store is mounted: disks, snapshots and images, which share what they have in common."""
        return self.state / "store"


def cache_directory() -> Path:
    """$XDG_CACHE_HOME/rehost/lab, or ~/.cache/rehost/lab."""
    return _home("XDG_CACHE_HOME", ".cache") / "rehost" / "lab"


def all_labs() -> list[str]:
    """Names of the user's labs that run or were left behind."""
    root = _state_root()
    return sorted(path.parent.name for path in root.glob("*/subnet")) if root.is_dir() else []


def free_subnet(state: Path, taken: Iterable[IPv4Network]) -> IPv4Network:
    """A /24 of 10.64.0.0/10 that overlaps none of those taken; the first tried depends on the state directory.

    Raises RehostError when all are taken.
    """
    busy = list(taken)
    first = int.from_bytes(hashlib.sha256(str(state).encode()).digest()[:2]) % 16384
    for step in range(16384):
        number = (first + step) % 16384
        candidate = IPv4Network(f"10.{64 + number // 256}.{number % 256}.0/24")
        if not any(candidate.overlaps(other) for other in busy):
            return candidate
    raise RehostError(
        "no subnet of 10.64.0.0/10 is free for the lab",
        cure="Look at `ip route`: a route over that whole range leaves no room; remove it or run the lab elsewhere.",
    )


def parse_routes(table: str) -> list[IPv4Network]:
    """Networks of a /proc/net/route table, but for the default route (it overlaps everything)."""
    found = []
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 8:
            continue
        destination, mask = (int.from_bytes(bytes.fromhex(fields[i]), "little") for i in (1, 7))
        if mask:
            found.append(IPv4Network((destination, mask.bit_count())))
    return found


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Holds a lock that dies with its holder. The file goes with the lock: whoever waited for it sees that the
    file is another one or none, and begins again.

    Raises BlockingIOError when somebody else holds it and `wait` is false.
    """
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if not _is_at(handle.fileno(), path):
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is not a name for a lab",
            cure="Use a small letter first, then small letters, digits and hyphens, 30 at most.",
        )
    return name


def _home(variable: str, default: str) -> Path:
    # The XDG base directory specification: a relative path in these variables is to be ignored.
    given = Path(os.environ.get(variable, ""))
    return given if given.is_absolute() else Path.home() / default


def _state_root() -> Path:
    return _home("XDG_STATE_HOME", ".local/state") / "rehost" / "lab"


def _recorded(state: Path) -> IPv4Network | None:
    try:
        return IPv4Network((state / "subnet").read_text().strip())
    except (FileNotFoundError, ValueError):
        return None


def _taken() -> list[IPv4Network]:
    routes = Path("/proc/net/route")
    found = parse_routes(routes.read_text()) if routes.exists() else []
    labs = (_recorded(_state_root() / lab) for lab in all_labs())
    return found + [subnet for subnet in labs if subnet]


def _write(path: Path, text: str) -> None:
    """Whole or not at all: a killed writer leaves no half file."""
    half = path.with_name(f".{path.name}.{os.getpid()}")
    half.write_text(text)
    half.replace(path)
