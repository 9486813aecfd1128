"""The lab's Compute API called as a client calls it, and commands inside its machines."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Any

import httpx
import requests
from google.auth.transport.requests import Request
from google.oauth2 import service_account

from rehost.lab import cgroups
from rehost.lab.places import Places
from suite import Lab, until

Json = dict[str, Any]
ZONE = "us-west1-a"
DEBIAN = "projects/debian-cloud/global/images/family/debian-12"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class ComputeApi:
    """`call` returns an answer; `done` waits for the operation and demands that it went well."""

    def __init__(self, lab: Lab) -> None:
        credentials = service_account.Credentials.from_service_account_file(  # type: ignore[no-untyped-call]
            lab.environ["GOOGLE_APPLICATION_CREDENTIALS"],
            scopes=["https://www.googleapis.com/auth/compute"],
        )
        with requests.Session() as session:
            credentials.refresh(Request(session))
        self.project = f"projects/{lab.info.project}"
        self.zone = f"{self.project}/zones/{ZONE}"
        self._http = httpx.Client(
            base_url=lab.info.api,
            headers={"Authorization": f"Bearer {credentials.token}"},
            timeout=130,
            trust_env=False,
        )

    def call(self, verb: str, path: str, body: Json | None = None, **query: str) -> Json:
        """path: in the zone, unless it begins with "global/" or "regions/"."""
        where = self.project if path.startswith(("global/", "regions/")) else self.zone
        answer = self._http.request(verb, f"{where}/{path}", json=body, params=query)
        found: Json = answer.json()
        return found

    def get(self, path: str) -> Json:
        found = self.call("GET", path)
        assert "error" not in found, found
        return found

    def refused(self, verb: str, path: str, body: Json | None = None, **query: str) -> str:
        """Reason and message of a call that must fail."""
        error = self.call(verb, path, body, **query)["error"]
        return f"{error['errors'][0]['reason']}: {error['message']}"

    def done(self, verb: str, path: str, body: Json | None = None, **query: str) -> Json:
        operation = self.call(verb, path, body, **query)
        assert "error" not in operation, operation
        while operation["status"] != "DONE":
            waited = self._http.post(operation["selfLink"].split("/compute/v1/", 1)[1] + "/wait")
            operation = waited.json()
        assert "error" not in operation, operation
        return operation

    def insert(self, name: str, *disks: Json, **more: Any) -> None:
        """A machine that runs. Without disks it has a boot disk of its own, of Debian."""
        boot = {"boot": True, "autoDelete": True, "initializeParams": {"sourceImage": DEBIAN}}
        body = {
            "name": name,
            "machineType": f"zones/{ZONE}/machineTypes/e2-micro",
            "disks": list(disks) or [boot],
            "networkInterfaces": [{"network": "global/networks/default"}],
            **more,
        }
        self.done("POST", "instances", body)

    def __enter__(self) -> ComputeApi:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()


def init_of(places: Places, machine: str) -> int | None:
    """The process id of the machine's init as the host sees it; None when it is off."""
    for pid in sorted(cgroups.processes(places, machine)):
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        if fields["Name"] == "systemd" and fields["NSpid"].split()[1:] == ["1"]:
            return pid
    return None


def inside(places: Places, machine: str, command: str, *, check: bool = True) -> str:
    """Runs a shell command in a machine, as root; its output. Without `check` the status stands before it."""
    leader = init_of(places, machine)
    assert leader is not None, f"{machine} is off"
    groups = [group for group in cgroups.groups(places, machine) if group.name == machine]
    join = "; ".join(f"echo 0 > {group}/cgroup.procs" for group in groups)
    with tempfile.TemporaryFile("w+", errors="replace") as out:
        done = subprocess.run(
            ["sh", "-c", f'{join}; exec "$@"', "join", "nsenter", "--target", str(leader), "--all",
             "sh", "-c", command],
            stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, check=False, timeout=120,
            env={"PATH": PATH, "HOME": "/root"},
        )  # fmt: skip
        out.seek(0)
        text = out.read()
    assert not check or done.returncode == 0, f"{command}\n{text}"
    return text if check else f"{done.returncode} {text}"


def booted(places: Places, machine: str) -> None:
    """Waits until the machine's disks are there."""
    until(
        lambda: (
            init_of(places, machine)
            and inside(places, machine, "systemctl is-active lab-hardware", check=False).startswith("0 ")
        ),
        f"{machine} has booted",
    )
