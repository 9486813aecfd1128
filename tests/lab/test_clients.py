"""The lab held to Google's Python client, two labs side by side, and what is left when a server dies."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google.auth.transport.requests
import httpx
import pytest
import requests
from google.oauth2 import service_account

import discovery
from rehost.lab import cgroups, clean, control
from rehost.lab.places import Places
from suite import REPOSITORY, Lab, until

ZONE = "us-west1-a"


@pytest.fixture
def other(lab: Lab) -> Iterator[Lab]:
    """A second lab beside the suite's."""
    name = f"{lab.name}-b"
    info = control.up(name)
    try:
        yield Lab(name, info, {**os.environ, **control.environment(name)}, Places.of(name))
    finally:
        control.down(name)


def test_google_s_python_client(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine's life through google-cloud-compute, with nothing but its documented options.

    `operation.result()` is not among it: in version 1.57 it asks compute.googleapis.com whatever the endpoint is.
    """
    from google.api_core.client_options import ClientOptions
    from google.api_core.exceptions import NotFound
    from google.cloud import compute_v1

    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", lab.environ["GOOGLE_APPLICATION_CREDENTIALS"])
    options: Any = {"client_options": ClientOptions(api_endpoint=lab.info.api.removesuffix("/compute/v1/"))}
    instances = compute_v1.InstancesClient(**options)
    operations = compute_v1.ZoneOperationsClient(**options)
    place: Any = {"project": lab.info.project, "zone": ZONE}
    vm: Any = {**place, "instance": "python-vm"}

    def done(extended: Any) -> None:
        operation = operations.wait(operation=extended.name, **place)
        while operation.status != compute_v1.Operation.Status.DONE:
            operation = operations.wait(operation=extended.name, **place)
        assert not operation.error.errors, operation

    image = compute_v1.ImagesClient(**options).get_from_family(project="debian-cloud", family="debian-12")
    wanted = compute_v1.Instance(
        name="python-vm",
        machine_type=f"zones/{ZONE}/machineTypes/e2-micro",
        disks=[
            compute_v1.AttachedDisk(
                boot=True,
                auto_delete=True,
                initialize_params=compute_v1.AttachedDiskInitializeParams(source_image=image.self_link),
            )
        ],
        network_interfaces=[compute_v1.NetworkInterface(network="global/networks/default")],
        labels={"made-by": "python"},
    )
    done(instances.insert(instance_resource=wanted, **place))
    found = instances.get(**vm)
    assert found.status == "RUNNING"
    listed = instances.list(compute_v1.ListInstancesRequest(filter="labels.made-by=python", **place))
    assert [one.name for one in listed] == ["python-vm"]
    everywhere = compute_v1.AggregatedListInstancesRequest(project=lab.info.project, max_results=1)
    assert "python-vm" in {
        one.name for _, scope in instances.aggregated_list(everywhere) for one in scope.instances
    }
    found.metadata.items.append(compute_v1.Items(key="colour", value="blue"))
    done(instances.set_metadata(metadata_resource=found.metadata, **vm))
    assert {one.key: one.value for one in instances.get(**vm).metadata.items}["colour"] == "blue"
    done(instances.stop(**vm))
    assert instances.get(**vm).status == "TERMINATED"
    done(instances.start(**vm))
    done(instances.delete(**vm))
    with pytest.raises(NotFound, match=r"python-vm' was not found"):
        instances.get(**vm)


def test_the_documented_example(tmp_path: Path, lab: Lab) -> None:
    """What docs/lab.md shows to people with a tool of their own passes as it stands, but for the lab's name."""
    page = (REPOSITORY / "docs" / "lab.md").read_text()
    (example,) = (
        block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if '"my-tool"' in block
    )
    (tmp_path / "test_example.py").write_text(example.replace("my-tool", f"{lab.name}-doc"))
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)], cwd=tmp_path,
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "1 passed" in ran.stdout


# -- isolation ---------------------------------------------------------------------------------------------


def token(lab: Lab) -> str:
    """As every client gets one: from the lab's credentials, by Google's own library."""
    credentials = service_account.Credentials.from_service_account_file(  # type: ignore[no-untyped-call]
        lab.environ["GOOGLE_APPLICATION_CREDENTIALS"], scopes=["https://www.googleapis.com/auth/compute"]
    )
    with requests.Session() as session:
        credentials.refresh(google.auth.transport.requests.Request(session))
    return str(credentials.token)


def zones(lab: Lab, bearer: str | None) -> httpx.Response:
    headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
    url = f"{lab.info.api}projects/{lab.info.project}/zones"
    return httpx.get(url, headers=headers, timeout=10, trust_env=False)


