"""What a value of rehost.toml may look like: one kind for each, which checks a value as TOML has it and reads it.

A kind is the function in the type's annotation, `Port = Annotated[int, whole(1, 65535)]`. It raises ValueError, whose
sentence ends in "; " and the cure (`mistakes` takes them apart), or Inside for mistakes within a list or a table.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
from collections.abc import Callable, Mapping
from typing import Annotated, NamedTuple, TypeVar

from rehost.project.sizes import GB, MB, parse_duration, parse_size

T = TypeVar("T")
Kind = Callable[[object], T]

# Docker refuses less (daemon's linuxMinMemory).
SMALLEST_MEMORY = 6 * MB
# Compute Engine's smallest boot disk is that of the image; Debian's is 10 GB.
SMALLEST_DISK = 10 * GB
LONGEST_APP = 42  # leaves room for "-web" and the like in the 63 characters of a Compute Engine name


class Inside(ValueError):
    """Mistakes in the values that a value holds: a sentence each, by index or name."""

    def __init__(self, found: Mapping[str, str]) -> None:
        super().__init__("; ".join(found.values()))
        self.found = found


def shown(value: object) -> str:
    """A value as it is written in TOML, for sentences about it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


def strange(value: object, wanted: str) -> ValueError:
    """The error for a value of another type."""
    return ValueError(f"{shown(value)} is not what stands here; write {wanted}")


# What kinds are made of.


def string(value: object) -> str:
    if not isinstance(value, str):
        raise strange(value, "a string in quotes")
    return value


def checked(check: Callable[[str], str]) -> Kind[str]:
    """A string that passes a check."""
    return lambda value: check(string(value))


def matching(pattern: str, rule: str) -> Kind[str]:
    """A string all of which matches the pattern."""

    def check(value: str) -> str:
        if re.fullmatch(pattern, value, re.ASCII) is None:
            raise ValueError(f'"{value}" is not allowed; {rule}')
        return value

    return checked(check)


def one_of(*known: str) -> Kind[str]:
    def check(value: object) -> str:
        if not isinstance(value, str) or value not in known:
            raise ValueError(f"{shown(value)} is not known; one of {', '.join(map(shown, known))}")
        return value

    return check


