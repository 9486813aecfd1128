"""Machines of the lab: real Debian systems under systemd-nspawn, each with its own disk, network and limits."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rehost.lab import bursts, cgroups, disks, mirror, network, nft, swaps
from rehost.lab.devices import Devices
from rehost.lab.hardware import STOP_PATIENCE, Hardware, MachineSpec, PacketRule, PluggedDisk
from rehost.lab.launcher import LAUNCHER, POWER_ON
from rehost.lab.places import METADATA_ADDRESS, Places
from rehost.lab.programs import environment, last_lines
from rehost.run.errors import RehostError

__all__ = ["Hardware", "MachineSpec", "Machines", "PacketRule"]

POWER_OFF = signal.SIGRTMIN + 4  # systemd(1): starts poweroff.target
ASK_AGAIN = 2.0  # seconds
BOOT_DEADLINE = 20.0


@dataclass(slots=True)
class _Machine:
    spec: MachineSpec
    external: str | None
    disks: list[PluggedDisk]
    devices: Devices
    suspended: bool = False
    rules: Sequence[PacketRule] = ()
    launcher: asyncio.subprocess.Process | None = None
    watch: asyncio.Task[None] | None = None
    expected: bool = False  # whether we are ending it ourselves
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Machines:
    """The machines of one lab, supervised by the process that holds this object.

    `on_exit(name)` is called in the event loop when a machine powered itself off (not after stop, reset, delete).
    All methods raise RehostError with a cure. A name that was not created raises KeyError: our own mistake.
    """

    def __init__(self, places: Places, on_exit: Callable[[str], None] | None = None) -> None:
        self._places = places
        self._on_exit = on_exit
        self._machines: dict[str, _Machine] = {}
        self._swaps: swaps.Watcher | None = None
        self._bursts = bursts.Bursts(places)

    async def create(self, spec: MachineSpec) -> None:
        """Of disks that exist."""
        home = self._places.machine(spec.name)
        await asyncio.to_thread(_make_home, home)
        devices = Devices(self._places, home / "disks")
        self._machines[spec.name] = _Machine(spec, spec.external, list(spec.disks), devices)

    async def boot(self, name: str, rules: Sequence[PacketRule]) -> None:
        """Returns once the machine's init runs; sshd follows in a second or two. Nothing to do when it runs."""
        machine = self._machines[name]
        async with machine.lock:
            await self._boot(machine, rules)

    async def stop(self, name: str, patience: float = STOP_PATIENCE) -> None:
        """Powers it off in order, and cuts the power when that takes longer. Nothing to do when off."""
        machine = self._machines[name]
        async with machine.lock:
            if machine.watch is None or machine.watch.done():
                return
            machine.expected = True
            if not machine.suspended:
                await self._power_off(machine, machine.watch, patience)
            await self._cut(machine)

    async def reset(self, name: str) -> None:
        """Cuts the power and boots: the disk is as a power cut leaves it."""
        machine = self._machines[name]
        async with machine.lock:
            await self._cut(machine)
            await self._boot(machine, machine.rules)

    async def power_cut(self, name: str) -> None:
        """The power goes, and nobody ordered it: `on_exit` is called. Nothing to do when off."""
        machine = self._machines[name]
        async with machine.lock:
            if machine.watch is None or machine.launcher is None or machine.watch.done():
                return
            with contextlib.suppress(ProcessLookupError):
                machine.launcher.kill()  # first, or it would boot the machine again
            await asyncio.to_thread(cgroups.kill, self._places, name)
            await asyncio.wait([machine.watch])

    async def delete(self, name: str) -> None:
        """Cuts the power; the disks stay. Nothing to do for a machine that is gone."""
        machine = self._machines.get(name)
        if machine is None:
            return
        async with machine.lock:
            await self._cut(machine)
            await asyncio.to_thread(machine.devices.end)
            await asyncio.to_thread(shutil.rmtree, self._places.machine(name))
            del self._machines[name]

    async def close(self) -> None:
        """Cuts the power of every machine."""
        if self._swaps is not None:
            await asyncio.to_thread(self._swaps.close)
            self._swaps = None
        await self._bursts.close()
        await asyncio.gather(*(self._cut(machine) for machine in self._machines.values()))

    def running(self, name: str) -> bool:
        machine = self._machines.get(name)
        return machine is not None and machine.watch is not None and not machine.watch.done()

    async def set_rules(self, name: str, rules: Sequence[PacketRule]) -> None:
        """Replaces the packet rules, in one step for a machine that runs. Raises UsageError for a wrong rule."""
        machine = self._machines[name]
        nft.machine_rules(self._places, machine.spec, rules)
        async with machine.lock:
            machine.rules = tuple(rules)
            if self.running(name):
                await asyncio.to_thread(network.set_rules, self._places, machine.spec, rules)

    async def set_external(self, name: str, address: str | None) -> None:
        """At once for a machine that runs, else at its next boot."""
        machine = self._machines[name]
        async with machine.lock:
            machine.external = address
            if self.running(name):
                await asyncio.to_thread(network.set_external, self._places, machine.spec, address)

    async def set_hardware(self, name: str, hardware: Hardware) -> None:
        """Counts from the next boot."""
        machine = self._machines[name]
        async with machine.lock:
            machine.spec = replace(machine.spec, hardware=hardware)

    async def attach(self, name: str, disk: PluggedDisk, *, first: bool = False) -> None:
        """At once for a machine that runs. first: the one to boot from; only for a machine that is off."""
        machine = self._machines[name]
        async with machine.lock:
            if self.running(name):
                await asyncio.to_thread(machine.devices.plug, disk, self.leader(name))
            machine.disks.insert(0 if first else len(machine.disks), disk)

    async def detach(self, name: str, disk_name: str) -> None:
        """Out of a machine that runs it is pulled, whatever it does with it. Nothing to do when it is out."""
        machine = self._machines[name]
        async with machine.lock:
            if disk_name in [disk.name for disk in machine.disks]:
                if self.running(name):
                    await asyncio.to_thread(machine.devices.pull, disk_name, self.leader(name))
                machine.disks = [disk for disk in machine.disks if disk.name != disk_name]

    async def suspend(self, name: str) -> None:
        """Every process stops where it is, and no packet is answered. Nothing to do when it is off."""
        machine = self._machines[name]
        async with machine.lock:
            if self.running(name) and not machine.suspended:
                await asyncio.to_thread(network.hold, self._places, machine.spec.internal)
                await asyncio.to_thread(cgroups.freeze, self._places, name)
                machine.suspended = True

    async def resume(self, name: str) -> None:
        """The processes carry on where they were. Nothing to do when it is not suspended."""
        machine = self._machines[name]
        async with machine.lock:
            if machine.suspended:
                await asyncio.to_thread(cgroups.thaw, self._places, name)
                await asyncio.to_thread(network.let_go, self._places, machine.spec.internal)
                machine.suspended = False

    def serial(self, name: str) -> Path:
        """The console's output; grows across boots."""
        return self._places.machine(name) / "serial"

    def leader(self, name: str) -> int | None:
        """Process id of the machine's init as the host sees it; for `nsenter`. None when it is off."""
        return self._leader(self._machines[name]) if self.running(name) else None

    # -- one boot ------------------------------------------------------------------------------------------

    async def _boot(self, machine: _Machine, rules: Sequence[PacketRule]) -> None:
        name = machine.spec.name
        if self.running(name):
            return
        machine.rules = tuple(rules)
        if self._swaps is None:
            loop = asyncio.get_running_loop()
            self._swaps = swaps.Watcher(lambda: _tell(loop, self._show_swaps))
        joins = await asyncio.to_thread(self._prepare, machine)
        self._bursts.switched_on(name, machine.spec.hardware)
        machine.expected = False
        faults = self._places.boot_faults / name
        held_up = faults.exists() and faults.stat().st_size > 0
        with self.serial(name).open("ab") as console:
            machine.launcher = await asyncio.create_subprocess_exec(
                *self._command(machine, joins),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                # The disk is locked by being mounted once; systemd-nspawn's own lock files outlive a kill.
                env={**environment(), "SYSTEMD_NSPAWN_LOCK": "0", **self._places.environment()},
                start_new_session=True,
            )
        machine.watch = asyncio.create_task(self._supervise(machine, machine.launcher))
        if not held_up and not await self._begins(machine, machine.watch):
            await self._cut(machine)
            raise RehostError(
                f"the lab's machine {name} did not start",
                cure=f"Its console: {self.serial(name)}",
                detail=last_lines(self.serial(name).read_text(errors="replace")),
            )

    async def _power_off(self, machine: _Machine, watch: asyncio.Task[None], patience: float) -> None:
        """Asks until it goes: an init that is just rebooting forgets it, and the next one does not hear it at once."""
        end = asyncio.get_running_loop().time() + patience
        while not watch.done() and asyncio.get_running_loop().time() < end:
            leader = await asyncio.to_thread(self._leader, machine)
            if leader is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(leader, POWER_OFF)
            await asyncio.wait([watch], timeout=ASK_AGAIN)

    async def _begins(self, machine: _Machine, watch: asyncio.Task[None]) -> bool:
        end = asyncio.get_running_loop().time() + BOOT_DEADLINE
        while not watch.done() and asyncio.get_running_loop().time() < end:
            if await asyncio.to_thread(self._leader, machine) is not None:
                return True
            await asyncio.sleep(0.02)
        return False

    def _prepare(self, machine: _Machine) -> list[Path]:
        spec, home = machine.spec, self._places.machine(machine.spec.name)
        (home / "swaps").write_text(f"{swaps.HEADER}\n")
        (home / "disks").touch()
        machine.devices.start(machine.disks)
        _write_files(home / "files", machine_files(self._places, spec))
        network.attach(self._places, spec, machine.external, machine.rules)
        return cgroups.create(self._places, spec.name, spec.hardware)

    def _command(self, machine: _Machine, joins: list[Path]) -> list[str]:
        name, home = machine.spec.name, self._places.machine(machine.spec.name)
        root, namespace = home / "root", f"/run/netns/{self._places.namespace(name)}"
        disk = disks.file(self._places, machine.disks[0].content)
        return [
            "unshare", "--mount", "--propagation", "slave",
            "sh", "-c", LAUNCHER, "launcher", str(disk), str(root), str(home / "files"),
            " ".join(map(str, joins)),
            # systemd-nspawn mounts /sys before it enters the namespace, and /sys shows the network of its mounter.
            "nsenter", f"--net={namespace}",
            "sh", "-c", POWER_ON, str(self._places.boot_faults / name),
            "systemd-nspawn", "--quiet", f"--directory={root}", "--boot",
            f"--machine={self._places.veth(machine.spec.internal)}", f"--hostname={name}",
            f"--network-namespace-path={namespace}",
            "--register=no", "--keep-unit", "--kill-signal=SIGRTMIN+3", "--capability=all",
            # Without the first three runc can't make its session keyring; the last two are for swap.
            "--system-call-filter=add_key keyctl request_key bpf swapon swapoff",
            "--resolv-conf=off", "--timezone=off", "--link-journal=no",
            f"--bind={self._places.lxcfs}:/var/lib/lxcfs",
            f"--bind-ro={home / 'swaps'}:/var/lib/lab-swaps",
            f"--bind-ro={home / 'disks'}:/var/lib/lab-disks",
        ]  # fmt: skip

    async def _supervise(self, machine: _Machine, launcher: asyncio.subprocess.Process) -> None:
        await launcher.wait()
        self._bursts.switched_off(machine.spec.name)
        await asyncio.to_thread(self._clear, machine)
        if not machine.expected and self._on_exit is not None:
            self._on_exit(machine.spec.name)

    async def _cut(self, machine: _Machine) -> None:
        """Power cut; returns when nothing of the machine runs."""
        if machine.watch is None or machine.launcher is None:
            return
        machine.expected = True
        if machine.launcher.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                machine.launcher.kill()  # first, or it would boot the machine again
        await asyncio.to_thread(cgroups.kill, self._places, machine.spec.name)
        await machine.watch
        machine.watch = machine.launcher = None

    def _clear(self, machine: _Machine) -> None:
        spec = machine.spec
        cgroups.kill(self._places, spec.name)
        cgroups.remove(self._places, spec.name)
        network.detach(self._places, spec)
        remove_nspawn_directories(self._places.veth(spec.internal))
        machine.devices.end()
        machine.suspended = False

    def _show_swaps(self) -> None:
        for name, machine in self._machines.items():
            leader = self.leader(name)
            if leader is not None:
                total = swaps.show(self._places.machine(name) / "swaps", leader)
                cgroups.allow_swap(self._places, name, machine.spec.hardware, total)

    def _leader(self, machine: _Machine) -> int | None:
        pids = cgroups.processes(self._places, machine.spec.name)
        return next((pid for pid in sorted(pids) if _is_init(pid)), None)


