"""The parts of a running server, which its routes share."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from starlette.requests import Request

from nllb.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    LanguageError,
    NllbError,
    ResourceError,
)
from nllb.languages import Language
from nllb.translation.translator import Translator

from .access import Access, Caller
from .client_languages import read_language
from .document_jobs import DocumentJobs
from .errors import RequestError
from .metrics import Metrics
from .model_pool import ModelPool
from .request_runner import RequestRunner
from .settings import ServerSettings
from .store import Store
from .translating import TextOptions, TextResult, translate_texts

LOGGER: Final = logging.getLogger("nllb.serving")
Result = TypeVar("Result")


@dataclass(kw_only=True, slots=True)
class Service:
    """Everything that a route needs; `service_of(request)` returns it.

    Attributes:
        settings: The settings of the server.
        pool: The models.
        runner: Admits requests and runs their work.
        store: The database of keys, glossaries and documents.
        access: Checks keys and limits.
        metrics: Counters for Prometheus.
        documents: Translates files.
    """

    settings: ServerSettings
    pool: ModelPool
    runner: RequestRunner
    store: Store
    access: Access
    metrics: Metrics
    documents: DocumentJobs

    async def languages(self, model: str | None = None) -> tuple[Language, ...]:
        """Return the languages of a model.

        Raises:
            RequestError: The model does not exist, or it cannot be loaded.
        """
        known = self.pool.find(model).languages
        if known is None:
            try:
                known = await asyncio.to_thread(self.pool.languages, model)
            except (CheckpointError, ResourceError) as error:
                raise _unavailable(error) from None
        return known

    async def language(self, text: str, model: str | None = None) -> Language:
        """Return the language of a model that corresponds to a client's code or name.

        Raises:
            RequestError: The language does not exist, or the model does not cover it.
        """
        return read_language(text, await self.languages(model))

    async def run(
        self,
        request: Request,
        caller: Caller,
        function: Callable[[Translator], Result],
        *,
        texts: Sequence[str],
        model: str | None = None,
    ) -> Result:
        """Run the work of a request, and count its characters.

        Raises:
            RequestError: The text cannot be translated, or the server is busy.
        """
        num_characters = sum(map(len, texts))
        try:
            result = await self.runner.run(
                request, function, num_characters=num_characters, model=model
            )
        except (ConfigError, DataError, LanguageError) as error:
            raise RequestError(400, str(error), code="not_translatable") from None
        except (CheckpointError, ResourceError) as error:
            raise _unavailable(error) from None
        self.metrics.characters.inc(num_characters)
        self.access.count_characters(caller, num_characters)
        return result

    async def translate(
        self,
        request: Request,
        caller: Caller,
        texts: Sequence[str],
        options: TextOptions,
        *,
        model: str | None = None,
        together: bool = False,
    ) -> list[TextResult]:
        """Translate texts for a caller.

        Raises:
            RequestError: A text cannot be translated, or the server is busy.
        """
        return await self.run(
            request,
            caller,
            lambda translator: translate_texts(translator, texts, options, together=together),
            texts=texts,
            model=model,
        )


def _unavailable(error: NllbError) -> RequestError:
    """Return the response to a request whose model cannot be loaded; the reason is logged."""
    LOGGER.error("the model cannot be used", extra={"fields": {"error": str(error)}})
    return RequestError(
        503, "the model cannot be used now", code="model_unavailable", retry_after_s=60
    )


def service_of(request: Request) -> Service:
    """Return the service of the application that a request was sent to."""
    service: Service = request.app.state.service
    return service
