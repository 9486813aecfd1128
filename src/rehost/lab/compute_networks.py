"""Networks and their subnetworks.

One bridge carries all of them, and every machine's address comes from the lab's one range, whatever range its
subnetwork names: packets between machines of different networks are dropped by their rules (compute_firewalls).
"""

from __future__ import annotations

import ipaddress

from rehost.lab.compute_addresses import check_name
from rehost.lab.compute_body import TABLES
from rehost.lab.compute_call import AGGREGATED_QUERY, LIST_QUERY, Call, method
from rehost.lab.compute_catalog import ZONES, region_of
from rehost.lab.compute_errors import ApiError, already_exists, in_use, invalid, required
from rehost.lab.compute_lists import aggregated, page
from rehost.lab.compute_quotas import check_room
from rehost.lab.state import Cloud, Resource, fingerprint, link, relative

TABLES["Network"] = {
    "kind": "string",
    "name": "string",
    "description": "string",
    "autoCreateSubnetworks": "bool",
    "mtu": "int32",
    "networkFirewallPolicyEnforcementOrder": "AFTER_CLASSIC_FIREWALL|BEFORE_CLASSIC_FIREWALL",
    "routingConfig": "NetworkRoutingConfig",
}
TABLES["NetworkRoutingConfig"] = {"routingMode": "GLOBAL|REGIONAL"}
TABLES["Subnetwork"] = {
    "kind": "string",
    "name": "string",
    "description": "string",
    "network": "string",
    "ipCidrRange": "string",
    "region": "string",
    "privateIpGoogleAccess": "bool",
    "purpose": "PRIVATE",
    "stackType": "IPV4_ONLY",
}
MTUS = range(1300, 8897)


def fill(cloud: Cloud) -> None:
    """The default network, with a subnetwork in every region."""
    path = f"projects/{cloud.project}/global/networks/default"
    _add_network(cloud, path, {"description": "Default network for the project"})
    _add_automatic(cloud, path)


def _add_network(cloud: Cloud, path: str, given: Resource) -> None:
    made = cloud.add(
        path,
        {
            "kind": "compute#network",
            "autoCreateSubnetworks": True,
            "routingConfig": {"routingMode": "REGIONAL"},
            "networkFirewallPolicyEnforcementOrder": "AFTER_CLASSIC_FIREWALL",
        }
        | given,
    )
    made["selfLinkWithId"] = link(f"{path.rsplit('/', 1)[0]}/{made['id']}")


def _add_automatic(cloud: Cloud, network: str) -> None:
    name = network.rsplit("/", 1)[1]
    for region in ZONES:
        _add_subnetwork(
            cloud, f"projects/{cloud.project}/regions/{region}/subnetworks/{name}", network, cloud.subnet, {}
        )


def _add_subnetwork(cloud: Cloud, path: str, network: str, cidr: str, given: Resource) -> None:
    gateway = cloud.gateway if cidr == cloud.subnet else str(ipaddress.IPv4Network(cidr)[1])
    made = cloud.add(
        path,
        {
            "kind": "compute#subnetwork",
            "network": link(network),
            "ipCidrRange": cidr,
            "gatewayAddress": gateway,
            "region": link(path.rsplit("/", 2)[0]),
            "privateIpGoogleAccess": False,
            "privateIpv6GoogleAccess": "DISABLE_GOOGLE_ACCESS",
            "purpose": "PRIVATE",
            "stackType": "IPV4_ONLY",
        }
        | given,
    )
    made["fingerprint"] = fingerprint(made["id"])


# -- references --------------------------------------------------------------------------------------------


def network_path(cloud: Cloud, reference: str, field: str) -> str:
    """The network's path, for a reference to one of this project. Raises ApiError 400."""
    path = absolute(cloud, reference, "global/networks/")
    if path not in cloud.resources:
        raise invalid(field, reference, "The referenced network resource cannot be found.")
    return path


def subnetwork_path(cloud: Cloud, reference: str, field: str) -> str:
    """The subnetwork's path. Raises ApiError 400."""
    path = absolute(cloud, reference, "regions/")
    if path not in cloud.resources or "/subnetworks/" not in path:
        raise invalid(field, reference, "The referenced subnetwork resource cannot be found.")
    return path


