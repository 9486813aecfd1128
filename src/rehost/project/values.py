"""What a value of rehost.toml may look like: one checked type for each kind.

Every error is a ValueError whose sentence ends in "; " and the cure (`mistakes` takes them apart). None is
a TypeError: pydantic would let that through as a crash.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from rehost.project.sizes import GB, MB, parse_duration, parse_size

# Docker refuses less (daemon's linuxMinMemory).
SMALLEST_MEMORY = 6 * MB
# Compute Engine's smallest boot disk is that of the image; Debian's is 10 GB.
SMALLEST_DISK = 10 * GB
LONGEST_APP = 42  # leaves room for "-web" and the like in the 63 characters of a Compute Engine name


def _matching(pattern: str, rule: str) -> AfterValidator:
    compiled = re.compile(pattern, re.ASCII)

    def check(value: str) -> str:
        if compiled.fullmatch(value) is None:
            raise ValueError(f'"{value}" is not allowed; {rule}')
        return value

    return AfterValidator(check)


def _size(value: object) -> int:
    if not isinstance(value, str):
        raise ValueError(  # noqa: TRY004
            'a size is written as a string with its unit; for example "400MB"'
        )
    try:
        return parse_size(value)
    except ValueError as wrong:
        raise ValueError(f'"{value}" is not a size; {wrong}') from None


def _duration(value: object) -> int:
    if not isinstance(value, str):
        raise ValueError(  # noqa: TRY004
            'a duration is written as a string with its unit; for example "30s" or "2m"'
        )
    try:
        seconds = parse_duration(value)
    except ValueError as wrong:
        raise ValueError(f'"{value}" is not a duration; {wrong}') from None
    if seconds == 0:
        raise ValueError(f'"{value}" is no time at all; at least "1s"')
    return seconds


def _zone(value: str) -> str:
    if re.fullmatch(r"[a-z]+-[a-z]+[0-9]+", value):
        raise ValueError(f'"{value}" is a region, not a zone; add the zone\'s letter, as in "{value}-a"')
    if re.fullmatch(r"[a-z]+-[a-z]+[0-9]+-(ai[0-9]+)?[a-z]", value) is None:
        raise ValueError(f'"{value}" is not the name of a zone; a zone looks like "us-west1-a"')
    return value


def _whole_gb(size: int) -> int:
    if size % GB or size < SMALLEST_DISK:
        raise ValueError('a disk is a whole number of GB and at least 10; for example "20GB"')
    return size


def _enough_memory(size: int) -> int:
    if size < SMALLEST_MEMORY:
        raise ValueError('Docker takes no limit under 6MB; for example "400MB"')
    return size


def _ranges(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        try:
            ipaddress.ip_network(value)
        except ValueError:
            raise ValueError(
                f'"{value}" is not a range of addresses; for example "203.0.113.0/24" or "198.51.100.7/32"'
            ) from None
    return values


def _build_place(value: str) -> str:
    if value == "here":
        raise ValueError('building on this computer is not there yet; write on = "machine"')
    if value != "machine":
        raise ValueError(f'"{value}" is not known; write on = "machine"')
    return value


def _relative(value: str) -> str:
    if not value or value.startswith(("/", "~")) or "\0" in value:
        raise ValueError(f'"{value}" is not a path relative to this file; for example "Dockerfile"')
    return value


def _web_path(value: str) -> str:
    if "://" in value:
        raise ValueError(f'"{value}" is a URL; write the path alone, as in "/health"')
    if not value.startswith("/"):
        raise ValueError(f'"{value}" does not begin with "/"; write "/{value.strip()}"')
    if re.search(r"[\s\x00-\x1f\x7f#]", value):
        raise ValueError('a path of a request holds no space, no control character and no "#"; encode them')
    return value


def _url(value: str) -> str:
    # Never shown: what stands here by mistake may hold a password.
    if re.match(r"[^/]*//[^/?#]*@", value):
        raise ValueError("the address holds a user or password; write it without, secrets never stand here")
    if re.fullmatch(r"https?://[^\s/?#]+[^\s]*", value) is None:
        raise ValueError('this is not a web address; for example "https://app.example.com"')
    return value


def _distinct(values: tuple[str, ...]) -> tuple[str, ...]:
    for index, value in enumerate(values):
        if value in values[:index]:
            raise ValueError(f'"{value}" stands there twice; remove one')
    return values


@dataclass(frozen=True, slots=True)
class Statuses:
    """HTTP statuses from `low` to `high`, both included."""

    low: int
    high: int

    def __contains__(self, status: int) -> bool:
        return self.low <= status <= self.high

    def __str__(self) -> str:
        if self.low == self.high:
            return str(self.low)
        if self.low % 100 == 0 and self.high == self.low + 99:
            return f"{self.low // 100}xx"
        return f"{self.low}-{self.high}"


def _statuses(value: object) -> Statuses:
    cure = 'write "2xx", one status ("200") or a range ("200-399")'
    if isinstance(value, Statuses):
        return value
    found = re.fullmatch(r"([1-5])xx|([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?", str(value))
    if not isinstance(value, str) or found is None:
        raise ValueError(f"{value!r} is not a kind of answer; {cure}")
    if found[1]:
        return Statuses(int(found[1]) * 100, int(found[1]) * 100 + 99)
    low, high = int(found[2]), int(found[3] or found[2])
    if high < low:
        raise ValueError(f'"{value}" ends before it begins; {cure}')
    return Statuses(low, high)


# Strict models take no list for a tuple; TOML has lists alone.
_List = Field(strict=False)
VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"

Duration = Annotated[int, BeforeValidator(_duration)]
Memory = Annotated[int, BeforeValidator(_size), AfterValidator(_enough_memory)]
Disk = Annotated[int, BeforeValidator(_size), AfterValidator(_whole_gb)]
Port = Annotated[int, Field(ge=1, le=65535)]
Strings = Annotated[tuple[str, ...], _List, AfterValidator(_distinct)]
Ranges = Annotated[Strings, AfterValidator(_ranges)]
RelativePath = Annotated[str, AfterValidator(_relative)]
WebPath = Annotated[str, AfterValidator(_web_path)]
Url = Annotated[str, AfterValidator(_url)]
Zone = Annotated[str, AfterValidator(_zone)]
BuildPlace = Annotated[str, AfterValidator(_build_place)]
HealthStatus = Annotated[Statuses, BeforeValidator(_statuses)]
AppName = Annotated[
    str,
    _matching(
        rf"[a-z]([-a-z0-9]{{0,{LONGEST_APP - 2}}}[a-z0-9])?",
        'lower-case letters, digits and "-", beginning with a letter, ending with a letter or digit, '
        f"at most {LONGEST_APP} characters: machine, address and firewall rules are named after it",
    ),
]
VariableName = Annotated[
    str,
    _matching(VARIABLE, 'a variable\'s name is made of letters, digits and "_", and begins with no digit'),
]
VariableNames = Annotated[tuple[VariableName, ...], _List, AfterValidator(_distinct)]
DomainName = Annotated[
    str,
    _matching(
        r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)+",
        'a domain name alone in lower case, as in "api.example.com": no scheme, port or path',
    ),
]
HostHeader = Annotated[
    str,
    _matching(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?", 'a name as it stands in the Host header, "api.example.com"'),
]
ProjectId = Annotated[
    str,
    _matching(
        r"([a-z0-9.-]+:)?[a-z][-a-z0-9]{4,28}[a-z0-9]",
        'the project\'s ID, not its name or number: lower-case letters, digits and "-", 6 to 30 characters',
    ),
]
MachineType = Annotated[
    str, _matching(r"[a-z][a-z0-9]*(-[a-z0-9]+)+", 'a machine type looks like "e2-micro"')
]
ImageFamily = Annotated[
    str,
    _matching(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", 'an image family of debian-cloud looks like "debian-12"'),
]
Address = Annotated[
    str,
    _matching(
        r"[A-Za-z0-9]([A-Za-z0-9._:-]*[A-Za-z0-9])?",
        "a name, an address or a Host of your ssh configuration alone; user and port have their own keys",
    ),
]
User = Annotated[str, _matching(r"[a-z_][a-z0-9_.-]*", 'the name of a user of the machine, "admin"')]
