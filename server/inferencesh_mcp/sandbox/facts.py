"""Which forms of the platform the sandbox speaks: the newest, unless a test asks for an older one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Facts:
    """One switch for each form that changed over time; the default of each is the newest."""

    versioned_answers: bool = False
    """Older: `X-API-Version: 2` is answered bare, all else in the `success` envelope; problems also carry `error`.

    The agents of the Python SDK 0.36.0 still read this form alone.
    """
    app_version_as_app: bool = True
    """Newest: `GET /apps/{id}/versions/{version}` answers the app with that version inside. Older: the version itself."""
    agent_version_as_agent: bool = False
    """The same for agents. Sources disagree; the newest type lists name the version itself."""
    slim_run_answers: bool = True
    """Newest: `POST /apps/run` answers a TaskResultDTO. Older: the whole TaskDTO."""
    named_integrations: bool = False
    """Older: apps list `required_integrations` by `key`, and the check takes those. Newest: credentials, by `slug`."""


NEWEST = Facts()
