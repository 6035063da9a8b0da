"""Switches for the forms of the platform's API that changed over time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Facts:
    """One switch for each form that changed. Each default is the newest form."""

    versioned_answers: bool = False
    """Older: `X-API-Version: 2` is answered bare, all else in the `success` envelope; problems also carry `error`.

    The agents of the Python SDK 0.36.0 still read this form alone.
    """
    app_version_as_app: bool = True
    """Newest: `GET /apps/{id}/versions/{version}` answers the app with that version inside. Older: the version itself."""
    slim_run_answers: bool = True
    """Newest: `POST /apps/run` answers a TaskResultDTO. Older: the whole TaskDTO."""
    named_integrations: bool = False
    """Older: apps list `required_integrations` by `key`, and the check takes those. Newest: credentials, by `slug`."""

    messages_preloaded: bool = False
    """`GET /chats/{id}` holds the chat's messages. Newest: they are read from `GET /chats/{id}/messages`."""
    run_end_events: bool = True
    """A message of role `event` says how a run ended. Older: only the run and the last message show it."""
    errors_in_messages: bool = False
    """The last message of a failed run says why too, as before events existed."""
    ended_run_kept: bool = True
    """A run that has ended stays the chat's `active_run`."""
    always_allow_options: bool = True
    """`always-allow` takes one of the options that the platform offers for the call. Older: it needs the tool's name."""
    explanations: bool = True
    """A call that waits for approval can be explained in plain words."""
    keys_answer_questions: bool = False
    """A mere key answers widgets and MCP input requests. Newest: that too needs the person's own sign-in."""
    client_tools_interrupt: bool = False
    """A chat says that it awaits input while a client tool waits. Two of the three SDKs leave the stream then."""
    attachments_read: bool = True
    """A message's `attachments` are read. Older: its `images` and `files`, which are addresses alone."""
    mcp_data_as_text: bool = False
    """An MCP server's input request is JSON text, not an object."""


NEWEST = Facts()
