"""An app that always still needs something from its owner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from inferencesh_sandbox.apps.types import App, AppInput, AppOutput, Function

if TYPE_CHECKING:
    from inferencesh_sandbox.apps.types import Work


class NeedsInput(AppInput):
    prompt: str = Field(default="", description="Never read: the app cannot run", max_length=10_000)


class NeedsOutput(AppOutput):
    pass


async def _never(_work: Work, _inputs: NeedsInput) -> dict[str, Any]:
    return {}


NEEDS_SECRET = App(
    name="needs-secret",
    title="Needs a secret (sandbox)",
    description="Cannot run: it shows what missing requirements look like. An app of the sandbox.",
    category="other",
    functions=(Function("run", "Be refused.", NeedsInput, NeedsOutput, _never),),
    requirements=(
        {
            "type": "secret",
            "key": "SANDBOX_API_KEY",
            "message": "secret SANDBOX_API_KEY is missing",
            "action": {
                "type": "add_secret",
                "secrets": ["SANDBOX_API_KEY"],
                "provider_website": "https://keys.example",
                "instructions": "Open **Settings**, then\n1. make a key,\n2. copy it.",
            },
        },
        {
            "type": "credential",
            "key": "google",
            "message": "connect google",
            "action": {"type": "connect", "provider": "google", "provider_name": "Google"},
        },
        {
            "type": "scope",
            "key": "google.sheets",
            "message": "google needs more scopes: sheets.readonly",
            "action": {
                "type": "add_scopes",
                "provider": "google",
                "provider_name": "Google",
                "scopes": ["sheets.readonly"],
                "scope_descriptions": {"sheets.readonly": "Read your spreadsheets"},
            },
        },
    ),
)
