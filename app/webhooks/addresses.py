"""Which addresses a message may go to, and a network backend that asks when it connects.

A name may resolve to a public address when it is checked and to a private one a moment later, so the address that is
checked is the very one that is connected to. TLS still sees the name, and checks the certificate against it.
"""

import socket
import ssl
import time
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any

import httpcore2

NAT64 = IPv6Network("64:ff9b::/96")
SocketOption = Any


class Refused(Exception):
    """The address may not be connected to."""


class LimitExceeded(Exception):
    """The receiver took too long or sent too much."""


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address belongs to the public internet, also when IPv6 wraps an IPv4 address."""
    if isinstance(address, IPv6Address):
        wrapped = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if wrapped is None and address in NAT64:
            wrapped = IPv4Address(int(address) & 0xFFFFFFFF)
        if wrapped is not None:
            return is_public(wrapped)
    return address.is_global and not address.is_multicast


def check_host(host: str, *, allow_private: bool) -> None:
    """Refuse an address that is written out; a name is looked at when it is connected to.

    Raises:
        Refused: it is the address of a private, loopback or link-local network.
    """
    try:
        address = ip_address(host)
    except ValueError:
        return
    if not allow_private and not is_public(address):
        raise Refused(f"{host} is not a public address")


def resolve(host: str, port: int, *, allow_private: bool) -> list[str]:
    """The addresses of a host that may be connected to.

    Raises:
        Refused: there is none among those that the host has.
        OSError: the name does not resolve.
    """
    found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    allowed = [address for address in dict.fromkeys(found) if allow_private or is_public(_bare(address))]
    if not allowed:
        raise Refused(f"{host} resolves to {', '.join(dict.fromkeys(found))}, which is not a public address")
    return allowed


def _bare(address: str) -> IPv4Address | IPv6Address:
    return ip_address(address.partition("%")[0])


class GuardedBackend(httpcore2.NetworkBackend):
    """Connects to checked addresses alone, and ends all reading and writing at one deadline and one size."""

    def __init__(self, *, allow_private: bool, limit_seconds: float, limit_bytes: int) -> None:
        self._allow_private = allow_private
        self._deadline = time.monotonic() + limit_seconds
        self._limit_bytes = limit_bytes
        self._sockets = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SocketOption] | None = None,
    ) -> httpcore2.NetworkStream:
        """Connect to the first allowed address that answers."""
        failure: Exception | None = None
        for address in resolve(host, port, allow_private=self._allow_private):
            try:
                stream = self._sockets.connect_tcp(
                    address, port, self._remaining(), local_address=local_address, socket_options=socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
            else:
                return _GuardedStream(stream, deadline=self._deadline, limit_bytes=self._limit_bytes)
        raise failure or httpcore2.ConnectError(f"{host} has no address")

    def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[SocketOption] | None = None,
    ) -> httpcore2.NetworkStream:
        """Never: a receiver is elsewhere."""
        raise Refused("a socket of this machine is not a public address")

    def _remaining(self) -> float:
        return _remaining(self._deadline)


def _remaining(deadline: float) -> float:
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise LimitExceeded("the receiver did not answer in time")
    return remaining


class _GuardedStream(httpcore2.NetworkStream):
    def __init__(self, stream: httpcore2.NetworkStream, *, deadline: float, limit_bytes: int) -> None:
        self._stream = stream
        self._deadline = deadline
        self._left = limit_bytes

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = self._stream.read(max_bytes, _remaining(self._deadline))
        self._left -= len(data)
        if self._left < 0:
            raise LimitExceeded("the receiver's answer is too long")
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _remaining(self._deadline))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, _remaining(self._deadline))
        return _GuardedStream(stream, deadline=self._deadline, limit_bytes=self._left)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
