"""The database of the server: API keys, their usage, and glossaries; `document_store` has more.

The database is SQLite by default; several servers can share one by an SQLAlchemy URL, such as that
of PostgreSQL. Only hashes of keys are stored. A key is 192 random bits, so a fast hash is secure.
"""

import hmac
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Connection,
    DateTime,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    delete,
    event,
    insert,
    select,
    update,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from nllb.errors import ConfigError, DataError, ResourceError

KEY_PREFIX: Final = "nllb-"
_SHOWN: Final = len(KEY_PREFIX) + 6
"""Number of characters of a key that are stored and listed, so that keys can be distinguished."""

_metadata = MetaData()
_keys = Table(
    "api_keys",
    _metadata,
    Column("id", Integer, primary_key=True),
    Column("hash", String(64), unique=True, nullable=False),
    Column("shown", String(32), nullable=False),
    Column("name", String(200), nullable=False),
    Column("req_limit", Integer),
    Column("char_limit", Integer),
    Column("created", DateTime(timezone=True), nullable=False),
    Column("revoked", Boolean, nullable=False, default=False),
    Column("characters", Integer, nullable=False, default=0),
)
_glossaries = Table(
    "glossaries",
    _metadata,
    Column("id", String(36), primary_key=True),
    Column("owner", Integer, nullable=False, index=True),
    Column("name", String(1024), nullable=False),
    Column("created", DateTime(timezone=True), nullable=False),
    Column("dictionaries", JSON, nullable=False),
)
NO_OWNER: Final = 0
"""Owner of glossaries and documents of requests without a key."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ApiKey:
    """One API key, without the key itself.

    Attributes:
        id: Its number.
        shown: Its first characters.
        name: A description of its purpose.
        req_limit: Requests per minute; None uses the server's limit.
        char_limit: Characters per request; None uses the server's limit.
        created: Time of its creation.
        revoked: Whether it has been revoked.
        characters: Number of characters translated with it.
    """

    id: int
    shown: str
    name: str
    req_limit: int | None
    char_limit: int | None
    created: datetime
    revoked: bool
    characters: int


class Store:
    """A connection pool to the database.

    Attributes:
        engine: The pool.
    """

    def __init__(self, address: str | Path) -> None:
        """Open or create a database.

        Args:
            address: A path of an SQLite file, or an SQLAlchemy URL.

        Raises:
            ConfigError: The URL is invalid, or its driver is not installed.
            ResourceError: The database cannot be opened.
        """
        text = str(address)
        url = text if "://" in text else f"sqlite:///{Path(text).expanduser()}"
        try:
            shown = make_url(url).render_as_string(hide_password=True)
            self.engine = create_engine(url, pool_pre_ping=True)
        except (ArgumentError, ImportError) as error:
            raise ConfigError(
                f"the database of keys cannot be used: {error}; give a path, or an SQLAlchemy URL "
                "such as postgresql+pg8000://user:password@host/name with its driver installed"
            ) from None
        if self.engine.dialect.name == "sqlite":
            event.listen(self.engine, "connect", _set_pragmas)
        try:
            _metadata.create_all(self.engine)
        except SQLAlchemyError as error:
            raise ResourceError(
                f"the database {shown} cannot be opened: {error.__cause__ or error}"
            ) from None
        self._usage: dict[int, int] = {}
        self._usage_lock = threading.Lock()

    def close(self) -> None:
        """Write pending changes and close all connections."""
        self.flush_usage()
        self.engine.dispose()

    @contextmanager
    def _begin(self) -> Iterator[Connection]:
        with self.engine.begin() as connection:
            yield connection

    # Keys

    def add_key(
        self, name: str = "", *, req_limit: int | None = None, char_limit: int | None = None
    ) -> tuple[str, ApiKey]:
        """Create a key, which is returned here and not stored."""
        key = KEY_PREFIX + secrets.token_urlsafe(24)
        with self._begin() as connection:
            connection.execute(
                insert(_keys).values(
                    hash=hash_key(key),
                    shown=key[:_SHOWN],
                    name=name[:200],
                    req_limit=req_limit,
                    char_limit=char_limit,
                    created=datetime.now(UTC),
                    revoked=False,
                    characters=0,
                )
            )
        found = self.find_key(key)
        assert found is not None
        return key, found

    def find_key(self, key: str) -> ApiKey | None:
        """Return a key, revoked or not; None if there is no such key."""
        digest = hash_key(key)
        with self._begin() as connection:
            row = connection.execute(select(_keys).where(_keys.c.hash == digest)).first()
        if row is None or not hmac.compare_digest(row.hash, digest):
            return None
        return _api_key(row)

    def list_keys(self) -> list[ApiKey]:
        """Return all keys in the order of their creation."""
        with self._begin() as connection:
            return list(map(_api_key, connection.execute(select(_keys).order_by(_keys.c.id))))

    def revoke_key(self, key_or_id: str) -> ApiKey:
        """Revoke a key, given by itself, its number or its first characters.

        Raises:
            DataError: No key, or more than one, matches.
        """
        digest = hash_key(key_or_id)
        with self._begin() as connection:
            rows = [
                row
                for row in connection.execute(select(_keys))
                if hmac.compare_digest(row.hash, digest)
                or str(row.id) == key_or_id
                or (len(key_or_id) >= _SHOWN and row.shown == key_or_id[:_SHOWN])
            ]
            exact = [row for row in rows if row.hash == digest] or rows
            if len(exact) != 1:
                raise DataError(
                    f"{len(exact)} keys match {key_or_id[:_SHOWN]!r}; give the number that 'nllb "
                    "serve keys list' shows"
                )
            connection.execute(update(_keys).where(_keys.c.id == exact[0].id).values(revoked=True))
        return _api_key(exact[0])

    # Usage

    def add_usage(self, owner: int, characters: int) -> None:
        """Count translated characters; they are written by `flush_usage`."""
        with self._usage_lock:
            self._usage[owner] = self._usage.get(owner, 0) + characters

    def flush_usage(self) -> None:
        """Write the counted characters."""
        with self._usage_lock:
            counted, self._usage = self._usage, {}
        with self._begin() as connection:
            for owner, characters in counted.items():
                connection.execute(
                    update(_keys)
                    .where(_keys.c.id == owner)
                    .values(characters=_keys.c.characters + characters)
                )

    def usage(self, owner: int) -> int:
        """Return the characters that were translated with a key."""
        self.flush_usage()
        with self._begin() as connection:
            found = connection.execute(select(_keys.c.characters).where(_keys.c.id == owner))
            return found.scalar() or 0

    # Glossaries

    def add_glossary(self, row: dict[str, Any]) -> None:
        """Store a glossary: the columns of its table by name."""
        with self._begin() as connection:
            connection.execute(insert(_glossaries).values(**row))

    def change_glossary(self, row: dict[str, Any]) -> None:
        """Replace the name and dictionaries of a glossary."""
        with self._begin() as connection:
            connection.execute(
                update(_glossaries)
                .where(_glossaries.c.id == row["id"], _glossaries.c.owner == row["owner"])
                .values(name=row["name"], dictionaries=row["dictionaries"])
            )

    def glossary(self, owner: int, glossary_id: str) -> dict[str, Any] | None:
        """Return a glossary of an owner."""
        with self._begin() as connection:
            wanted = (_glossaries.c.id == glossary_id, _glossaries.c.owner == owner)
            row = connection.execute(select(_glossaries).where(*wanted)).first()
        return None if row is None else dict(row._mapping)

    def glossaries(self, owner: int) -> list[dict[str, Any]]:
        """Return the glossaries of an owner, the newest last."""
        with self._begin() as connection:
            rows = connection.execute(
                select(_glossaries)
                .where(_glossaries.c.owner == owner)
                .order_by(_glossaries.c.created)
            )
            return [dict(row._mapping) for row in rows]

    def delete_glossary(self, owner: int, glossary_id: str) -> bool:
        """Delete a glossary, and return whether it existed."""
        with self._begin() as connection:
            wanted = (_glossaries.c.id == glossary_id, _glossaries.c.owner == owner)
            return connection.execute(delete(_glossaries).where(*wanted)).rowcount > 0


def hash_key(key: str) -> str:
    """Return what is stored in place of a key."""
    return sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _api_key(row: Any) -> ApiKey:
    return ApiKey(
        id=row.id,
        shown=row.shown,
        name=row.name,
        req_limit=row.req_limit,
        char_limit=row.char_limit,
        created=row.created,
        revoked=row.revoked,
        characters=row.characters,
    )


def _set_pragmas(connection: Any, record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA busy_timeout=10000")
    cursor.close()