def whole(low: int, high: int) -> Kind[int]:
    """A whole number within bounds that are both allowed."""

    def check(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise strange(value, "a whole number without quotes")
        if not low <= value <= high:
            raise ValueError(f"{value} is not allowed; it must be from {low} to {high}")
        return value

    return check


def several(kind: Kind[T]) -> Kind[tuple[T, ...]]:
    """A list in which nothing stands twice."""

    def check(value: object) -> tuple[T, ...]:
        if not isinstance(value, list):
            raise strange(value, 'a list: ["...", "..."]')
        read = _each(kind, {str(index): one for index, one in enumerate(value)})
        found = tuple(read.values())
        for index, one in enumerate(found):
            if one in found[:index]:
                raise ValueError(f'"{one}" stands there twice; remove one')
        return found

    return check


def named(name: Kind[str], kind: Kind[T]) -> Kind[Mapping[str, T]]:
    """A table of names and values."""

    def check(value: object) -> Mapping[str, T]:
        if not isinstance(value, dict):
            raise strange(value, "a table of names and values")
        _each(name, {each: each for each in value})
        return _each(kind, value)

    return check


def _each(kind: Kind[T], values: Mapping[str, object]) -> dict[str, T]:
    read: dict[str, T] = {}
    wrong: dict[str, str] = {}
    for name, value in values.items():
        try:
            read[name] = kind(value)
        except ValueError as mistake:
            wrong[name] = str(mistake)
    if wrong:
        raise Inside(wrong)
    return read


# The kinds.


def _size(value: object) -> int:
    if not isinstance(value, str):
        raise ValueError(  # noqa: TRY004
            'a size is written as a string with its unit; for example "400MB"'
        )
    try:
        return parse_size(value)
    except ValueError as wrong:
        raise ValueError(f'"{value}" is not a size; {wrong}') from None


def yes_or_no(value: object) -> bool:
    if not isinstance(value, bool):
        raise strange(value, "true or false, without quotes")
    return value


def words(value: object) -> tuple[str, ...]:
    """A command: a string that is split as a shell would, or a list of its words."""
    if isinstance(value, list):
        found = tuple(string(word) for word in value)
    else:
        try:
            found = tuple(shlex.split(string(value)))
        except ValueError:
            if not isinstance(value, str):
                raise
            raise ValueError(f'"{value}" has a quote that does not end; close it') from None
    if not found or not found[0] or any("\0" in word for word in found):
        raise ValueError(f'{shown(value)} is not a command; for example "python -m app.migrate"')
    return found


def _duration(value: object) -> int:
    seconds = _pause(value)
    if seconds == 0:
        raise ValueError(f'"{value}" is no time at all; at least "1s"')
    return seconds


def _pause(value: object) -> int:
    if not isinstance(value, str):
        raise ValueError(  # noqa: TRY004
            'a duration is written as a string with its unit; for example "30s" or "2m"'
        )
    try:
        return parse_duration(value)
    except ValueError as wrong:
        raise ValueError(f'"{value}" is not a duration; {wrong}') from None


def _zone(value: str) -> str:
    if re.fullmatch(r"[a-z]+-[a-z]+[0-9]+", value):
        raise ValueError(f'"{value}" is a region, not a zone; add the zone\'s letter, as in "{value}-a"')
    if re.fullmatch(r"[a-z]+-[a-z]+[0-9]+-(ai[0-9]+)?[a-z]", value) is None:
        raise ValueError(f'"{value}" is not the name of a zone; a zone looks like "us-west1-a"')
    return value


def _disk(value: object) -> int:
    size = _size(value)
    if size % GB or size < SMALLEST_DISK:
        raise ValueError('a disk is a whole number of GB and at least 10; for example "20GB"')
    return size


def _memory(value: object) -> int:
    size = _size(value)
    if size < SMALLEST_MEMORY:
        raise ValueError('Docker takes no limit under 6MB; for example "400MB"')
    return size


def _range(value: str) -> str:
    try:
        ipaddress.ip_network(value)
    except ValueError:
        raise ValueError(
            f'"{value}" is not a range of addresses; for example "203.0.113.0/24" or "198.51.100.7/32"'
        ) from None
    return value


def _relative(value: str) -> str:
    if not value or value.startswith(("/", "~")) or "\0" in value:
        raise ValueError(f'"{value}" is not a path relative to this file; for example "Dockerfile"')
    return value


def _volume(value: str) -> str:
    name, colon, path = value.partition(":")
    # Docker's own rule for a volume's name, in lower case and short: the app's name comes before it.
    if not colon or re.fullmatch(r"[a-z0-9][a-z0-9_.-]{0,40}", name, re.ASCII) is None:
        raise ValueError(f'"{value}" is not a volume; write a name, a colon and a path, as in "data:/data"')
    if re.fullmatch(r"(/[A-Za-z0-9_.-]+)+", path, re.ASCII) is None or {".", ".."} & {*path.split("/")}:
        raise ValueError(f'"{path}" is not a path in the container; it looks like "/data"')
    return value


def volumes(value: object) -> tuple[str, ...]:
    found = several(checked(_volume))(value)
    paths = [each.partition(":")[2] for each in found]
    for path in paths:
        if paths.count(path) > 1:
            raise ValueError(f'two volumes stand at "{path}"; give each a path of its own')
    return found


def secret_files(value: object) -> tuple[str, ...]:
    found = several(checked(_relative))(value)
    names = [path.rpartition("/")[2] for path in found]
    for path, name in zip(found, names, strict=True):
        # They are files in one directory of the container.
        if re.fullmatch(r"[A-Za-z0-9_.-]{1,255}", name, re.ASCII) is None or name in (".", ".."):
            raise ValueError(f'"{path}" has a name that is not allowed; letters, digits, ".", "_" and "-"')
        if names.count(name) > 1:
            raise ValueError(f'two files are called "{name}"; give each a name of its own')
    return found


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


class Statuses(NamedTuple):
    """HTTP statuses from `low` to `high`, both included."""

    low: int
    high: int

    def __contains__(self, status: object) -> bool:
        return isinstance(status, int) and self.low <= status <= self.high

    def __str__(self) -> str:
        if self.low == self.high:
            return str(self.low)
        if self.low % 100 == 0 and self.high == self.low + 99:
            return f"{self.low // 100}xx"
        return f"{self.low}-{self.high}"


def _statuses(value: object) -> Statuses:
    cure = 'write "2xx", one status ("200") or a range ("200-399")'
    found = re.fullmatch(r"([1-5])xx|([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?", str(value))
    if not isinstance(value, str) or found is None:
        raise ValueError(f"{value!r} is not a kind of answer; {cure}")
    if found[1]:
        return Statuses(int(found[1]) * 100, int(found[1]) * 100 + 99)
    low, high = int(found[2]), int(found[3] or found[2])
    if high < low:
        raise ValueError(f'"{value}" ends before it begins; {cure}')
    return Statuses(low, high)


VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"

Duration = Annotated[int, _duration]
Pause = Annotated[int, _pause]  # a duration that may be none: "0s"
Words = Annotated[tuple[str, ...], words]
Memory = Annotated[int, _memory]
Disk = Annotated[int, _disk]
Port = Annotated[int, whole(1, 65535)]
Strings = Annotated[tuple[str, ...], several(string)]
Ranges = Annotated[tuple[str, ...], several(checked(_range))]
Volumes = Annotated[tuple[str, ...], volumes]
SecretFiles = Annotated[tuple[str, ...], secret_files]
RelativePath = Annotated[str, checked(_relative)]
web_path = checked(_web_path)
WebPath = Annotated[str, web_path]
Url = Annotated[str, checked(_url)]
Zone = Annotated[str, checked(_zone)]
BuildPlace = Annotated[str, one_of("machine", "here")]
HealthStatus = Annotated[Statuses, _statuses]
app_name = matching(
    rf"[a-z]([-a-z0-9]{{0,{LONGEST_APP - 2}}}[a-z0-9])?",
    'lower-case letters, digits and "-", beginning with a letter, ending with a letter or digit, '
    f"at most {LONGEST_APP} characters: machine, address and firewall rules are named after it",
)
AppName = Annotated[str, app_name]
_variable = matching(
    VARIABLE, 'a variable\'s name is made of letters, digits and "_", and begins with no digit'
)
VariableNames = Annotated[tuple[str, ...], several(_variable)]
Arguments = Annotated[Mapping[str, str], named(_variable, string)]
domain_name = matching(
    r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)+",
    'a domain name alone in lower case, as in "api.example.com": no scheme, port or path',
)
DomainName = Annotated[str, domain_name]
HostHeader = Annotated[
    str,
    matching(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?", 'a name as it stands in the Host header, "api.example.com"'),
]
ProjectId = Annotated[
    str,
    matching(
        r"([a-z0-9.-]+:)?[a-z][-a-z0-9]{4,28}[a-z0-9]",
        'the project\'s ID, not its name or number: lower-case letters, digits and "-", 6 to 30 characters',
    ),
]
MachineType = Annotated[str, matching(r"[a-z][a-z0-9]*(-[a-z0-9]+)+", 'a machine type looks like "e2-micro"')]
ImageFamily = Annotated[
    str,
    matching(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", 'an image family of debian-cloud looks like "debian-12"'),
]
Address = Annotated[
    str,
    matching(
        r"[A-Za-z0-9]([A-Za-z0-9._:-]*[A-Za-z0-9])?",
        "a name, an address or a Host of your ssh configuration alone; user and port have their own keys",
    ),
]
RenderService = Annotated[
    str, matching(r"srv-[a-z0-9]+", 'the ID of a service at Render looks like "srv-d1k2m3n4p5q6r7s8t9u0"')
]
# A name as in distribution/reference: an optional registry, a path in lower case, a tag or a digest or both.
image_name = matching(
    r"([A-Za-z0-9.-]+(:[0-9]{1,5})?/)?[a-z0-9]+([._/-]+[a-z0-9]+)*(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?"
    r"(@sha256:[0-9a-f]{64})?",
    'the name of an image looks like "ghcr.io/me/app:1.2"',
)
ImageName = Annotated[str, image_name]
User = Annotated[str, matching(r"[a-z_][a-z0-9_.-]*", 'the name of a user of the machine, "admin"')]
