"""What may be named, and how it is written into a URL."""

import pytest

from inferencesh_mcp.api.refs import AppRef, agent_reference, segment
from inferencesh_mcp.errors import InvalidInput

GOOD = {
    "infsh/flux": AppRef(namespace="infsh", name="flux"),
    " infsh/flux-schnell ": AppRef(namespace="infsh", name="flux-schnell"),
    "infsh/flux@53bk0yzk": AppRef(namespace="infsh", name="flux", version="53bk0yzk"),
    "infsh/flux@latest": AppRef(namespace="infsh", name="flux"),
    "infsh/flux:generate": AppRef(namespace="infsh", name="flux", function="generate"),
    "infsh/flux@abc:generate": AppRef(namespace="infsh", name="flux", version="abc", function="generate"),
    "app/infsh/flux-1.1_pro": AppRef(namespace="infsh", name="flux-1.1_pro"),
}
BAD = [
    "", "flux", "/", "a/", "/b", "a/b/c", "a/b/c/d", "skill/a/b", "a/b@", "a/b:", "a/b@x:", "a//b", "a/b@x@y",
    "a b/c", "../etc", "a/..", "a/b..c", "a/%2e%2e", "a/b?x=1", "a/b#c", "a\\b", "a/b\n", "a/b\x00c", "ä/b", "a/b;c",
    "https://x/y", "a/b:c@d", ".a/b", "-a/b", "a/" + "b" * 129, "a/b:c d", "a/\u202eb",
]  # fmt: skip
HOSTILE = [
    "", ".", "..", "../x", "..%2fx", "%2e%2e", "a/b", "a\\b", "a?b", "a#b", "a;b", "a b", " a", "a ", "a\n", "\na", "a\r\nb",
    "a\x00b", "a%00", "a%2Fb", "a:b", "a@b", "a&b", "a=b", "a+b", "a,b", "a|b", "a'b", 'a"b', "<a>", "{a}", "$a", "a.b",
    "a\u2215b", "a\uff0fb", "a\u2024\u2024b", "é", "١٢٣", "a" * 129, "-a", "~a", "*", "a\u200bb", "a\u202eb",
]  # fmt: skip


@pytest.mark.parametrize(("text", "ref"), GOOD.items())
def test_a_reference_is_read(text, ref):
    """In every documented form."""
    assert ref == AppRef.parse(text)
    assert ref == AppRef.parse(str(ref))


@pytest.mark.parametrize("text", BAD)
def test_a_bad_reference_is_refused_with_the_right_form(text):
    """And nothing of it is sent."""
    if text == "a/b\n":  # the ends are stripped: a person's paste
        assert AppRef(namespace="a", name="b") == AppRef.parse(text)
        return
    with pytest.raises(InvalidInput) as caught:
        AppRef.parse(text)

    assert caught.value.message.isascii()
    assert "kind" in caught.value.message or "namespace/name" in caught.value.message


@pytest.mark.parametrize("value", HOSTILE)
def test_a_hostile_id_never_reaches_a_path(value):
    """Forty ways to leave a path segment."""
    with pytest.raises(InvalidInput) as caught:
        segment(value)

    assert caught.value.message.isascii()


@pytest.mark.parametrize("value", ["01k", "task_01HX", "sess-1", "A" * 128, "_x"])
def test_a_valid_id_is_unchanged_in_a_path(value):
    """As it is."""
    assert value == segment(value)


def test_a_path_is_checked_however_the_reference_was_made():
    """A reference that was built and not parsed is no way around."""
    with pytest.raises(InvalidInput):
        _ = AppRef(namespace="a/../b", name="c").path


def test_huge_input_is_refused_at_once():
    """64 KiB of anything is refused at once."""
    with pytest.raises(InvalidInput):
        AppRef.parse("a" * 65536 + "/" + "b" * 65536)
    with pytest.raises(InvalidInput):
        segment("a" * 65536)


@pytest.mark.parametrize(
    ("text", "ref"),
    [("a/b", "a/b"), (" agent/a/b@v ", "a/b@v"), ("a/b@latest", "a/b"), ("ns/my.agent-1@x", "ns/my.agent-1@x")],
)
def test_an_agent_reference_is_read(text, ref):
    assert ref == agent_reference(text)


@pytest.mark.parametrize("text", ["", "a", "a/b/c", "app/a/b", "a/b@", "a/..", "a/b@v/w", "a/b?x", "../b", "a/b:f"])
def test_a_bad_agent_reference_is_refused(text):
    with pytest.raises(InvalidInput, match="is not an agent"):
        agent_reference(text)
