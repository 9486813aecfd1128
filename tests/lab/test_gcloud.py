"""The lab held to Google's own command: one session of gcloud, unmodified, from the first machine to the last disk.

Every command must succeed, and what it says it did is looked at: on the machine where it shows there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from suite import SUMMARY, Lab

VM, ZONE, REGION = "gcloud-vm", "us-west1-a", "us-west1"
SSH = ("--strict-host-key-checking=yes", "--quiet")


@dataclass
class Gcloud:
    """gcloud with a configuration of its own: nothing of the person who runs the tests is read or written."""

    home: Path
    environ: dict[str, str]
    transcript: list[str] = field(default_factory=list)

    def __call__(self, *words: str) -> str:
        """Runs `gcloud compute ...`, which must succeed; what it printed."""
        line = ["gcloud", "compute", *words]
        done = subprocess.run(
            line, env=self.environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=180,
            check=False,
        )  # fmt: skip
        self.transcript.append(f"$ {' '.join(line)}\n{done.stdout}{done.stderr}")
        assert done.returncode == 0, "\n".join(self.transcript[-3:])
        return done.stdout

    def json(self, *words: str) -> Any:
        return json.loads(self(*words, "--format=json"))

    def together(self, *lines: tuple[str, ...]) -> list[str]:
        """Commands that don't wait for each other, two at a time: gcloud takes over a second of a core for each."""
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(lambda words: self(*words), lines))

    def ssh(self, command: str) -> str:
        """Logs in, with the host keys from the guest attributes alone."""
        return self("ssh", VM, *SSH, "--command", command).strip()


@pytest.fixture
def gcloud(lab: Lab, tmp_path: Path) -> Iterator[Gcloud]:
    if shutil.which("gcloud") is None:
        reason = "the lab was not held to gcloud: it is not installed here"
        SUMMARY.append(reason)
        if os.environ.get("CI"):
            pytest.fail(f"{reason}. CI must have the Google Cloud SDK.")
        pytest.skip(reason)
    environ = {
        **{key: value for key, value in lab.environ.items() if key != "GOOGLE_APPLICATION_CREDENTIALS"},
        "HOME": str(tmp_path),
        "CLOUDSDK_CONFIG": str(tmp_path / "gcloud"),
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "1",
        "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "1",
        "CLOUDSDK_COMPUTE_ZONE": ZONE,
        "CLOUDSDK_COMPUTE_REGION": REGION,
    }
    made = Gcloud(tmp_path, environ)
    yield made
    (tmp_path / "session.txt").write_text("\n".join(made.transcript))