def nspawn_directories(prefix: str) -> list[Path]:
    """What systemd-nspawn leaves of machines whose name begins so: it won't remove it where /run is on a disk."""
    return sorted(Path("/run/systemd/nspawn/propagate").glob(f"{prefix}*"))


def remove_nspawn_directories(prefix: str) -> None:
    for directory in nspawn_directories(prefix):
        with contextlib.suppress(FileNotFoundError):
            directory.rmdir()


def machine_files(places: Places, spec: MachineSpec) -> dict[str, str]:
    """What the cloud's DHCP server and its hooks would have written on the machine, and where its mirror is."""
    resolver = network.nameserver(Path("/etc/resolv.conf").read_text())
    files = {
        "etc/hostname": f"{spec.name}\n",
        "etc/hosts": (
            "127.0.0.1 localhost\n"
            f"{spec.internal} {spec.name}\n"
            f"{METADATA_ADDRESS} metadata.google.internal metadata\n"
        ),
        "etc/resolv.conf": f"nameserver {resolver}\n" if resolver else "",
    }
    url = mirror.url(places)
    if url:
        # BuildKit of Docker 20.10 compares insecure registries with the scheme.
        files["etc/default/lab-docker"] = f"DOCKER_OPTS=--registry-mirror={url} --insecure-registry={url}\n"
    return files


def _make_home(home: Path) -> None:
    if home.exists():
        shutil.rmtree(home)
    (home / "root").mkdir(parents=True)
    (home / "serial").touch()


def _write_files(root: Path, files: dict[str, str]) -> None:
    if root.exists():
        shutil.rmtree(root)
    for file, text in files.items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(text)


def _tell(loop: asyncio.AbstractEventLoop, what: Callable[[], None]) -> None:
    # The loop may end while a machine's last swap goes.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(what)


def _is_init(pid: int) -> bool:
    """Whether the process is number 1 of the process namespace just below ours, and systemd already."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        name = Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return False
    spaces = next((line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:")), [])
    return len(spaces) == len(_own_spaces()) + 1 and spaces[-1] == "1" and name == "systemd"


def _own_spaces() -> list[str]:
    status = Path("/proc/self/status").read_text()
    return next((line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:")), [])
