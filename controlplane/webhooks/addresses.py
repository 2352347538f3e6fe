"""Which addresses a webhook may be dialled at: the open internet, and the networks that the operator allows by name.

What a person types as an address is dialled from inside the operator's network, so without this a webhook would be a way to
speak to whatever stands there (server-side request forgery, OWASP API7:2023). `ipaddress.is_global` alone is not enough: it
calls multicast, NAT64, 6to4 and some addresses of cloud providers global.
"""

import ipaddress
from collections.abc import Iterable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Where clouds hand credentials to whoever asks. Refused even inside an allowed network: nobody wants a webhook there.
METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254",  # AWS, Google, Azure, Oracle, DigitalOcean
        "169.254.170.2",  # AWS, credentials of containers
        "169.254.170.23",  # AWS, credentials of EKS pods
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",  # Google
        "100.100.100.200",  # Alibaba
        "192.0.0.192",  # Oracle
        "168.63.129.16",  # Azure, though a public address
    )
)
# Addresses that stand for others, or for many. The ones that hold an IPv4 address may lead to any of it.
_STAND_INS = tuple(
    ipaddress.ip_network(text)
    for text in (
        "192.88.99.0/24",  # 6to4 relays (RFC 7526)
        "2001::/23",  # Teredo, ORCHID and other protocols (RFC 2928)
        "2002::/16",  # 6to4 (RFC 3056)
        "3fff::/20",  # for documentation (RFC 9637), which older Pythons do not know
    )
)
# All that is given out to the internet so far (RFC 4291, 2.4; IANA). Outside of it lie NAT64, segment routing, discard, ...
_UNICAST6 = ipaddress.ip_network("2000::/3")


def plain(address: Address) -> Address:
    """An IPv4 address that is written as an IPv6 one (`::ffff:127.0.0.1`) is dialled as IPv4, so it is judged as such."""
    mapped = getattr(address, "ipv4_mapped", None)
    return address if mapped is None else mapped


def refusal(address: Address, allowed: Iterable[Network]) -> str | None:
    """Why nothing may be sent to this address, in words; None where it may."""
    address = plain(address)
    if address in METADATA:
        return f"{address} is a cloud's metadata service"
    if any(address.version == network.version and address in network for network in allowed):
        return None
    if any(address.version == network.version and address in network for network in _STAND_INS):
        return f"{address} stands for other addresses"
    if address.version == 6 and address not in _UNICAST6:
        return f"{address} is not an address of the open internet"
    if address.is_multicast:
        return f"{address} is a multicast address"
    if not address.is_global:
        return f"{address} is not an address of the open internet"
    return None