def absolute(cloud: Cloud, reference: str, start: str) -> str:
    """The path of a reference to something of this project below `start`; empty when it is none."""
    path = relative(reference).replace(f"projects/{cloud.number}/", f"projects/{cloud.project}/", 1)
    if path.startswith(start):
        return f"projects/{cloud.project}/{path}"
    return path if path.startswith(f"projects/{cloud.project}/{start}") else ""


def place_of(call: Call, given: Resource, at: str) -> tuple[str, str]:
    """(network, subnetwork) of an instance's interface, as paths. Raises ApiError 400."""
    cloud, region = call.cloud, region_of(call.scope)
    if "subnetwork" in given:
        subnet = subnetwork_path(cloud, given["subnetwork"], f"{at}.subnetwork")
        if region_of(subnet) != region:
            raise invalid(
                f"{at}.subnetwork", given["subnetwork"], f"Subnetwork must be in the region '{region}'."
            )
        network = relative(cloud.get(subnet)["network"])
        if "network" in given and network_path(cloud, given["network"], f"{at}.network") != network:
            raise invalid(
                f"{at}.subnetwork",
                given["subnetwork"],
                "The subnetwork is not in the network that was given.",
            )
        return network, subnet
    network = network_path(cloud, given.get("network", "global/networks/default"), f"{at}.network")
    subnet = f"projects/{cloud.project}/regions/{region}/subnetworks/{network.rsplit('/', 1)[1]}"
    if not cloud.get(network)["autoCreateSubnetworks"]:
        raise invalid(at, given, "Subnetwork should be specified for custom subnetmode network")
    return network, subnet


def _subnetworks(cloud: Cloud, network: str) -> list[str]:
    return [path for path, item in cloud.everywhere("subnetworks") if relative(item["network"]) == network]


def _user(cloud: Cloud, field: str, path: str) -> str | None:
    """An instance with its interface in a network or subnetwork."""
    for user, instance in cloud.everywhere("instances"):
        if relative(instance["networkInterfaces"][0][field]) == path:
            return user
    return None


# -- networks ----------------------------------------------------------------------------------------------


def _shown(cloud: Cloud, path: str) -> Resource:
    network, subnets = cloud.get(path), _subnetworks(cloud, path)
    return network | ({"subnetworks": [link(subnet) for subnet in subnets]} if subnets else {})


@method("networks.get", "GET", "/global/networks/{network}")
def _network_get(call: Call) -> Resource:
    return _shown(call.cloud, f"{call.scope}/networks/{call.path['network']}")


@method("networks.list", "GET", "/global/networks", query=LIST_QUERY)
def _network_list(call: Call) -> Resource:
    found = call.cloud.under(f"{call.scope}/networks")
    return page(
        call, "compute#networkList", [_shown(call.cloud, relative(item["selfLink"])) for item in found]
    )


@method("networks.insert", "POST", "/global/networks", body="Network")
def _network_insert(call: Call) -> Resource:
    cloud, body = call.cloud, call.body
    path = f"{call.scope}/networks/{check_name(body)}"
    if path in cloud.resources:
        raise already_exists(path)
    if "autoCreateSubnetworks" not in body:
        raise required("resource.autoCreateSubnetworks")
    mtu = body.get("mtu", 1460)
    if mtu not in MTUS:
        raise invalid("resource.mtu", mtu, "Must be between 1300 and 8896, inclusive.")
    if mtu != 1460:
        raise invalid("resource.mtu", mtu, "The lab's cables have an MTU of 1460.")
    check_room(cloud, "NETWORKS")
    _add_network(cloud, path, {key: value for key, value in body.items() if key != "kind"})

    async def work() -> None:
        if body["autoCreateSubnetworks"]:
            _add_automatic(cloud, path)

    return call.operations.start(call, "insert", path, work, undo=lambda: cloud.remove(path))


