"""Find an app or an agent by its ref or id."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Protocol, TypeVar

from inferencesh_sandbox.ids import short
from inferencesh_sandbox.wire import Problem, missing

if TYPE_CHECKING:
    from collections.abc import Sequence


class Offered(Protocol):
    """Something with a ref, an id and versions."""

    @property
    def ref(self) -> str: ...

    @property
    def id(self) -> str: ...

    @property
    def version_ids(self) -> tuple[str, ...]:
        """All versions, the current one first."""
        ...


T = TypeVar("T", bound=Offered)


def find_by_name(kind: str, offered: Sequence[T], name: str) -> T:
    """Find an item by its id or `namespace/name`. The error suggests similar names."""
    for offer in offered:
        if name in {offer.ref, offer.id, short(offer.id)}:
            return offer
    raise missing(kind, name, suggestions=get_close_matches(name[:64], [offer.ref for offer in offered], 3, 0.5))


def version_of(offer: Offered, version: str) -> str:
    """Find a version by its id or short id. Default: the current version."""
    if version in {"", "latest"}:
        return offer.version_ids[0]
    for version_id in offer.version_ids:
        if version in {version_id, short(version_id)}:
            return version_id
    versions = [f"{offer.ref}@{short(version_id)}" for version_id in offer.version_ids]
    raise Problem(404, "not_found", f"{offer.ref} has no version {version!r}", extra={"suggestions": versions})
