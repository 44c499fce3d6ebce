"""The gRPC server of both programs: options, guards, standard services, start and drain.

The options carry what was measured: without a ping timeout of its own a frozen peer is noticed after a minute; with
SO_REUSEPORT a second server takes half of the calls of the first, silently; above 1,000 waiting calls grpc drops some
at random.
"""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
from grpc_channelz.v1 import channelz
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from services.rpc.drain import Drain
from services.rpc.errors import Translate
from services.rpc.interceptors import Edge
from services.rpc.reading import MAX_MESSAGE_BYTES
from services.settings import ConfigError

_SERVING = health_pb2.HealthCheckResponse.SERVING


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """How connections are kept. The defaults leave a slow link time to answer and notice a dead one in seconds."""

    keepalive_s: float = 10.0  # a silent connection is pinged this often
    ping_timeout_s: float = 5.0  # a ping without an answer for this long ends it
    grace_s: float = 5.0  # calls in flight at the end get this long

    def channel_arguments(self) -> list[tuple[str, int]]:
        """The same for grpc's core."""
        return [
            ("grpc.so_reuseport", 0),
            ("grpc.keepalive_time_ms", int(self.keepalive_s * 1000)),
            ("grpc.keepalive_timeout_ms", int(self.ping_timeout_s * 1000)),
            ("grpc.http2.ping_timeout_ms", int(self.ping_timeout_s * 1000)),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_pings_without_data", 0),
            # Clients ping as they like: with the default, one ping a second gets GOAWAY after three.
            ("grpc.http2.min_ping_interval_without_data_ms", 500),
            # Refused with a reason above MAX_MESSAGE_BYTES; by grpc, which gives none, above this.
            ("grpc.max_receive_message_length", 4 * MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            ("grpc.server.max_pending_requests", 10_000),
            ("grpc.server.max_pending_requests_hard_limit", 20_000),
            # A probing window lets each upload grow to 5 MiB of buffer; this holds it at 1 MiB.
            ("grpc.http2.bdp_probe", 0),
            ("grpc.http2.lookahead_bytes", 1024 * 1024),
        ]


@dataclass(kw_only=True)
class Server:
    """A server that is bound and not yet started; `serving` starts it. address: `host:port` as bound."""

    address: str
    grpc_server: grpc.aio.Server
    options: ServerOptions
    drain: Drain
    health: health.aio.HealthServicer
    service_names: list[str] = field(default_factory=list)


def build_server(
    servicers: Sequence[object],
    *,
    listen: str,
    insecure: bool = False,
    options: ServerOptions | None = None,
    translate: Translate = lambda error: None,
) -> Server:
    """A server of these servicers, bound to `listen` (`host:port`, port 0 for any free one).

    insecure: allow an address that other machines reach, though nothing is encrypted or authenticated.
    translate: names the expected failures behind exceptions of libraries, such as a database that is away.
    Raises ConfigError where the address is refused or taken.
    """
    options = options or ServerOptions()
    require_local(listen, insecure=insecure)
    drain = Drain()
    edge = Edge(drain=drain, translate=translate)
    server = grpc.aio.server(interceptors=[edge], options=options.channel_arguments())
    names = [_add(servicer, server) for servicer in servicers]
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    channelz.add_channelz_servicer(server)
    reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    return Server(
        address=_bind(server, listen),
        grpc_server=server,
        options=options,
        drain=drain,
        health=checks,
        service_names=names,
    )


@asynccontextmanager
async def serving(server: Server) -> AsyncIterator[str]:
    """Serve while inside; gives the bound address. On leaving: NOT_SERVING, streams end at once with UNAVAILABLE, unary
    calls get their grace."""
    await server.grpc_server.start()
    for name in ("", *server.service_names):
        await server.health.set(name, _SERVING)
    try:
        yield server.address
    finally:
        await server.health.enter_graceful_shutdown()
        server.drain.begin()
        await server.grpc_server.stop(server.options.grace_s)


def require_local(listen: str, *, insecure: bool) -> None:
    """Refuse, with a sentence, to listen where other machines could reach a server without encryption or accounts."""
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(f"listen: {listen!r} is no address; write host:port, such as 127.0.0.1:7460")
    if insecure or _is_loopback(host.strip("[]")):
        return
    raise ConfigError(
        f"listen: {listen} can be reached by other machines, and nothing is encrypted or authenticated yet; "
        "listen on 127.0.0.1, or set insecure = true (--insecure) on a network that you trust"
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _bind(server: grpc.aio.Server, listen: str) -> str:
    try:
        port = server.add_insecure_port(listen)
    except RuntimeError as error:
        raise ConfigError(
            f"listen: {listen} cannot be bound; another program may hold it: stop that, or choose another port"
        ) from error
    return f"{listen.rpartition(':')[0]}:{port}"


def _add(servicer: object, server: grpc.aio.Server) -> str:
    """Register a servicer and tell its service's full name. Both follow from the generated class that it extends."""
    for base in type(servicer).__mro__:
        module = sys.modules[base.__module__]
        add = getattr(module, f"add_{base.__name__}_to_server", None)
        if add is not None:
            add(servicer, server)
            messages = sys.modules[base.__module__.removesuffix("_grpc")]
            return str(messages.DESCRIPTOR.services_by_name[base.__name__.removesuffix("Servicer")].full_name)
    raise TypeError(f"{type(servicer).__name__} extends no generated servicer")
