"""Starts the server: uvicorn with the settings, structured logs and a graceful shutdown."""

import ipaddress
import logging
import sys
from socket import AF_INET, AF_INET6, SO_REUSEADDR, SOCK_STREAM, SOL_SOCKET, getaddrinfo, socket
from typing import Any, Final

from nllb.errors import ResourceError

from .middleware import LOGGER, JsonLines
from .settings import ServerSettings

BACKLOG: Final = 4096


def is_public(host: str) -> bool:
    """Return whether an address to listen on can be reached from other machines."""
    if host == "localhost":
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True


def warnings_for(settings: ServerSettings) -> list[str]:
    """Return warnings about the settings, for the operator before the server starts."""
    warnings = []
    if is_public(settings.host) and not settings.require_key:
        warnings.append(
            f"the server listens on {settings.host}, so that everyone who reaches this machine can "
            "use it without a key; create keys with 'nllb serve keys add --keys DB' and start it "
            "with --keys DB --require-key, or listen on 127.0.0.1"
        )
    if settings.log_text:
        warnings.append("users' texts may be written to the log (--log-text)")
    if settings.require_key and not settings.keys:
        warnings.append("--require-key without --keys DB rejects every request")
    return warnings


def bind(settings: ServerSettings) -> socket:
    """Return a socket that is bound to the address of the settings.

    Raises:
        ResourceError: The address is in use, unknown, or does not belong to this machine.
    """
    try:
        [found, *_] = getaddrinfo(settings.host, settings.port, type=SOCK_STREAM)
        family, kind, protocol, _, address = found
        bound = socket(family if family in {AF_INET, AF_INET6} else AF_INET, kind, protocol)
        bound.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        raise ResourceError(
            f"cannot listen on {settings.host}, port {settings.port}: {error.strerror or error}; "
            "choose another with --host and --port"
        ) from None
    bound.setblocking(False)
    return bound


def set_up_logs() -> None:
    """Write the server's log to stderr, one JSON object per line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    LOGGER.handlers = [handler]
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False


def serve(settings: ServerSettings, *, load: Any = None) -> None:
    """Run the server until it receives a signal to stop.

    Running requests are finished, for at most `shutdown_s`; new ones are refused.

    Raises:
        CheckpointError: The model does not exist, or cannot be read.
        ResourceError: The address cannot be used, or the model does not fit into memory.
    """
    import uvicorn

    from .app import make_service_app

    set_up_logs()
    bound = bind(settings)
    app, service = make_service_app(settings, load=load)
    if settings.preload:  # a model that cannot be loaded ends the program here
        service.pool.languages(None)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        timeout_keep_alive=75,
        timeout_graceful_shutdown=int(settings.shutdown_s) + 1,
        backlog=BACKLOG,
        h11_max_incomplete_event_size=1 << 16,
    )
    host, port = bound.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    bound.listen(BACKLOG)
    for warning in warnings_for(settings):
        LOGGER.warning(warning)
    LOGGER.info(
        "listening", extra={"fields": {"url": f"http://{shown}:{port}{settings.root_path}/"}}
    )
    with bound:
        uvicorn.Server(config).run(sockets=[bound])
