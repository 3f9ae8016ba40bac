"""Documents in the database of the server: uploads that wait, and results that can be fetched.

An upload and its options are stored until its translation is finished, so that a restart of the
server loses nothing. Each running server marks the jobs that it works on and renews the marks
every few seconds. Jobs without a recent mark belong to a server that has ended; any server may
claim them.
"""

import hmac
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import time
from typing import Any, Final

from sqlalchemy import (
    JSON,
    Column,
    Connection,
    DateTime,
    Engine,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from .store import hash_key

MARK_VALID_S: Final = 30.0
"""Age at which a mark no longer counts, because its server must have ended."""
UNFINISHED: Final = ("queued", "translating")

_metadata = MetaData()
_documents = Table(
    "documents",
    _metadata,
    Column("id", String(32), primary_key=True),
    Column("key_hash", String(64), nullable=False),
    Column("owner", Integer, nullable=False),
    Column("name", String(255), nullable=False),
    Column("status", String(16), nullable=False),
    Column("characters", Integer, nullable=False, default=0),
    Column("message", String(500), nullable=False, default=""),
    Column("report", JSON),
    Column("data", LargeBinary),
    Column("created", DateTime(timezone=True), nullable=False, index=True),
)
_jobs = Table(
    "document_jobs",
    _metadata,
    Column("id", String(32), primary_key=True),
    Column("upload", LargeBinary, nullable=False),
    Column("options", JSON, nullable=False),
    Column("starts", Integer, nullable=False),
    Column("server", String(32), nullable=False),
    Column("marked", Float, nullable=False),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentJob:
    """A document whose translation is not finished.

    Attributes:
        id: The document.
        owner: Number of the key that it was uploaded with.
        options: How it is to be translated.
        num_bytes: Size of the upload.
        starts: How often its translation has been started.
    """

    id: str
    owner: int
    options: dict[str, Any]
    num_bytes: int
    starts: int


class DocumentStore:
    """The documents of all servers that share a database."""

    def __init__(self, engine: Engine) -> None:
        """Create the tables if they are missing; jobs are marked with the name of this object."""
        self._engine = engine
        self._server = secrets.token_hex(16)
        _metadata.create_all(engine)

    @contextmanager
    def _begin(self) -> Iterator[Connection]:
        with self._engine.begin() as connection:
            yield connection

    def add(
        self, owner: int, name: str, *, upload: bytes = b"", options: dict[str, Any] | None = None
    ) -> tuple[str, str]:
        """Store a document that is queued; return its id and the key that opens it.

        Args:
            owner: Number of the key of its owner.
            name: Its name.
            upload: The file.
            options: How it is to be translated; without them no job is stored, and the document
                is not translated after a restart.
        """
        document_id, key = secrets.token_hex(16), secrets.token_hex(32)
        with self._begin() as connection:
            connection.execute(
                insert(_documents).values(
                    id=document_id,
                    key_hash=hash_key(key),
                    owner=owner,
                    name=name[:255],
                    status="queued",
                    characters=0,
                    message="",
                    created=datetime.now(UTC),
                )
            )
            if options is not None:
                connection.execute(
                    insert(_jobs).values(
                        id=document_id,
                        upload=upload,
                        options=options,
                        starts=0,
                        server=self._server,
                        marked=time(),
                    )
                )
        return document_id, key

    # Jobs

    def start_job(self, document_id: str) -> bytes | None:
        """Count a start of a job and return its upload; None if the document has been deleted."""
        with self._begin() as connection:
            wanted = _jobs.c.id == document_id
            connection.execute(update(_jobs).where(wanted).values(starts=_jobs.c.starts + 1))
            found = connection.execute(select(_jobs.c.upload).where(wanted)).scalar()
        return None if found is None else bytes(found)

    def mark_jobs(self) -> None:
        """Renew the marks of this server."""
        with self._begin() as connection:
            wanted = _jobs.c.server == self._server
            connection.execute(update(_jobs).where(wanted).values(marked=time()))

    def claim_jobs(self, *, limit: int) -> list[DocumentJob]:
        """Mark jobs that no running server works on as those of this one, and return them."""
        free = or_(_jobs.c.server == "", _jobs.c.marked < time() - MARK_VALID_S)
        columns = (_jobs.c.id, _jobs.c.options, _jobs.c.starts, _documents.c.owner)
        size = func.length(_jobs.c.upload).label("num_bytes")
        claimed = []
        with self._begin() as connection:
            rows = connection.execute(
                select(*columns, size)
                .join(_documents, _documents.c.id == _jobs.c.id)
                .where(free)
                .order_by(_documents.c.created)
                .limit(limit)
            ).all()
            for row in rows:
                marked = connection.execute(  # Another server may have been faster.
                    update(_jobs)
                    .where(_jobs.c.id == row.id, free)
                    .values(server=self._server, marked=time())
                )
                if marked.rowcount:
                    claimed.append(DocumentJob(**row._mapping))
        return claimed

    def release_jobs(self, document_id: str | None = None) -> None:
        """Give up the jobs of this server, or one of them, so that they are claimed again."""
        wanted = [_jobs.c.server == self._server]
        if document_id is not None:
            wanted.append(_jobs.c.id == document_id)
        with self._begin() as connection:
            ids = select(_jobs.c.id).where(*wanted)
            queued = update(_documents).where(_documents.c.id.in_(ids))
            connection.execute(queued.values(status="queued"))
            connection.execute(update(_jobs).where(*wanted).values(server=""))

    # Documents

    def change(self, document_id: str, **columns: Any) -> None:
        """Set columns of a document."""
        with self._begin() as connection:
            wanted = _documents.c.id == document_id
            connection.execute(update(_documents).where(wanted).values(**columns))

    def finish(self, document_id: str, **columns: Any) -> None:
        """Set the result of a document and delete its upload; its time limit begins now."""
        with self._begin() as connection:
            wanted = _documents.c.id == document_id
            finished = columns | {"created": datetime.now(UTC)}
            connection.execute(update(_documents).where(wanted).values(**finished))
            connection.execute(delete(_jobs).where(_jobs.c.id == document_id))

    def find(self, document_id: str, key: str) -> dict[str, Any] | None:
        """Return a document without its data, if the key is right."""
        columns = [column for column in _documents.c if column.name != "data"]
        with self._begin() as connection:
            row = connection.execute(select(*columns).where(_documents.c.id == document_id)).first()
        if row is None or not hmac.compare_digest(row.key_hash, hash_key(key)):
            return None
        return dict(row._mapping)

    def data(self, document_id: str) -> bytes | None:
        """Return the translated file; None if there is none (yet)."""
        with self._begin() as connection:
            wanted = select(_documents.c.data).where(_documents.c.id == document_id)
            data = connection.execute(wanted).scalar()
        return None if data is None else bytes(data)

    def count(self) -> int:
        """Return how many documents are stored."""
        with self._begin() as connection:
            return connection.execute(select(func.count()).select_from(_documents)).scalar() or 0

    def delete(self, document_id: str) -> None:
        """Delete a document and what is left of its upload."""
        with self._begin() as connection:
            for table in (_documents, _jobs):
                connection.execute(delete(table).where(table.c.id == document_id))

    def delete_old(self, *, finished_s: float, unfinished_s: float) -> None:
        """Delete documents of a certain age; those that still have a job stay."""
        now = datetime.now(UTC)
        finished = _documents.c.status.not_in(UNFINISHED)
        has_job = _documents.c.id.in_(select(_jobs.c.id))
        with self._begin() as connection:
            for kind, age_s in ((finished, finished_s), (~finished & ~has_job, unfinished_s)):
                limit = now - timedelta(seconds=age_s)
                connection.execute(delete(_documents).where(kind, _documents.c.created < limit))
