"""Find an app or an agent by its ref or id, and the fields that both have in the API."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from inferencesh_sandbox.ids import lasting_id, short
from inferencesh_sandbox.wire import Json, Problem, missing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_CREATED_AT = "2026-01-02T03:04:05Z"


@dataclass(frozen=True, kw_only=True)
class Offered:
    """What apps and agents have in common."""

    kind: ClassVar[str] = ""
    """Before the ref in what an id is made of."""

    name: str
    title: str
    namespace: str = "sandbox"
    versions: int = 1
    """How many versions there are; they do the same."""
    requirements: tuple[Mapping[str, Any], ...] = ()
    """What is always missing, as the errors of the 412 that every run gets."""

    @property
    def ref(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name

    @property
    def id(self) -> str:
        return lasting_id(f"{self.kind}{self.ref}")

    @property
    def version_ids(self) -> tuple[str, ...]:
        """All versions, the current one first."""
        return tuple(lasting_id(f"{self.kind}{self.ref} {number}") for number in range(self.versions, 0, -1))


T = TypeVar("T", bound=Offered)


def find_by_name(kind: str, offered: Sequence[T], name: str) -> T:
    """Find an item by its id or `namespace/name`. The error suggests similar names."""
    for offer in offered:
        if name in {offer.ref, offer.id, short(offer.id)}:
            return offer
    raise missing(kind, name, suggestions=get_close_matches(name[:64], [offer.ref for offer in offered], 3, 0.5))


def public_fields(record_id: str) -> Json:
    """The fields that every app, agent and version of the sandbox has in the API."""
    return {
        "id": record_id,
        "short_id": short(record_id),
        "created_at": _CREATED_AT,
        "updated_at": _CREATED_AT,
        "user_id": "sandbox",
        "team_id": "sandbox",
        "visibility": "public",
    }


def version_of(offer: Offered, version: str) -> str:
    """Find a version by its id or short id. Default: the current version."""
    if version in {"", "latest"}:
        return offer.version_ids[0]
    for version_id in offer.version_ids:
        if version in {version_id, short(version_id)}:
            return version_id
    versions = [f"{offer.ref}@{short(version_id)}" for version_id in offer.version_ids]
    raise Problem(404, "not_found", f"{offer.ref} has no version {version!r}", extra={"suggestions": versions})
