"""Refuse connections from a pod to addresses that only its node and the pod itself have.

The author of a job or a gate chooses which servers its pods ask. Loopback and link-local addresses lead to
servers that only the pod can reach, such as the cloud's metadata server, which has the credentials of the
node. The address is checked when a socket connects. So it is the address that a name was resolved to, also
after a redirect, and no later answer of a name server can change it.

Python reports each connection of the process to an audit hook, including those of the clients of hubs, object
stores and registries. It does not report connections of native code, such as gloo's, and of other programs.
"""

import os
import socket
import sys
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from tunegate_api.contract.process import LOCAL_ADDRESSES_VARIABLE, MASTER_VARIABLE

_METADATA_SERVERS = tuple(
    map(
        ip_network,
        (
            "100.100.100.200/32",
            "168.63.129.16/32",
            "192.0.0.192/32",
            "fd00:ec2::254/128",
            "fd20:ce::254/128",
        ),
    )
)
"""Metadata servers that have no link-local address: of Alibaba Cloud, Azure, Oracle Cloud, AWS and Google
Cloud."""
_NAT64 = IPv6Network("64:ff9b::/96")
"""Addresses that a gateway translates to the IPv4 address in their last four bytes (RFC 6052)."""
_POD_IDENTITY = tuple(map(ip_network, ("169.254.170.23/32", "fd00:ec2::23/128")))
"""The agent of EKS Pod Identity. It answers only requests with the token of the pod's ServiceAccount, which
botocore reads from a file in the pod, so a server that a user chose learns nothing from it."""

_Network = IPv4Network | IPv6Network


class LocalAddressError(ConnectionRefusedError):
    """A connection to a local address was refused."""

    def __init__(self, address: str) -> None:
        super().__init__(f"the connection would lead to {address}, an address of the pod or its node")


def refuse_local_addresses() -> None:
    """Refuse connections of this process to local addresses from now on, as its environment says."""
    listed = os.environ.get(LOCAL_ADDRESSES_VARIABLE)
    if listed is None:
        return
    allowed = (*_POD_IDENTITY, *(ip_network(text) for text in listed.split(",") if text))
    master = os.environ.get(MASTER_VARIABLE)

    def check(event: str, arguments: tuple[object, ...]) -> None:
        if event != "socket.connect":
            return
        connecting, address = arguments
        is_ip = isinstance(connecting, socket.SocketType) and connecting.family in _IP_FAMILIES
        if not is_ip or not isinstance(address, tuple):
            return
        host, port = address[:2]
        if f"{host}:{port}" != master and is_refused(str(host), allowed):
            raise LocalAddressError(str(host))

    sys.addaudithook(check)


_IP_FAMILIES = (socket.AF_INET, socket.AF_INET6)


def is_refused(host: str, allowed: tuple[_Network, ...]) -> bool:
    """Return whether a pod may not connect to ``host``: a local address that is in no network of ``allowed``,
    or a name, because the address that it is resolved to would not be known."""
    try:
        address = _embedded(ip_address(host))
    except ValueError:
        return True
    networks = (network for network in allowed if network.version == address.version)
    return is_local(address) and not any(address in network for network in networks)


def is_local(address: IPv4Address | IPv6Address) -> bool:
    """Return whether an address leads to the pod itself, its node or a metadata server."""
    is_metadata = any(address in network for network in _METADATA_SERVERS)
    return address.is_loopback or address.is_link_local or address.is_unspecified or is_metadata


def _embedded(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address to which an IPv6 address leads: IPv4-mapped, 6to4 or NAT64. Return any other
    address unchanged."""
    if not isinstance(address, IPv6Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def find_local_address(error: BaseException | None) -> LocalAddressError | None:
    """Return the refused connection that caused an error of a client; None if there is none."""
    seen: set[int] = set()
    left = [error]
    while left:
        error = left.pop()
        if error is None or id(error) in seen:
            continue
        if isinstance(error, LocalAddressError):
            return error
        seen.add(id(error))
        left += [error.__cause__, error.__context__]
        left += error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    return None
