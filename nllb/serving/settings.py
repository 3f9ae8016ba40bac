"""Settings of the server, which are also the options of `nllb serve`."""

import os
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=1)]
Limit = Annotated[int, Field(ge=0)]


class ServerSettings(BaseModel):
    """All settings of the server; a limit of 0 means no limit.

    The character and rate limits apply per API key, or per client address if no key is given. A key
    may have its own rate and character limits, which replace these.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(default=5000, description="TCP port")
    root_path: Annotated[str, Field(pattern=r"^(/[A-Za-z0-9._~-]+)*$")] = Field(
        default="", description="path under which a proxy publishes the server, such as /translate"
    )
    trusted_proxies: tuple[str, ...] = Field(
        default=(), description="addresses of proxies whose X-Forwarded-* headers are trusted"
    )
    cors_origins: tuple[str, ...] = Field(
        default=("*",), description="origins from which browsers may call the API"
    )

    models: tuple[str, ...] = Field(
        default=(),
        description="model to serve; the first one is the default, as in 'nllb translate'",
    )
    device: str = Field(default="auto", description="cpu, cuda or auto")
    dtype: Literal["auto", "int8", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="dtype of the weights in memory"
    )
    workers: Limit = Field(
        default=0,
        description="batches that a model computes at the same time; 0 means one, plus one for "
        "each processor beyond --threads",
    )
    threads: Limit = Field(
        default=0,
        description="CPU threads of a batch; 0 means up to four of the processors. Of concurrent "
        "batches, one uses all these threads and the others use one each",
    )
    preload: bool = Field(default=True, description="load the default model at start")
    idle_unload_s: Annotated[float, Field(ge=0)] = Field(
        default=0, description="unload a model after this time without use; 0 keeps all models"
    )

    max_batch_segments: Count = Field(default=16, description="segments per batch")
    max_bulk_segments: Count = Field(
        default=4,
        description="segments of long texts per batch while short texts are being translated",
    )
    max_queued_requests: Count = Field(default=2048, description="requests in flight")
    max_queued_characters: Count = Field(
        default=4_000_000, description="characters of all requests in flight"
    )
    request_threads: Count = Field(
        default=128, description="requests that are processed at the same time"
    )
    cached_segments: Limit = Field(
        default=8192, description="finished segments cached in memory, for repeated requests"
    )

    keys: str = Field(
        default="",
        description="database of API keys and glossaries: a path (SQLite) or an SQLAlchemy URL; "
        "empty keeps glossaries in memory and disables keys",
    )
    require_key: bool = Field(default=False, description="reject requests without a valid key")
    char_limit: Limit = Field(default=0, description="characters per request")
    batch_limit: Limit = Field(default=0, description="texts per request")
    req_limit: Limit = Field(default=0, description="requests per minute")
    hourly_req_limit: Limit = Field(default=0, description="requests per hour")
    daily_req_limit: Limit = Field(default=0, description="requests per day")
    req_flood_threshold: Limit = Field(
        default=0, description="violations of a rate limit per hour after which a client is banned"
    )
    alternatives_limit: Annotated[int, Field(ge=0, le=16)] = Field(
        default=8, description="maximum number of alternatives that a request may ask for"
    )
    character_quota: Count = Field(
        default=1_000_000_000_000, description="character_limit that /v2/usage reports"
    )
    max_body_bytes: Count = Field(default=32 << 20, description="maximum size of a request's body")
    body_timeout_s: Annotated[float, Field(gt=0)] = Field(
        default=60, description="time within which a client must send the next part of a body"
    )
    request_timeout_s: Annotated[float, Field(gt=0)] = Field(
        default=600, description="time after which a request is aborted"
    )
    document_timeout_s: Annotated[float, Field(gt=0)] = Field(
        default=3600, description="time after which the translation of a file is aborted"
    )
    document_memory_bytes: Count = Field(
        default=2 << 30, description="memory of the process that parses an uploaded file"
    )
    max_documents: Count = Field(default=4, description="files that are translated at once")
    max_stored_documents: Count = Field(
        default=256, description="maximum number of stored files and results"
    )
    document_keep_s: Annotated[float, Field(gt=0)] = Field(
        default=3600, description="time for which a translated file can be fetched"
    )
    files_translation: bool = Field(default=True, description="translate uploaded files")
    metrics: bool = Field(default=True, description="serve /metrics")
    metrics_token: str = Field(default="", description="bearer token that /metrics requires")
    shutdown_s: Annotated[float, Field(gt=0)] = Field(
        default=30, description="time that running requests have to finish at shutdown"
    )
    log_text: bool = Field(
        default=False, description="write users' text into the log, for debugging only"
    )

    @property
    def engine_threads(self) -> tuple[int, int]:
        """The number of concurrent batches, and the number of threads of each."""
        processors = len(os.sched_getaffinity(0))
        threads = self.threads or min(4, processors)
        # The compiled engine has one pool of threads; while one batch uses it, others have a thread
        # each.
        return self.workers or max(1, processors - threads + 1), threads
