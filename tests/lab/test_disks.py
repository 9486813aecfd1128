"""Disks of the lab with real machines, through the API: attached, moved, grown, snapshotted; suspend and resume."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from compute_api import DEBIAN, ZONE, ComputeApi, booted, init_of, inside
from rehost.lab import cgroups, clean, control, loops
from rehost.lab.places import Places
from suite import Lab, until

DATA = "/dev/disk/by-id/google-data"


@pytest.fixture(scope="module")
def api(lab: Lab) -> Iterator[ComputeApi]:
    """Two machines, `left` and `right`; the disk `data` of 2 GB is attached to the first."""
    with ComputeApi(lab) as made:
        kind = f"zones/{ZONE}/diskTypes/pd-balanced"
        made.done("POST", "disks", {"name": "data", "sizeGb": "2", "type": kind})
        for machine in ("left", "right"):
            made.insert(machine)
        for machine in ("left", "right"):
            booted(lab.places, machine)
        attach = {"source": f"{made.zone}/disks/data", "deviceName": "data"}
        made.done("POST", "instances/left/attachDisk", attach)
        yield made


def test_a_disk_is_attached_formatted_and_survives_a_stop(lab: Lab, api: ComputeApi) -> None:
    assert inside(lab.places, "left", f"readlink -f {DATA}").strip() == "/dev/sdb"
    assert inside(lab.places, "left", "blockdev --getsize64 /dev/sdb").strip() == str(2 << 30)
    assert inside(lab.places, "left", "ls /dev/disk/by-id").split() == [
        "google-data",
        "google-persistent-disk-0",
        "scsi-0Google_PersistentDisk_data",
        "scsi-0Google_PersistentDisk_persistent-disk-0",
    ]
    inside(lab.places, "left", f"mkfs.ext4 -q {DATA} && mkdir -p /mnt/data")
    uuid = inside(lab.places, "left", f"blkid -s UUID -o value {DATA}").strip()
    # As Google's documentation has it.
    inside(lab.places, "left", f"echo 'UUID={uuid} /mnt/data ext4 discard,defaults,nofail 0 2' >> /etc/fstab")
    inside(lab.places, "left", "mount /mnt/data && echo kept > /mnt/data/file && echo boot > /root/file")
    api.done("POST", "instances/left/stop")
    assert loops.found(lab.places.store / "disks" / ZONE / "data") == []
    api.done("POST", "instances/left/start")
    booted(lab.places, "left")
    until(
        lambda: inside(lab.places, "left", "cat /mnt/data/file", check=False) == "0 kept\n", "mounted at boot"
    )
    users = api.get("disks/data")["users"]
    assert [user.rsplit("/", 1)[1] for user in users] == ["left"]


def test_a_snapshot_of_a_running_machine_becomes_a_disk_of_another(lab: Lab, api: ComputeApi) -> None:
    inside(lab.places, "left", "echo late > /mnt/data/late")  # in memory alone: nobody has synced it
    api.done("POST", "disks/data/createSnapshot", {"name": "monday", "labels": {"day": "monday"}})
    snapshot = api.get("global/snapshots/monday")
    assert (snapshot["status"], snapshot["diskSizeGb"]) == ("READY", "2")
    assert 0 < int(snapshot["storageBytes"]) < 1 << 30
    inside(lab.places, "left", "echo changed > /mnt/data/file")
    body = {"name": "copy", "sourceSnapshot": "global/snapshots/monday", "sizeGb": "3"}
    api.done("POST", "disks", body)
    attach = {"source": f"{api.zone}/disks/copy", "deviceName": "copy", "mode": "READ_ONLY"}
    api.done("POST", "instances/right/attachDisk", attach)
    device = "/dev/disk/by-id/google-copy"
    inside(lab.places, "right", f"mkdir -p /mnt/copy && mount -o ro {device} /mnt/copy")
    assert inside(lab.places, "right", "cat /mnt/copy/file /mnt/copy/late").split() == ["kept", "late"]
    assert not inside(lab.places, "right", "mount -o rw,remount /mnt/copy", check=False).startswith("0 ")
    inside(lab.places, "right", "umount /mnt/copy")
    api.done("POST", "instances/right/detachDisk", deviceName="copy")
    assert "google-copy" not in inside(lab.places, "right", "ls /dev/disk/by-id")
    api.done("DELETE", "disks/copy")


def test_a_disk_moves_with_its_content_and_is_pulled_from_who_uses_it(lab: Lab, api: ComputeApi) -> None:
    attach = {"source": f"{api.zone}/disks/data", "deviceName": "data"}
    said = api.refused("POST", "instances/right/attachDisk", attach)
    assert said.startswith("resourceInUseByAnotherResource: The disk resource")
    assert api.refused("DELETE", "disks/data").startswith("resourceInUseByAnotherResource")
    inside(lab.places, "left", "sync /mnt/data")
    # It is still mounted there: reads and writes fail from now on, as at Google.
    api.done("POST", "instances/left/detachDisk", deviceName="data")
    failing = "echo x > /mnt/data/more && sync /mnt/data/more"
    assert not inside(lab.places, "left", failing, check=False).startswith("0 ")
    assert inside(lab.places, "left", "ls /dev/sd*").split() == ["/dev/sda"]
    api.done("POST", "instances/right/attachDisk", attach)
    inside(lab.places, "right", f"mkdir -p /mnt/data && mount {DATA} /mnt/data")
    assert inside(lab.places, "right", "cat /mnt/data/file").strip() == "changed"
    inside(lab.places, "left", "umount --lazy /mnt/data")


def test_disks_grow_at_once_and_the_root_at_the_next_boot(lab: Lab, api: ComputeApi) -> None:
    api.done("POST", "disks/data/resize", {"sizeGb": "4"})
    assert inside(lab.places, "right", "blockdev --getsize64 /dev/sdb").strip() == str(4 << 30)
    inside(
        lab.places,
        "right",
        "umount /mnt/data && e2fsck -fp /dev/sdb && resize2fs /dev/sdb && mount /dev/sdb /mnt/data",
    )
    assert int(inside(lab.places, "right", "df --output=size -BM /mnt/data | tail -1").strip("M \n")) > 3800
    api.done("POST", "disks/right/resize", {"sizeGb": "14"})
    assert inside(lab.places, "right", "blockdev --getsize64 /dev/sda").strip() == str(14 << 30)
    size = "df --output=size -BG / | tail -1"
    assert inside(lab.places, "right", size).strip() == "10G"
    before = init_of(lab.places, "right")
    # Not by logind, where a lock of unattended-upgrades often holds a reboot up for half a minute.
    inside(lab.places, "right", "systemctl start reboot.target", check=False)
    until(lambda: init_of(lab.places, "right") not in (before, None), "a new init")
    booted(lab.places, "right")
    assert inside(lab.places, "right", size).strip() == "14G"
    assert inside(lab.places, "right", f"mount {DATA} /mnt/data && cat /mnt/data/file").strip() == "changed"


def test_a_suspended_machine_answers_nothing_and_carries_on(lab: Lab, api: ComputeApi) -> None:
    counting = "while :; do echo x >> /run/count; sleep 0.05; done"
    inside(lab.places, "left", f"systemd-run --unit=counting sh -c '{counting}'")
    ping = f"ping -c 1 -W 1 {api.get('instances/left')['networkInterfaces'][0]['networkIP']}"
    assert inside(lab.places, "right", ping, check=False).startswith("0 ")
    init = init_of(lab.places, "left")
    counted = Path(f"/proc/{init}/root/run/count")
    api.done("POST", "instances/left/suspend")
    assert api.get("instances/left")["status"] == "SUSPENDED"
    count = counted.read_text()
    assert not inside(lab.places, "right", ping, check=False).startswith("0 ")
    assert counted.read_text() == count
    api.done("POST", "instances/left/resume")
    assert (api.get("instances/left")["status"], init_of(lab.places, "left")) == ("RUNNING", init)
    until(lambda: len(counted.read_text()) > len(count), "it counts on")
    until(lambda: inside(lab.places, "right", ping, check=False).startswith("0 "), "it answers again")


def test_an_image_of_a_machine_boots_as_another(lab: Lab, api: ComputeApi) -> None:
    assert api.refused(
        "POST", "global/images", {"name": "golden", "sourceDisk": f"{api.zone}/disks/left"}
    ).startswith("resourceInUseByAnotherResource")
    api.done("POST", "instances/left/setDiskAutoDelete", deviceName="persistent-disk-0", autoDelete="false")
    api.done("POST", "instances/left/suspend")
    api.done("DELETE", "instances/left")
    assert "users" not in api.get("disks/left")
    api.done(
        "POST", "global/images", {"name": "golden", "family": "gold", "sourceDisk": f"{api.zone}/disks/left"}
    )
    api.insert("again", {"boot": True, "source": f"{api.zone}/disks/left"})
    booted(lab.places, "again")
    assert inside(lab.places, "again", "cat /root/file; hostname").split() == ["boot", "again"]
    api.done("DELETE", "instances/again")
    api.done("DELETE", "disks/left")
    golden = {"sourceImage": "global/images/family/gold", "diskSizeGb": "11"}
    blank = {"initializeParams": {"diskSizeGb": "1"}, "autoDelete": True}
    api.insert("child", {"boot": True, "autoDelete": True, "initializeParams": golden}, blank)
    booted(lab.places, "child")
    assert inside(lab.places, "child", "cat /root/file").strip() == "boot"
    assert inside(lab.places, "child", "df --output=size -BG / | tail -1").strip() == "11G"
    assert inside(lab.places, "child", "blockdev --getsize64 /dev/sdb").strip() == str(1 << 30)
    inside(lab.places, "child", "mkswap -q /dev/sdb && swapon /dev/sdb")  # held by no process
    for machine in ("child", "right"):
        api.done("DELETE", f"instances/{machine}")
    # Machines of other tests stand in the same lab.
    ours = {"left", "right", "again", "child", "data", "golden", "monday"}
    assert {disk["name"] for disk in api.get("disks")["items"]} & ours == {"data"}
    for path in ("disks/data", "global/images/golden", "global/snapshots/monday"):
        api.done("DELETE", path)
    kept = lab.places.store / "disks" / "us-west1-a"
    assert [loop for name in ours for loop in loops.found(kept / name, pulled=True)] == []
    assert [file for file in lab.places.store.rglob("*") if file.is_file() and file.name in ours] == []


KILLED_WHILE_COPYING = """
import os, signal, sys
from rehost.lab import disks
from rehost.lab.places import Places
places = Places.of(sys.argv[1])
with disks._still(places, disks.file(places, "disks/us-west1-a/data")):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_kill_leaves_of_disks_is_swept(lab: Lab) -> None:
    name = f"{lab.name}-killed"
    info = control.up(name)
    try:
        places = Places.of(name)
        with ComputeApi(Lab(name, info, control.environment(name), places)) as api:
            for disk in ("data", "swap"):
                api.done("POST", "disks", {"name": disk, "sizeGb": "1"})
            boot = {"boot": True, "initializeParams": {"sourceImage": DEBIAN}}
            attached = [
                {"source": f"{api.zone}/disks/{disk}", "deviceName": disk} for disk in ("data", "swap")
            ]
            for machine, disks in (("frozen", [boot, *attached]), ("suspended", [boot])):
                api.insert(machine, *disks)
                booted(places, machine)
            inside(places, "frozen", f"mkfs.ext4 -q {DATA} && mkdir /mnt/data && mount {DATA} /mnt/data")
            inside(places, "frozen", "mkswap -q /dev/sdc && swapon /dev/sdc")
            api.done("POST", "instances/suspended/suspend")
        copying = subprocess.run(
            [sys.executable, "-c", KILLED_WHILE_COPYING, name], check=False, stdin=subprocess.DEVNULL
        )
        assert copying.returncode == -signal.SIGKILL
        # Whoever writes there now waits in the kernel, where nothing ends it.
        inside(places, "frozen", "systemd-run --no-block touch /mnt/data/file")
        for pid in clean.marked(places.prefix) | cgroups.processes(places):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert [line for line in clean.leftovers(places) if line.startswith("loop device")]
        control.down(name)
        assert clean.leftovers(places) == []
    finally:
        control.down(name)
