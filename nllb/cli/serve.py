"""`nllb serve` and `nllb serve keys ...`: the server and its API keys."""

import argparse
import sys
from typing import TYPE_CHECKING, Any

from nllb.config import parse_size
from nllb.errors import ConfigError, NllbError, ResourceError

if TYPE_CHECKING:
    from nllb.serving.store import ApiKey, Store

_LISTS = ("models", "cors_origins", "trusted_proxies")
_SIZES = ("max_body_bytes", "document_memory_bytes")
_FLAGS = {"models": "model"}
"""Settings whose flag has another name."""
_METAVARS = {
    "host": "H",
    "port": "P",
    "models": "M",
    "keys": "DB",
    "cors_origins": "ORIGIN",
    "trusted_proxies": "ADDRESS",
    "root_path": "PATH",
    "device": "D",
    "metrics_token": "TOKEN",
}


def serve_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "The server offers its own API under /v1 (documented at /docs) and the protocols of "
        "LibreTranslate, DeepL, Google, nllb-serve and nllb-api; / is a web page for translation. "
        "After Ctrl-C or SIGTERM, the server finishes the running requests and ends."
    )
    _settings_arguments(parser)


def _settings_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each setting of the server."""
    from nllb.serving.settings import ServerSettings

    for name, field in ServerSettings.model_fields.items():
        flag = "--" + _FLAGS.get(name, name).replace("_", "-")
        text = (field.description or "").replace("%", "%%")
        default = field.default
        options: dict[str, Any] = {"dest": name, "default": None, "help": text}
        if isinstance(default, bool):
            options["action"] = argparse.BooleanOptionalAction
        elif name in _LISTS:
            options |= {"action": "append", "metavar": _METAVARS[name]}
            options["help"] += "; can be repeated"
        else:
            options["metavar"] = _METAVARS.get(name, "SIZE" if name in _SIZES else "N")
        if name == "dtype":
            options |= {"choices": ["auto", "int8", "float32", "bfloat16", "float16"]}
            del options["metavar"]
        if isinstance(default, bool):
            options["help"] += f"; default: {'on' if default else 'off'}"
        elif default not in ("", ()):
            shown = " ".join(default) if isinstance(default, tuple) else default
            options["help"] += f"; default: {shown}"
        parser.add_argument(flag, **options)


def serve(arguments: argparse.Namespace) -> int:
    settings = read_settings(arguments)
    try:
        from nllb.serving.server import serve as run_server
    except ImportError as error:
        raise _missing(error) from None
    try:
        run_server(settings)
    except ImportError as error:
        raise _missing(error) from None
    except KeyboardInterrupt:  # uvicorn repeats the signal after the graceful shutdown.
        pass
    return 0


def read_settings(arguments: argparse.Namespace) -> Any:
    """Return the settings of a command line.

    Raises:
        ConfigError: A value is out of range.
    """
    from pydantic import ValidationError

    from nllb.serving.settings import ServerSettings

    given = {
        name: getattr(arguments, name)
        for name in ServerSettings.model_fields
        if getattr(arguments, name) is not None
    }
    for name in _SIZES:
        if name in given:
            given[name] = parse_size(given[name])
    try:
        return ServerSettings(**given)
    except ValidationError as error:
        problems = [
            f"--{_FLAGS.get(str(each['loc'][0]), str(each['loc'][0])).replace('_', '-')} is "
            f"{each['input']!r}: {each['msg']}"
            for each in error.errors()
        ]
        raise ConfigError("; ".join(problems)) from None


def _missing(error: ImportError) -> ResourceError:
    return ResourceError(
        f"the server needs the extra [serve], and {error.name or error} is not installed; run: pip "
        f"install 'nllb[serve]'"
    )


def _store_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--keys",
        required=True,
        metavar="DB",
        help="database of keys: a path (SQLite) or an SQLAlchemy URL, as for 'nllb serve'",
    )


def _open(address: str) -> "Store":
    try:
        from nllb.serving.store import Store
    except ImportError as error:
        raise _missing(error) from None
    return Store(address)


def keys_add_arguments(parser: argparse.ArgumentParser) -> None:
    _store_argument(parser)
    parser.add_argument(
        "--name",
        default="",
        metavar="TEXT",
        help="purpose of the key, such as the name of a program",
    )
    parser.add_argument(
        "--req-limit", type=int, metavar="N", help="requests per minute; 0 means no limit"
    )
    parser.add_argument(
        "--char-limit", type=int, metavar="N", help="characters per request; 0 means no limit"
    )


def keys_add(arguments: argparse.Namespace) -> int:
    for name in ("req_limit", "char_limit"):
        value = getattr(arguments, name)
        if value is not None and value < 0:
            raise ConfigError(f"--{name.replace('_', '-')} is {value}; it must be 0 or more")
    store = _open(arguments.keys)
    key, found = store.add_key(
        arguments.name, req_limit=arguments.req_limit, char_limit=arguments.char_limit
    )
    print(key)
    print(
        f"key {found.id} was created. Copy it now: only its hash is stored",
        file=sys.stderr,
    )
    store.close()
    return 0


def keys_list_arguments(parser: argparse.ArgumentParser) -> None:
    _store_argument(parser)


def keys_list(arguments: argparse.Namespace) -> int:
    store = _open(arguments.keys)
    print("number\tkey\tname\tstate\trequests per minute\tcharacters\ttranslated\tcreated")
    for key in store.list_keys():
        print("\t".join(map(str, _columns(key))))
    store.close()
    return 0


def _columns(key: "ApiKey") -> tuple[Any, ...]:
    state = "revoked" if key.revoked else "valid"
    limits = ("" if limit is None else limit for limit in (key.req_limit, key.char_limit))
    created = f"{key.created:%Y-%m-%d}"
    return (key.id, f"{key.shown}...", key.name, state, *limits, key.characters, created)


def keys_revoke_arguments(parser: argparse.ArgumentParser) -> None:
    _store_argument(parser)
    parser.add_argument("key", metavar="KEY", help="the key, its number, or its first characters")


def keys_revoke(arguments: argparse.Namespace) -> int:
    store = _open(arguments.keys)
    try:
        key = store.revoke_key(arguments.key)
    except NllbError:
        store.close()
        raise
    store.close()
    print(f"key {key.id} ({key.shown}...) is revoked", file=sys.stderr)
    return 0
