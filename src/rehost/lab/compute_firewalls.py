"""Firewall rules, and what they come to for the packets of each machine."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping

from rehost.lab.compute_addresses import check_name, check_tags
from rehost.lab.compute_call import LIST_QUERY, Call, method
from rehost.lab.compute_errors import already_exists, invalid, not_found
from rehost.lab.compute_lists import page
from rehost.lab.compute_networks import absolute
from rehost.lab.compute_quotas import check_room
from rehost.lab.hardware import PacketRule
from rehost.lab.state import Cloud, Resource, link

# Networks in auto mode take their subnets from here; default-allow-internal allows this range.
VPC_RANGE = ipaddress.IPv4Network("10.128.0.0/9")
_EVERYBODY = ipaddress.IPv4Network("0.0.0.0/0")
_PORTS = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")
_NUMBERS = {"1": "icmp", "6": "tcp", "17": "udp"}
_DEFAULTS = (
    ("default-allow-icmp", "Allow ICMP from anywhere", "0.0.0.0/0", [{"IPProtocol": "icmp"}]),
    (
        "default-allow-internal",
        "Allow internal traffic on the default network",
        str(VPC_RANGE),
        [
            {"IPProtocol": "tcp", "ports": ["0-65535"]},
            {"IPProtocol": "udp", "ports": ["0-65535"]},
            {"IPProtocol": "icmp"},
        ],
    ),
    ("default-allow-rdp", "Allow RDP from anywhere", "0.0.0.0/0", [{"IPProtocol": "tcp", "ports": ["3389"]}]),
    ("default-allow-ssh", "Allow SSH from anywhere", "0.0.0.0/0", [{"IPProtocol": "tcp", "ports": ["22"]}]),
)


def fill(cloud: Cloud) -> None:
    """The rules that a default network has."""
    for name, description, source, allowed in _DEFAULTS:
        cloud.add(
            f"projects/{cloud.project}/global/firewalls/{name}",
            {
                "kind": "compute#firewall",
                "description": description,
                "network": link(f"projects/{cloud.project}/global/networks/default"),
                "priority": 65534,
                "sourceRanges": [source],
                "allowed": allowed,
                "direction": "INGRESS",
                "logConfig": {"enable": False},
                "disabled": False,
            },
        )


# -- what the rules come to --------------------------------------------------------------------------------


def compile_rules(
    firewalls: Iterable[Resource], tags: Iterable[str], members: Mapping[str, Iterable[str]]
) -> list[PacketRule]:
    """The rules for a machine with these network tags, first match first.

    members: internal address -> tags, of all machines of the network. The lab's subnet lies outside Google's
    range for networks in auto mode, so a source range that holds that range stands for these addresses; but
    0.0.0.0/0 stands for everybody. At the same priority, deny comes before allow (as the VPC's rules say).
    """
    own = set(tags)
    rules: list[PacketRule] = []
    for rule in sorted(firewalls, key=lambda rule: (rule["priority"], "denied" not in rule)):
        targets = rule.get("targetTags")
        if rule.get("disabled") or (targets and not own & set(targets)):
            continue
        sources = _sources(rule, members)
        if not sources:
            continue
        action = "denied" if "denied" in rule else "allowed"
        rules += [
            PacketRule(
                "deny" if action == "denied" else "allow",
                _protocol(item["IPProtocol"]),
                tuple(item.get("ports", ())),
                sources,
            )
            for item in rule[action]
        ]
    return rules


def _sources(rule: Resource, members: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for text in rule.get("sourceRanges", ()):
        network = ipaddress.IPv4Network(text, strict=False)
        if network != _EVERYBODY and network.supernet_of(VPC_RANGE):
            found |= dict.fromkeys(f"{address}/32" for address in members)
        else:
            found[str(network)] = None
    wanted = set(rule.get("sourceTags", ()))
    found |= {f"{address}/32": None for address, tags in members.items() if wanted & set(tags)}
    return tuple(found)


def _protocol(text: str) -> str:
    return _NUMBERS.get(text, text.lower())


class Packets:
    """Keeps the rules of the running machines as the firewalls say."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._applied: dict[str, list[PacketRule]] = {}

    def rules(self, instance: Resource) -> list[PacketRule]:
        """What holds for this instance now."""
        network = instance["networkInterfaces"][0]["network"]
        members = {
            other["networkInterfaces"][0]["networkIP"]: other["tags"].get("items", [])
            for _, other in self._cloud.everywhere("instances")
            if other["networkInterfaces"][0]["network"] == network
        }
        firewalls = [
            rule
            for rule in self._cloud.under(f"projects/{self._cloud.project}/global/firewalls")
            if rule["network"] == network
        ]
        return compile_rules(firewalls, instance["tags"].get("items", ()), members)

    def booted(self, instance: Resource, rules: list[PacketRule]) -> None:
        """The machine runs, and started with these rules."""
        self._applied[instance["name"]] = rules

    def ended(self, name: str) -> None:
        self._applied.pop(name, None)

    async def apply(self) -> None:
        """Gives every running machine whose rules have changed its new ones."""
        for _, instance in list(self._cloud.everywhere("instances")):
            name = instance["name"]
            if name in self._applied and (rules := self.rules(instance)) != self._applied[name]:
                await self._cloud.machines.set_rules(name, rules)
                if name in self._applied:
                    self._applied[name] = rules


# -- methods -----------------------------------------------------------------------------------------------


@method("firewalls.get", "GET", "/global/firewalls/{firewall}")
def _get(call: Call) -> Resource:
    return call.cloud.get(f"{call.scope}/firewalls/{call.path['firewall']}")


@method("firewalls.list", "GET", "/global/firewalls", query=LIST_QUERY)
def _list(call: Call) -> Resource:
    return page(call, "compute#firewallList", call.cloud.under(f"{call.scope}/firewalls"))


@method("firewalls.insert", "POST", "/global/firewalls", body="Firewall")
def _insert(call: Call) -> Resource:
    cloud = call.cloud
    path = f"{call.scope}/firewalls/{check_name(call.body)}"
    if path in cloud.resources:
        raise already_exists(path)
    made = _complete(cloud, call.body)
    check_room(cloud, "FIREWALLS")
    cloud.add(path, made)

    async def work() -> None:
        await call.packets.apply()

    return call.operations.start(call, "insert", path, work, undo=lambda: cloud.remove(path))


@method("firewalls.patch", "PATCH", "/global/firewalls/{firewall}", body="Firewall")
def _patch(call: Call) -> Resource:
    """Fields given replace those that were; null or an empty list clears one."""
    before = call.cloud.get(f"{call.scope}/firewalls/{call.path['firewall']}")
    kept = {key: value for key, value in before.items() if key not in call.cleared}
    return _change(call, kept | call.body, "patch")


@method("firewalls.update", "PUT", "/global/firewalls/{firewall}", body="Firewall")
def _update(call: Call) -> Resource:
    """The whole rule is given anew."""
    call.cloud.get(f"{call.scope}/firewalls/{call.path['firewall']}")
    return _change(call, call.body, "update")


def _change(call: Call, wanted: Resource, kind: str) -> Resource:
    path = f"{call.scope}/firewalls/{call.path['firewall']}"
    resource = call.cloud.get(path)
    if wanted.get("name", resource["name"]) != resource["name"]:
        raise invalid("resource.name", wanted["name"], "Field is immutable.")
    made = _complete(call.cloud, wanted)
    kept = {key: resource[key] for key in ("id", "creationTimestamp", "name", "selfLink")}

    async def work() -> None:
        call.cloud.resources[path] = kept | made
        await call.packets.apply()

    return call.operations.start(call, kind, path, work)


@method("firewalls.delete", "DELETE", "/global/firewalls/{firewall}")
def _delete(call: Call) -> Resource:
    path = f"{call.scope}/firewalls/{call.path['firewall']}"
    call.cloud.get(path)

    async def work() -> None:
        call.cloud.resources.pop(path, None)
        await call.packets.apply()

    return call.operations.start(call, "delete", path, work)


def _complete(cloud: Cloud, body: Resource) -> Resource:
    """A rule with its defaults. Raises ApiError 400 for what is no rule, or none that the lab can hold."""
    if body.get("direction", "INGRESS") != "INGRESS":
        raise invalid("resource.direction", body["direction"], "The lab has rules for incoming packets only.")
    priority = int(body.get("priority", 1000))
    if not 0 <= priority <= 65535:
        raise invalid("resource.priority", priority, "Must be between 0 and 65535, inclusive.")
    actions = [action for action in ("allowed", "denied") if body.get(action)]
    if len(actions) != 1:
        raise invalid(
            "resource.allowed", body.get("allowed", ""), "Exactly one of allowed and denied must be given."
        )
    items = [_item(item, f"resource.{actions[0]}[{i}]") for i, item in enumerate(body[actions[0]])]
    network = absolute(cloud, body.get("network", "global/networks/default"), "global/networks/")
    if network not in cloud.resources:
        why = "The referenced network resource cannot be found."
        raise not_found(network) if network else invalid("resource.network", body["network"], why)
    made: Resource = {
        "kind": "compute#firewall",
        "description": body.get("description", ""),
        "network": link(network),
        "priority": priority,
        actions[0]: items,
        "direction": "INGRESS",
        "logConfig": body.get("logConfig", {"enable": False}),
        "disabled": body.get("disabled", False),
    }
    for field in ("sourceTags", "targetTags"):
        check_tags(body.get(field, ()), f"resource.{field}")
    ranges = body.get("sourceRanges", [])
    for i, text in enumerate(ranges):
        try:
            ipaddress.IPv4Network(text, strict=False)
        except ValueError:
            raise invalid(
                f"resource.sourceRanges[{i}]", text, "Must be a valid CIDR address range."
            ) from None
    if not ranges and not body.get("sourceTags"):
        ranges = [str(_EVERYBODY)]
    fields = {
        "sourceRanges": ranges,
        "sourceTags": body.get("sourceTags"),
        "targetTags": body.get("targetTags"),
    }
    return made | {key: value for key, value in fields.items() if value}


def _item(item: Resource, at: str) -> Resource:
    protocol = item.get("IPProtocol", "")
    if not re.fullmatch(r"(?i)tcp|udp|icmp|esp|ah|ipip|sctp|all|\d{1,3}", protocol):
        raise invalid(f"{at}.IPProtocol", protocol, "Must be a well-known protocol or a protocol number.")
    for i, text in enumerate(item.get("ports", ())):
        match = _PORTS.fullmatch(text)
        if not match or not int(match[1]) <= int(match[2] or match[1]) <= 65535:
            raise invalid(f"{at}.ports[{i}]", text, "Must be a port number or a range of port numbers.")
        if _protocol(protocol) not in ("tcp", "udp", "sctp"):
            raise invalid(f"{at}.ports[{i}]", text, f"Ports may not be given for protocol '{protocol}'.")
    return item | {"IPProtocol": protocol.lower()}
