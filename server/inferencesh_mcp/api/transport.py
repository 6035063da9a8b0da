"""Sends requests to inference.sh, with retries and limits. It holds no key: each call is given one."""

from __future__ import annotations

import hashlib
import logging
import random as chance
import re
import secrets
import time
from collections import Counter, deque
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import anyio
import anyio.lowlevel

from inferencesh_mcp.api import url_policy
from inferencesh_mcp.api.file_transport import FileTransport
from inferencesh_mcp.api.headers import clock_skew
from inferencesh_mcp.api.http_client import Lost, Pools, Request
from inferencesh_mcp.api.json import MAX_BODY_DEPTH, NotReadableBack, encoded
from inferencesh_mcp.api.proxies import Proxies
from inferencesh_mcp.api.responses import (
    body_chunks,
    final_error,
    no_answer,
    read_answer,
    read_body,
    read_error_body,
    refusal,
)
from inferencesh_mcp.api.retry import Failure, Operation, Retrier
from inferencesh_mcp.api.spans import client_span, trace_headers
from inferencesh_mcp.errors import InferenceError, InvalidInput, KeyRefused, SettingsError, UpstreamError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping

    from inferencesh_mcp.api.http_client import Kind, Response
    from inferencesh_mcp.api.problem_details import Unwrapped

MAX_WARNINGS = 100
"""Warnings of the API that are remembered, so that each is logged once."""
OPEN_SECONDS = 30.0
"""Wait for the status of a stream."""
MAX_STREAMS = 1000
"""Streams that are open at a time; more wait."""
MAX_LARGE_ANSWERS = 4
"""Answers of more than 1 MiB that are read and parsed at a time; more wait."""
END_SECONDS = 0.05
"""Wait for the end of a stream after its last line."""

logger = logging.getLogger(__name__)

_PATH = re.compile(r"/[!-~]*")
_TOKEN = re.compile(r"[\x21-\x7e]{1,512}")
_PEPPER = secrets.token_bytes(32)