def test_a_session(gcloud: Gcloud, tmp_path: Path) -> None:
    # What there is to choose from.
    zones, types, images = gcloud.together(
        ("zones", "list", f"--filter=name={ZONE}", "--format=value(name)"),
        ("machine-types", "describe", "e2-small", "--format=value(memoryMb)"),
        ("images", "list", "--filter=family=debian-12", "--format=value(family)"),
    )
    assert (zones.strip(), types.strip(), images.strip()) == (ZONE, "2048", "debian-12")

    # An address, a rule, and a machine with both.
    gcloud.together(
        ("addresses", "create", "gcloud-ip"),
        ("firewall-rules", "create", "gcloud-web", "--allow=tcp:80,tcp:443", "--target-tags=web"),
        ("disks", "create", "gcloud-data", "--size=10GB", "--type=pd-standard"),
        (
            "resource-policies", "create", "snapshot-schedule", "gcloud-daily", "--daily-schedule",
            "--start-time=04:00", "--max-retention-days=7",
        ),
    )  # fmt: skip
    gcloud("firewall-rules", "update", "gcloud-web", "--allow=tcp:80")
    rule = gcloud.json("firewall-rules", "describe", "gcloud-web")
    assert rule["allowed"] == [{"IPProtocol": "tcp", "ports": ["80"]}]
    gcloud(
        "instances", "create", VM, "--machine-type=e2-micro", "--image-family=debian-12",
        "--image-project=debian-cloud", "--boot-disk-size=10GB", "--tags=web", "--address=gcloud-ip",
        "--metadata=enable-guest-attributes=TRUE,enable-oslogin=FALSE", "--labels=made-by=gcloud",
    )  # fmt: skip
    (found,) = gcloud.json("instances", "list", "--filter=labels.made-by=gcloud")
    (address,) = gcloud.json("addresses", "list", "--filter=status=IN_USE AND name=gcloud-ip")
    assert found["name"] == VM
    assert found["networkInterfaces"][0]["accessConfigs"][0]["natIP"] == address["address"]

    # It logs in, and knows whom it speaks to. The first time gcloud makes a key, and says so before.
    assert gcloud.ssh("hostname; sudo id -un").split()[-2:] == [VM, "root"]
    content = tmp_path / "content"
    content.write_text("over\n")
    keys, _, console = gcloud.together(
        ("instances", "get-guest-attributes", VM, "--query-path=hostkeys/", "--format=value(value)"),
        ("scp", str(content), f"{VM}:/tmp/content", *SSH),
        ("instances", "get-serial-port-output", VM),
    )
    known = (tmp_path / ".ssh" / "google_compute_known_hosts").read_text()
    assert set(keys.split()) == set(re.findall(r"AAAA\S+", known))
    assert f"{VM} login:" in console

    # What can be changed while it runs.
    gcloud.together(
        ("instances", "add-metadata", VM, "--metadata=colour=blue"),
        ("instances", "add-tags", VM, "--tags=more"),
    )
    colour = "http://metadata/computeMetadata/v1/instance/attributes/colour"
    seen = gcloud.ssh(f"cat /tmp/content; curl -sS -H Metadata-Flavor:Google {colour}")
    assert seen.split() == ["over", "blue"]
    gcloud.together(
        ("instances", "remove-metadata", VM, "--keys=colour"),
        ("instances", "remove-tags", VM, "--tags=more"),
        ("instances", "update", VM, "--update-labels=stage=test"),
    )
    described = gcloud.json("instances", "describe", VM)
    assert described["tags"]["items"] == ["web"]
    assert described["labels"] == {"made-by": "gcloud", "stage": "test"}
    assert "colour" not in {item["key"] for item in described["metadata"]["items"]}

    # A disk, with content that a snapshot and an image keep.
    gcloud.together(
        ("disks", "add-resource-policies", "gcloud-data", "--resource-policies=gcloud-daily"),
        ("instances", "attach-disk", VM, "--disk=gcloud-data", "--device-name=data"),
    )
    gcloud.ssh(
        "sudo mkfs.ext4 -q /dev/disk/by-id/google-data && sudo mount /dev/disk/by-id/google-data /mnt "
        "&& echo kept | sudo tee /mnt/file && sudo umount /mnt"
    )
    gcloud("instances", "set-disk-auto-delete", VM, "--disk=gcloud-data", "--no-auto-delete")
    gcloud("instances", "detach-disk", VM, "--disk=gcloud-data")
    gcloud.together(
        ("disks", "remove-resource-policies", "gcloud-data", "--resource-policies=gcloud-daily"),
        ("disks", "resize", "gcloud-data", "--size=11GB"),
    )
    gcloud("disks", "snapshot", "gcloud-data", "--snapshot-names=gcloud-snap")
    snapshot, _, _, policies = gcloud.together(
        ("snapshots", "describe", "gcloud-snap", "--format=value(diskSizeGb)"),
        ("disks", "create", "gcloud-again", "--source-snapshot=gcloud-snap"),
        ("images", "create", "gcloud-image", "--source-disk=gcloud-data"),
        ("resource-policies", "list", "--format=value(name)"),
    )
    assert (snapshot.strip(), policies.strip()) == ("11", "gcloud-daily")
    image, disks, snapshots = gcloud.together(
        ("images", "describe", "gcloud-image", "--format=value(status)"),
        ("disks", "list", "--format=value(name)"),
        ("snapshots", "list", "--format=value(name)"),
    )
    assert image.strip() == "READY"
    assert {"gcloud-data", "gcloud-again", VM} <= set(disks.split())
    assert "gcloud-snap" in snapshots.split()

    # Power, and another type of machine.
    for act in ("suspend", "resume", "reset", "stop"):
        gcloud("instances", act, VM)
    gcloud.together(
        ("instances", "set-machine-type", VM, "--machine-type=e2-small"),
        ("instances", "attach-disk", VM, "--disk=gcloud-again", "--device-name=again"),
    )
    gcloud("instances", "start", VM)
    seen = gcloud.ssh(
        "sudo mount /dev/disk/by-id/google-again /mnt && cat /mnt/file && awk '/MemTotal/{print $2}' /proc/meminfo"
    )
    assert seen.split()[0] == "kept"
    assert 1_900_000 < int(seen.split()[1]) <= 2 * 2**20

    # What was done, and its end.
    done = gcloud.json("operations", "list", f"--filter=zone:{ZONE} AND operationType=insert")
    assert {one["status"] for one in done} == {"DONE"}
    gcloud("instances", "delete", VM)
    gcloud.together(
        ("images", "delete", "gcloud-image"),
        ("snapshots", "delete", "gcloud-snap"),
        ("disks", "delete", "gcloud-data", "gcloud-again"),
        ("resource-policies", "delete", "gcloud-daily"),
        ("addresses", "delete", "gcloud-ip"),
        ("firewall-rules", "delete", "gcloud-web"),
    )
    assert gcloud("disks", "list", "--format=value(name)", "--filter=name~^gcloud-") == ""
    assert len(gcloud.transcript) >= 25
    SUMMARY.append(f"gcloud session: {len(gcloud.transcript)} commands, all succeeded")
