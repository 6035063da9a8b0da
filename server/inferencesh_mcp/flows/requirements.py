"""What an app needs from a person before it runs, and what of that is missing in the caller's account."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferencesh_mcp.flows.optional_calls import optional_call

if TYPE_CHECKING:
    from inferencesh_mcp.api.models import App, AppFunction, AppVersion, ConnectionRequirement
    from inferencesh_mcp.errors import Requirement
    from inferencesh_mcp.flows import Caller


def connections_of(version: AppVersion, function: AppFunction) -> list[ConnectionRequirement]:
    """Every connection that a run of this function needs, whichever name the API has for them."""
    return [*_credentials(version, function), *version.required_integrations]


async def missing_requirements(
    caller: Caller, app: App, version: AppVersion, function: AppFunction
) -> tuple[Requirement, ...] | None:
    """What a run would be refused for; None where that could not be found out in time."""
    if not version.required_secrets and not connections_of(version, function):
        return ()
    check = await optional_call(
        caller.api.check_requirements(
            version.required_secrets, _credentials(version, function), version.required_integrations
        ),
        f"check of what {app.ref} needs",
    )
    if check is None:
        return None
    return check.missing or (() if check.satisfied else None)


def _credentials(version: AppVersion, function: AppFunction) -> list[ConnectionRequirement]:
    return [*version.required_credentials, *function.credentials]
