"""Settings of the kernel that labs need, and that the last lab to go puts back as they were."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rehost.lab.places import Places, all_labs, locked


@dataclass(frozen=True, slots=True)
class Setting:
    """A number below /proc/sys, and the least that a lab needs."""

    file: Path
    least: int

    @property
    def name(self) -> str:
        """Of the file, beside the labs' state, that keeps what it was."""
        return self.file.name


SETTINGS = (
    Setting(Path("/proc/sys/net/ipv4/ip_forward"), 1),
    # Of the user root, whom the kernel takes for one and the same in all machines: each systemd with Docker needs
    # about fifteen, and the kernel's default is 128. A user namespace would not help: its use counts above, too.
    Setting(Path("/proc/sys/fs/inotify/max_user_instances"), 4096),
)


def prepare(places: Places, settings: tuple[Setting, ...] = SETTINGS) -> None:
    """Raises what is too low, and remembers what it was before the first lab came. May be repeated."""
    root = places.state.parent
    with locked(root / ".lock"):
        for setting in settings:
            before = setting.file.read_text()
            if int(before) >= setting.least:
                continue
            kept = root / setting.name
            if not kept.exists():
                kept.write_text(before)
            setting.file.write_text(str(setting.least))


def restore(places: Places, settings: tuple[Setting, ...] = SETTINGS) -> None:
    """Puts back what `prepare` changed, unless another lab is there or somebody has changed it since."""
    root = places.state.parent
    if not any((root / setting.name).exists() for setting in settings):
        return
    with locked(root / ".lock"):
        if any(name != places.name for name in all_labs()):
            return
        for setting in settings:
            kept = root / setting.name
            if not kept.exists():
                continue
            if int(setting.file.read_text()) == setting.least:
                setting.file.write_text(kept.read_text())
            kept.unlink()