class Key:
    """A key of inference.sh, which no repr, log line or error shows. Only `authorization` reveals it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        """KeyRefused for text with spaces, line ends or characters outside ASCII."""
        if not _TOKEN.fullmatch(value):
            raise KeyRefused(
                message="the key has characters that are not allowed, such as a space or a line end",
                next_step="Copy the key again and set it as INFERENCE_API_KEY.",
            )
        self._value = value

    @property
    def authorization(self) -> str:
        """The value of the Authorization header."""
        return f"Bearer {self._value}"

    @property
    def account(self) -> str:
        """A stable name for the key within this process: a hash with a secret of the process, so it reveals nothing (I-9)."""
        return hashlib.blake2b(self._value.encode(), key=_PEPPER, digest_size=16).hexdigest()

    def __repr__(self) -> str:
        return "Key(***)"


class Transport:
    """Connections to inference.sh and, as `files`, to file hosts. Nothing is opened before the first call.

    `sleep`, `random` and the monotonic `clock` can be replaced in tests.
    """

    def __init__(
        self,
        base_url: str,
        *,
        proxy_url: str | None = None,
        proxies: Mapping[str, str] | None = None,
        client: str = "inferencesh-mcp",
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        random: Callable[[], float] = chance.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`client` is the user agent, `name/version`. SettingsError for a URL that may not be used.

        `proxy_url` receives all API requests; `proxies` are the variables HTTPS_PROXY and its like, for any address.
        """
        self.sleep, self.random, self.clock = sleep, random, clock
        self.pollers = Counter[str]()
        """How many followers poll now, by account."""
        self.skew = timedelta()
        """How far the API's clock is ahead of this machine's, by the `Date` of its last answer (to a second)."""
        self._base = url_policy.base_url(base_url, "INFERENCE_BASE_URL")
        self._proxy = url_policy.base_url(proxy_url, "INFERENCE_PROXY_URL") if proxy_url else ""
        self._host = urlsplit(self._proxy or self._base).hostname or ""
        self._client = client
        self._proxies = Proxies(proxies or {})
        self._pools = Pools()
        self._retrier = Retrier(sleep, random, clock)
        self._streams = anyio.Semaphore(MAX_STREAMS)
        self._large_answers = anyio.Semaphore(MAX_LARGE_ANSWERS)
        self._last_date = ""
        self._warned: deque[str] = deque(maxlen=MAX_WARNINGS)
        self.files = FileTransport(
            self._pools,
            self._proxies,
            self._retrier,
            clock=clock,
            client=client,
            sandbox_port=url_policy.loopback_port(self._base),
        )

    @property
    def brings_key(self) -> bool:
        """Whether requests go to a proxy that adds a key of its own."""
        return bool(self._proxy)

    @property
    def failures(self) -> Mapping[str, int]:
        """Failed attempts by the code of their error."""
        return self._retrier.failures

    def now(self) -> datetime:
        """The time by the API's clock."""
        return datetime.now(UTC) + self.skew

    async def aclose(self) -> None:
        """Close every connection."""
        await self._pools.aclose()

    async def call(self, operation: Operation, method: str, path: str, key: Key | None, body: Any = None) -> Any:
        """Send a request, retry it if that is safe, and return the value in the JSON answer; None if that is empty.

        `path` begins with a slash and is URL-encoded; None as `body` sends no body. Raises the typed error of the last
        answer, TimedOut or Unavailable without an answer, UpstreamError for one that cannot be parsed. A START raises
        OutcomeUnknown instead if it may have taken effect.
        """
        kind: Kind = "runs" if operation in {Operation.START, Operation.ANSWER} else "calls"
        request, sent_at = self._request(kind, method, path, key, _encoded(body)), self.now()

        async def send_once(seconds: float) -> Unwrapped | Failure:
            nonlocal sent_at
            sent_at = self.now()
            return await self._attempt(operation, request, path, seconds)

        answer = await self._retrier.run(operation, key.account if key else "", f"{method} {path}", send_once)
        if isinstance(answer, Failure):
            if answer.already_done:
                return None
            raise final_error(operation, answer, sent_at) from answer.error.__cause__
        for warning in answer.warnings:
            if warning not in self._warned:
                self._warned.append(warning)
                logger.warning("inference.sh warns: %s", warning)
        return answer.value

    @asynccontextmanager
    async def stream(self, path: str, key: Key | None) -> AsyncGenerator[AsyncIterator[bytes]]:
        """Open a stream, without retries, and yield its bytes as they arrive; raises what `call` raises."""
        request = self._request("streams", "GET", path, key)
        async with AsyncExitStack() as stack:
            try:
                with anyio.fail_after(OPEN_SECONDS):
                    await stack.enter_async_context(self._streams)
                    response = await stack.enter_async_context(self._opened(request, path))
            except (TimeoutError, Lost) as exc:
                raise no_answer(exc).error from exc
            if not response.is_ok:
                raise refusal(response, await read_error_body(response)).error
            chunks = await stack.enter_async_context(aclosing(body_chunks(response)))
            yield chunks
            # The end follows the last line at once, and a connection that was read to its end can be reused.
            with suppress(InferenceError), anyio.move_on_after(END_SECONDS):
                await anext(chunks, None)

    async def _attempt(self, operation: Operation, request: Request, path: str, seconds: float) -> Unwrapped | Failure:
        await anyio.lowlevel.checkpoint_if_cancelled()
        # The answer to a START is always read: without it nobody knows which run to cancel. The pauses between
        # attempts are not shielded, so a cancelled call starts nothing later.
        is_start = operation is Operation.START
        try:
            async with AsyncExitStack() as slots:

                async def take_slot() -> None:
                    if not is_start:  # a START's answer must not be lost while it waits
                        await slots.enter_async_context(self._large_answers)

                with anyio.fail_after(seconds, shield=is_start):
                    async with self._opened(request, path) as response:
                        body = await read_body(response, take_slot)
                return read_answer(response, body)
        except UpstreamError as exc:
            return Failure(error=exc)
        except (TimeoutError, Lost) as exc:
            return no_answer(exc)

    @asynccontextmanager
    async def _opened(self, request: Request, path: str) -> AsyncGenerator[Response]:
        """Send a request to the API. The response is closed when the block ends, also if that is cancelled."""
        with client_span(request.method, self._host, path) as span:
            try:
                response = await self._pools.open(replace(request, headers={**request.headers, **trace_headers(span)}))
            except ValueError as exc:
                raise SettingsError(message="INFERENCE_BASE_URL is not a valid address") from exc
            span.set_attribute("http.response.status_code", response.status)
        async with aclosing(response):
            self._note_date(response.headers.get("date", ""))
            yield response

    def _request(self, kind: Kind, method: str, path: str, key: Key | None, content: bytes | None = None) -> Request:
        """A request to the API, or to the proxy in front of it. InvalidInput if the path could leave the base (I-19)."""
        if not _PATH.fullmatch(path) or {"..", "."} & set(path.partition("?")[0].split("/")):
            raise InvalidInput(message="the request would have left the API's own address")
        url = self._base + path
        headers = {
            "accept": "application/x-ndjson" if kind == "streams" else "application/json",
            "accept-encoding": "identity",  # T-15
            "user-agent": self._client,
            "x-api-version": "2",
            "x-client-source": self._client,
        }
        if key is not None:
            headers["authorization"] = key.authorization
        if content is not None:
            headers["content-type"] = "application/json"
        if self._proxy:
            headers["x-inf-target-url"] = url
            # The official SDKs' proxies read a stream's target from the query.
            url = f"{self._proxy}?__inf_target={quote(url, safe='')}" if kind == "streams" else self._proxy
        proxy = self._proxies.for_url(url)
        return Request(kind=kind, method=method, url=url, headers=headers, content=content, proxy=proxy)

    def _note_date(self, header: str) -> None:
        if header == self._last_date:
            return  # the first answer within a second is the most exact
        skew = clock_skew(header, datetime.now(UTC))
        self.skew = self.skew if skew is None else skew
        self._last_date = header


def _encoded(body: Any) -> bytes | None:
    if body is None:
        return None
    try:
        return encoded(body, depth=MAX_BODY_DEPTH)
    except NotReadableBack as exc:
        raise InvalidInput(message=f"the request {exc}") from exc