def test_nobody_gets_in_without_the_lab_s_token(lab: Lab, other: Lab) -> None:
    for here, there in ((lab, other), (other, lab)):
        assert zones(here, token(here)).status_code == 200
        for bearer in (None, "ya29.made-up", token(there)):
            refused = zones(here, bearer)
            assert refused.status_code == 401
            assert discovery.error_faults(401, refused.json()) == []
            assert refused.json()["error"]["status"] == "UNAUTHENTICATED"
        # A token of the API is none of the lab's own commands, and the project of another lab is not known here.
        control_url = here.info.api.replace("/compute/v1/", "/lab/v1/control")
        said = httpx.get(control_url, headers={"Authorization": f"Bearer {token(here)}"}, trust_env=False)
        assert said.status_code == 403
        foreign = f"{here.info.api}projects/{there.info.project}/zones"
        answer = httpx.get(foreign, headers={"Authorization": f"Bearer {token(here)}"}, trust_env=False)
        assert answer.status_code in (403, 404)


def test_a_lab_listens_for_nobody_outside(lab: Lab, other: Lab) -> None:
    """The API on loopback alone; all else that the server's process listens on is on its lab's own gateway."""
    assert lab.info.gateway != other.info.gateway
    for one in (lab, other):
        server = json.loads((one.places.state / control.RECORD).read_text())
        heard = listening(server["pid"])
        assert ("127.0.0.1", server["port"]) in heard
        assert {address for address, _ in heard} == {"127.0.0.1", one.info.gateway}
        assert {port for address, port in heard if address == "127.0.0.1"} == {server["port"]}
        for secret in (control.RECORD, control.CREDENTIALS):
            assert (one.places.state / secret).stat().st_mode & 0o777 == 0o600
        assert one.places.state.stat().st_mode & 0o777 == 0o700


def listening(pid: int) -> set[tuple[str, int]]:
    """(address, port) of the TCP sockets of a process that listen: proc(5), /proc/PID/net/tcp, state 0A. IPv6 too."""
    sockets = {str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir() if fd.is_symlink()}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                address, port = fields[1].split(":")
                text = (
                    ".".join(str(byte) for byte in reversed(bytes.fromhex(address)))
                    if table == "tcp"
                    else address
                )
                found.add((text, int(port, 16)))
    return found


# -- the end of a server -----------------------------------------------------------------------------------


def born(pid: int) -> str:
    """When the process began, in the kernel's ticks: proc(5), /proc/PID/stat, field 22; "" for one that has ended.

    A dead process keeps its place in /proc until its parent asks for it, and its number may go to another one.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def test_a_lab_ends_with_its_server(lab: Lab, other: Lab) -> None:
    """The machines of a killed server run on without an API. It is said so, and `up` begins anew without them."""
    headers = {"Authorization": f"Bearer {token(other)}"}
    body = {
        "name": "orphan",
        "machineType": f"zones/{ZONE}/machineTypes/e2-micro",
        "disks": [
            {
                "boot": True,
                "initializeParams": {"sourceImage": "projects/debian-cloud/global/images/family/debian-12"},
            }
        ],
        "networkInterfaces": [{"network": "global/networks/default"}],
    }
    url = f"{other.info.api}projects/{other.info.project}/zones/{ZONE}"
    with httpx.Client(headers=headers, timeout=130, trust_env=False) as client:
        started = client.post(f"{url}/instances", json=body).json()
        assert client.post(f"{url}/operations/{started['name']}/wait").json()["status"] == "DONE"
    server = json.loads((other.places.state / control.RECORD).read_text())
    os.kill(server["pid"], signal.SIGKILL)
    until(lambda: not control.running(other.places), "the server's lock is free")
    found = control.status(other.name)
    assert found.info is None
    assert f"directory {other.places.state}" in found.leftovers
    orphans = {pid: born(pid) for pid in cgroups.processes(other.places, "orphan")}
    assert orphans
    assert control.running(lab.places)
    assert control.up(other.name).fresh
    assert [pid for pid, birth in orphans.items() if birth and born(pid) == birth] == []
    assert control.status(other.name).instances == ()
    assert control.down(other.name)
    assert clean.leftovers(other.places) == []


# -- the check of all traffic ------------------------------------------------------------------------------

PLANTED = """
import json, os

def pytest_collection_finish():
    line = {"agent": "rehost", "verb": "GET", "path": "projects/p/zones/a-b/machines", "query": {}, "request": None,
            "status": 200, "answer": {}, "wire": None}
    with open(os.environ["REHOST_LAB_EXCHANGES"], "a") as record:
        record.write(json.dumps(line) + "\\n")
"""


def test_a_deviation_fails_the_run(tmp_path: Path) -> None:
    """A run whose tests all pass fails when one exchange does not fit Google's schema, and says which."""
    (tmp_path / "planted.py").write_text(PLANTED)
    here = str(Path(__file__).with_name("test_context.py"))
    line = [sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider", here]
    environ = {**os.environ, "PYTHONPATH": f"{REPOSITORY / 'src'}:{tmp_path}"}
    fits = subprocess.run(line, cwd=REPOSITORY, env=environ, capture_output=True, text=True, check=False)
    assert fits.returncode == 0, fits.stdout
    line += ["-p", "planted"]
    ran = subprocess.run(line, cwd=REPOSITORY, env=environ, capture_output=True, text=True, check=False)
    assert ran.returncode == 1, ran.stdout
    assert "1 exchanges with the Compute API held to Google's schema: 1 deviations" in ran.stdout
    assert "projects/p/zones/a-b/machines is no method of Google's" in ran.stdout
