"""The sandbox: its parts, and the ASGI application over them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from inferencesh_sandbox.agent_loop import Conversations
from inferencesh_sandbox.clock import Clock
from inferencesh_sandbox.facts import Facts
from inferencesh_sandbox.files import Store
from inferencesh_sandbox.ledger import Ledger
from inferencesh_sandbox.middleware import EntryMiddleware
from inferencesh_sandbox.routes import Context
from inferencesh_sandbox.routes.account import account, money
from inferencesh_sandbox.routes.agents import agents
from inferencesh_sandbox.routes.approvals import approvals
from inferencesh_sandbox.routes.apps import apps, search
from inferencesh_sandbox.routes.chats import chat_turns, chats
from inferencesh_sandbox.routes.files import files
from inferencesh_sandbox.routes.messages import messages
from inferencesh_sandbox.routes.pages import pages
from inferencesh_sandbox.routes.sessions import sessions
from inferencesh_sandbox.routes.tasks import runs, task_files, tasks
from inferencesh_sandbox.routes.tools import interrupts, tools
from inferencesh_sandbox.runs import Workers
from inferencesh_sandbox.tenants import Tenants
from inferencesh_sandbox.wire import Problem, problem_response

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp


class Sandbox(Context):
    """A small inference.sh: apps that do visible work, tasks, streams, files, sessions, agents, chats, all in memory."""

    def __init__(
        self,
        clock: Clock | None = None,
        *,
        facts: Facts | None = None,
        middleware: Callable[[ASGIApp], ASGIApp] | None = None,
        workers: type[Workers] = Workers,
        conversations: type[Conversations] = Conversations,
    ) -> None:
        """Build a sandbox that holds nothing yet.

        `middleware` wraps the routes: it sees a request after the ledger has noted it. `workers` and `conversations`
        carry out the runs of apps and the turns of agents.
        """
        self.clock = clock or Clock()
        self.facts = facts or Facts()
        self.ledger = Ledger()
        self.tenants = Tenants(self.facts)
        self.store = Store(self.clock)
        self.workers = workers(self.clock, self.store)
        self.conversations = conversations(self.store, self.ledger, self.workers, self.tenants)
        routes = self._routes()
        routes = middleware(routes) if middleware else routes
        self.app = EntryMiddleware(routes, facts=self.facts, ledger=self.ledger)
        """The ASGI application. It answers while its lifespan runs, as under `serving`."""

    def _routes(self) -> ASGIApp:
        nouns = (
            *(runs, apps, tasks, task_files, files, sessions, agents, messages),
            *(chats, chat_turns, tools, interrupts, approvals, pages, account, money, search),
        )
        return Starlette(
            routes=[route for noun in nouns for route in noun(self)],
            middleware=[_FOR_BROWSERS],
            exception_handlers={Problem: _problem, HTTPException: _not_routed},
            lifespan=self._lifespan,
        )

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncGenerator[None]:
        async with self.workers.at_work():
            yield
        self.store.close()


_FOR_BROWSERS = Middleware(
    CORSMiddleware, allow_origin_regex=".*", allow_methods=["*"], allow_headers=["*"], allow_credentials=True
)
"""The SDKs run in browsers too, and one of them sends credentials. There is nothing here that a page could steal."""


async def _problem(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, Problem)  # noqa: S101 - Starlette's handlers are typed for any exception
    return problem_response(exc, request.scope)


async def _not_routed(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)  # noqa: S101 - as above
    code = "method_not_allowed" if exc.status_code == 405 else "not_found"
    return problem_response(
        Problem(exc.status_code, code, f"the sandbox has no {request.method} {request.url.path}"), request.scope
    )
