"""Access control: API keys, rate limits, and limits of the size of requests."""

from dataclasses import dataclass
from math import ceil
from time import monotonic, time
from typing import Final

from limits import RateLimitItem, RateLimitItemPerDay, RateLimitItemPerHour, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from .errors import RequestError
from .settings import ServerSettings
from .store import NO_OWNER, ApiKey, Store

KEY_CACHE_S: Final = 2.0
"""Maximum time until a revoked key is rejected."""
MAX_CACHED_KEYS: Final = 4096
MAX_KEY_LENGTH: Final = 256

MISSING_KEY: Final = "Please contact the server operator to get an API key"
INVALID_KEY: Final = "Invalid API key"
_PERIODS: Final = {"minute": "1 minute", "hour": "1 hour", "day": "1 day"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """The sender of a request.

    Attributes:
        owner: Number of the key; 0 without a key.
        client: The key or the address by which requests are counted.
        key: The key, if there is one.
    """

    owner: int
    client: str
    key: ApiKey | None = None


class Access:
    """Checks keys and limits."""

    def __init__(self, settings: ServerSettings, store: Store) -> None:
        """Prepare the checks of these settings."""
        self._settings, self._store = settings, store
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._cache: dict[str, tuple[float, ApiKey | None]] = {}

    async def caller(
        self, request: Request, key: str, *, missing_status: int = 400, invalid_status: int = 403
    ) -> Caller:
        """Return the sender of a request.

        Args:
            request: The request.
            key: The given key, or an empty string.
            missing_status: Status for a missing key, if keys are required.
            invalid_status: Status for a key that is unknown or revoked.

        Raises:
            RequestError: The key is missing or invalid.
        """
        address = request.client.host if request.client else ""
        if key and self._settings.keys:
            found = await self._find(key)
            if found is not None and not found.revoked:
                return Caller(owner=found.id, client=f"key {found.id}", key=found)
            self._count(f"wrong key {address}", RateLimitItemPerMinute(60), 1)
            raise RequestError(invalid_status, INVALID_KEY, code="invalid_key")
        if self._settings.require_key:
            raise RequestError(missing_status, MISSING_KEY, code="missing_key")
        return Caller(owner=NO_OWNER, client=f"address {address}")

    async def _find(self, key: str) -> ApiKey | None:
        if len(key) > MAX_KEY_LENGTH:
            return None
        now = monotonic()
        cached = self._cache.get(key)
        if cached is not None and cached[0] > now:
            return cached[1]
        found = await run_in_threadpool(self._store.find_key, key)
        if len(self._cache) >= MAX_CACHED_KEYS:
            self._cache.clear()
        self._cache[key] = (now + KEY_CACHE_S, found)
        return found

    def check_rate(self, caller: Caller, *, cost: int = 1) -> None:
        """Count a request.

        Raises:
            RequestError: The caller has sent too many requests.
        """
        settings = self._settings
        flood = settings.req_flood_threshold
        if flood and not self._limiter.test(RateLimitItemPerHour(flood), f"flood {caller.client}"):
            raise RequestError(403, "Too many request limits violations", code="banned")
        per_minute = settings.req_limit
        if caller.key is not None and caller.key.req_limit is not None:
            per_minute = caller.key.req_limit
        items: list[tuple[int, RateLimitItem]] = [
            (per_minute, RateLimitItemPerMinute(per_minute)),
            (settings.hourly_req_limit, RateLimitItemPerHour(settings.hourly_req_limit)),
            (settings.daily_req_limit, RateLimitItemPerDay(settings.daily_req_limit)),
        ]
        for limit, item in items:
            if limit:
                self._count(caller.client, item, min(cost, limit))

    def _count(self, client: str, item: RateLimitItem, cost: int) -> None:
        if self._limiter.hit(item, client, cost=cost):
            return
        if flood := self._settings.req_flood_threshold:
            self._limiter.hit(RateLimitItemPerHour(flood), f"flood {client}")
        window = self._limiter.get_window_stats(item, client)
        period = _PERIODS[item.GRANULARITY.name]
        raise RequestError(
            429,
            f"Slowdown: {item.amount} per {period}",
            code="rate_limit",
            retry_after_s=max(1, ceil(window.reset_time - time())),
        )

    def check_size(self, caller: Caller, texts: list[str], *, is_batch: bool = False) -> None:
        """Check the number of texts and characters of a request.

        Raises:
            RequestError: The request is too large.
        """
        limit = self._settings.batch_limit
        if is_batch and limit and len(texts) > limit:
            raise _too_large(len(texts), limit)
        limit = self.char_limit(caller)
        num_characters = sum(map(len, texts))
        if limit and num_characters > limit:
            raise _too_large(num_characters, limit)

    def char_limit(self, caller: Caller) -> int:
        """Return the maximum number of characters of a caller's requests; 0 means no limit."""
        if caller.key is not None and caller.key.char_limit is not None:
            return caller.key.char_limit
        return self._settings.char_limit

    def count_characters(self, caller: Caller, num_characters: int) -> None:
        """Add translated characters to the usage of a key."""
        if caller.owner != NO_OWNER:
            self._store.add_usage(caller.owner, num_characters)


def _too_large(size: int, limit: int) -> RequestError:
    return RequestError(
        400,
        f"Invalid request: request ({size}) exceeds text limit ({limit})",
        code="too_large",
    )