@method("networks.delete", "DELETE", "/global/networks/{network}")
def _network_delete(call: Call) -> Resource:
    cloud, path = call.cloud, f"{call.scope}/networks/{call.path['network']}"
    network = cloud.get(path)
    automatic = network["autoCreateSubnetworks"]
    if user := _user(cloud, "network", path):
        raise in_use(path, user)
    rules = [rule for rule, item in cloud.everywhere("firewalls") if relative(item["network"]) == path]
    if users := [*rules, *([] if automatic else _subnetworks(cloud, path))]:
        raise in_use(path, users[0])

    async def work() -> None:
        for subnet in _subnetworks(cloud, path):
            cloud.remove(subnet)
        cloud.remove(path)

    return call.operations.start(call, "delete", path, work)


# -- subnetworks -------------------------------------------------------------------------------------------


@method("subnetworks.get", "GET", "/regions/{region}/subnetworks/{subnetwork}")
def _subnetwork_get(call: Call) -> Resource:
    return call.cloud.get(f"{call.scope}/subnetworks/{call.path['subnetwork']}")


@method("subnetworks.list", "GET", "/regions/{region}/subnetworks", query=LIST_QUERY)
def _subnetwork_list(call: Call) -> Resource:
    return page(call, "compute#subnetworkList", call.cloud.under(f"{call.scope}/subnetworks"))


@method("subnetworks.aggregatedList", "GET", "/aggregated/subnetworks", query=AGGREGATED_QUERY)
def _subnetwork_aggregated(call: Call) -> Resource:
    scopes = {
        f"regions/{region}": call.cloud.under(f"{call.project}/regions/{region}/subnetworks")
        for region in ZONES
    }
    return aggregated(call, "compute#subnetworkAggregatedList", "subnetworks", scopes)


@method("subnetworks.insert", "POST", "/regions/{region}/subnetworks", body="Subnetwork")
def _subnetwork_insert(call: Call) -> Resource:
    cloud, body = call.cloud, call.body
    path = f"{call.scope}/subnetworks/{check_name(body)}"
    if path in cloud.resources:
        raise already_exists(path)
    for field in ("network", "ipCidrRange"):
        if field not in body:
            raise required(f"resource.{field}")
    network = network_path(cloud, body["network"], "resource.network")
    if cloud.get(network)["autoCreateSubnetworks"]:
        raise ApiError(
            400, "badRequest", "Cannot create subnetworks in an auto subnet mode network: use a custom one."
        )
    cidr = _checked_range(cloud, network, body["ipCidrRange"])
    check_room(cloud, "SUBNETWORKS")
    kept: Resource = {key: body[key] for key in ("description", "privateIpGoogleAccess") if key in body}
    _add_subnetwork(cloud, path, network, cidr, kept)

    async def work() -> None:
        pass

    return call.operations.start(call, "insert", path, work, undo=lambda: cloud.remove(path))


def _checked_range(cloud: Cloud, network: str, text: str) -> str:
    field = "resource.ipCidrRange"
    try:
        wanted = ipaddress.IPv4Network(text)
    except ValueError:
        raise invalid(field, text, "Must be a CIDR address range in canonical form.") from None
    if not 4 <= wanted.prefixlen <= 29:
        raise invalid(field, text, "The prefix length must be between 4 and 29, inclusive.")
    for other in _subnetworks(cloud, network):
        item = cloud.get(other)
        if wanted.overlaps(ipaddress.IPv4Network(item["ipCidrRange"])):
            raise ApiError(
                400,
                "invalid",
                f"Invalid IPCidrRange: {text} conflicts with existing subnetwork '{item['name']}' in region "
                f"'{region_of(other)}'.",
            )
    return str(wanted)


@method("subnetworks.delete", "DELETE", "/regions/{region}/subnetworks/{subnetwork}")
def _subnetwork_delete(call: Call) -> Resource:
    cloud, path = call.cloud, f"{call.scope}/subnetworks/{call.path['subnetwork']}"
    subnet = cloud.get(path)
    network = cloud.get(relative(subnet["network"]))
    if network["autoCreateSubnetworks"]:
        raise ApiError(
            400,
            "invalidResourceUsage",
            f"Invalid resource usage: 'Cannot delete auto subnetwork {path} from an auto subnet mode network.'.",
        )
    if user := _user(cloud, "subnetwork", path):
        raise in_use(path, user)

    async def work() -> None:
        cloud.remove(path)

    return call.operations.start(call, "delete", path, work)
