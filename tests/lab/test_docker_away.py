"""The app serves while Docker is away, as when its package is upgraded; no container reaches the machine's loopback."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from suite import Lab, Laptop, until
from tiny import body, set_env

# Run in the app's container: it writes a SYN to a port of the machine, with the destination as it likes, onto its own
# wire, and waits for the answer. Prints "answered" or "silence".
KNOCK = """
import socket, struct, sys, time
target, port = sys.argv[1], int(sys.argv[2])
route = [line.split() for line in open("/proc/net/route")][1:]
gateway = next(socket.inet_ntoa(struct.pack("<L", int(row[2], 16))) for row in route if row[1] == "00000000")
try:  # so that the gateway's hardware address is known
    socket.create_connection((gateway, 22), 2).close()
except OSError:
    pass
there = next(line.split()[3] for line in open("/proc/net/arp") if line.split()[0] == gateway)
here = open("/sys/class/net/eth0/address").read().strip()
own = socket.gethostbyname(socket.gethostname())
def mac(text): return bytes.fromhex(text.replace(":", ""))
def check(data):
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16: total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
ends = socket.inet_aton(own) + socket.inet_aton(target)
head = struct.pack(">BBHHHBBH", 0x45, 0, 40, 1, 0x4000, 64, 6, 0)
head = head[:10] + struct.pack(">H", check(head + ends)) + ends
# Another port each time: what was answered once is answered again for a while.
own_port = 20000 + time.time_ns() % 40000
syn = struct.pack(">HHLLBBHHH", own_port, port, 7, 0, 0x50, 2, 1024, 0, 0)
sum_ = check(ends + struct.pack(">BBH", 0, 6, 20) + syn)
syn = syn[:16] + struct.pack(">H", sum_) + syn[18:]
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
wire.bind(("eth0", 0))
wire.settimeout(0.2)
end = time.monotonic() + 3
while time.monotonic() < end:
    wire.send(mac(there) + mac(here) + b"\\x08\\x00" + head + syn)
    try:
        got = wire.recv(2048)[14:]
    except TimeoutError:
        continue
    if got[9] == 6 and got[12:16] == socket.inet_aton(target) and got[20:24] == struct.pack(">HH", port, own_port):
        print("answered")
        break
else:
    print("silence")
"""
RULE = "PREROUTING ! -i lo -d 127.0.0.0/8 -j DROP"


@pytest.fixture(scope="module")
def app(tiny: Laptop) -> Laptop:
    set_env(tiny.directory, VALUE="without Docker")
    tiny.run("up")
    return tiny


@contextmanager
def asked_all_along(lab: Lab, url: str) -> Iterator[list[str]]:
    """What was amiss with the answers, from one client that asks again and again."""
    wrong: list[str] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            try:
                got = lab.get(url)
                if (got.status_code, got.content) != (200, body("without Docker")):
                    wrong.append(f"{got.status_code} {got.text}")
            except httpx.HTTPError as fault:
                wrong.append(repr(fault))

    client = threading.Thread(target=ask)
    client.start()
    try:
        yield wrong
    finally:
        over.set()
        client.join()


@pytest.mark.parametrize(
    "how", ["systemctl stop docker.socket docker.service", "systemctl kill -s KILL docker.service"]
)
def test_the_app_serves_while_docker_is_away(app: Laptop, lab: Lab, how: str) -> None:
    url = f"http://{app.run('status', '--json').result['address']}/"
    with asked_all_along(lab, url) as wrong:
        app.inside(how)
        served = [lab.get(url).status_code for _ in range(20)]
        app.inside("systemctl start docker.socket docker.service")
        until(lambda: "up" in app.inside("docker version >/dev/null 2>&1 && echo up || :"), "Docker is back")
    assert (wrong, served) == ([], [200] * 20)
    assert app.run("up", "--json").result["changed"] is False


def test_a_container_does_not_reach_the_machine_s_loopback(app: Laptop) -> None:
    def knock(target: str, port: int) -> str:
        return app.run("exec", "--", "python", "-c", KNOCK, target, str(port)).out.strip()

    gateway = "172.17.0.1"
    assert gateway in app.inside("ip -4 address show docker0")
    assert knock(gateway, 22) == "answered"  # so the packets are good ones
    assert knock("127.0.0.1", 2019) == "silence"
    # It is the rule that keeps them out.
    app.inside(f"iptables -t raw -D {RULE}")
    try:
        assert knock("127.0.0.1", 2019) == "answered"
    finally:
        app.inside("systemctl restart docker.service")
    assert knock("127.0.0.1", 2019) == "silence"


SLEEPS = "while True: time.sleep(1)"
STUBBORN = f"import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{SLEEPS}"
ORDERLY = f"""import signal, sys, time
def end(*_):
    open("/kept/said", "a").write("told to end")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
{SLEEPS}"""


def test_containers_get_their_grace_when_the_machine_goes_down(app: Laptop) -> None:
    """Docker is gone by then (live-restore). One that ignores SIGTERM held the machine for 90 seconds."""
    image = app.inside("docker ps --format '{{.Image}}' | head -n 1").strip()
    for name, code in (("stubborn", STUBBORN), ("orderly", ORDERLY)):
        # Of no app: it is nobody's to tidy up.
        app.inside(
            f"docker run -d --name {name} --label rehost.app= --restart unless-stopped --stop-timeout 2 "
            f"-v kept:/kept {image} python -c {shlex.quote(code)}"
        )
    booted = "systemctl show -p UserspaceTimestampMonotonic --value"
    before = app.inside(booted)
    app.run("ssh", "--", "sudo", "systemctl", "start", "reboot.target", code=None)
    until(lambda: app.run("ssh", "--", booted, code=None).out not in ("", before), "the machine is back", 150)
    names = "docker ps --format '{{.Names}}'"
    up = {"stubborn", "orderly"}
    until(lambda: up <= set(app.inside(f"{names} || :").split()), "the containers start again")
    said = app.inside("journalctl -b -1 -u docker.service -o cat --no-pager")
    assert "rehost: stubborn did not end within its 2 s and was killed" in said
    assert "orderly" not in said
    assert app.inside("cat /var/lib/docker/volumes/kept/_data/said") == "told to end"
    app.inside("docker rm -f stubborn orderly; docker volume rm kept")
    until(lambda: app.run("health", code=None).code == 0, "the app serves again")
