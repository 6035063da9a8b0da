"""The state of one chat, updated by the lines of its stream and by reads. Pure: no I/O.

A stream's lines are `chats`, `chat_messages`, `agent_runs` and `delta`, whole or with `fields`, of which only the named ones
count. After a reconnect a server may repeat everything: states that are older than the known ones change nothing, and no
delta is applied twice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from inferencesh_mcp.api.chat_models import AgentRun, Chat, ChatMessage, in_order
from inferencesh_mcp.api.enums import ENDED
from inferencesh_mcp.api.json import as_object, as_text, is_object, items, texts
from inferencesh_mcp.api.stream import Record, appended, delta_text, named_fields
from inferencesh_mcp.api.wire import parsed, updated

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

MAX_MESSAGES = 1_000
"""Messages of one chat that are kept: the newest."""
MAX_KEPT = 16 * 1024 * 1024
"""Characters of all kept messages, as much as one read brings at most; beyond it the oldest messages are dropped."""
_MESSAGES = "chat_messages"


@dataclass(frozen=True, kw_only=True)
class _Delta:
    """The last delta of one message; the text of all is in `ChatMessage.streamed`."""

    seq: int | None
    """Its number, if deltas have numbers."""
    connection: int
    """The connection that brought it."""


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """What is known of one message."""

    message: ChatMessage
    last_delta: _Delta | None = None
    is_whole: bool = True
    """It came as a whole value, without named fields or deltas only."""
    size: int
    """Characters of the message as JSON."""


class ChatState:
    """One chat. `chat` is its newest state; parts that did not change stay the same objects."""

    def __init__(self, chat: Chat) -> None:
        self._ids = {chat.id, chat.short_id} - {""}
        self._chat = chat
        self._has_changed = False
        """Whether `_chat` has to be built again."""
        self._head = chat.model_copy(update={_MESSAGES: ()})
        """The chat without its messages."""
        self._entries: dict[str, _Entry] = {}
        """Messages by id, in the order in which they became known."""
        self._size = 0
        self._connection = 0
        self._last_seq: int | None = None
        """The number of this connection's last delta, of any message."""
        self.has_whole_chat = False
        """This connection brought the chat as a whole value, and no news of its run since."""
        for message in chat.chat_messages:
            self._put(_Entry(message=message, size=_size(message)))

    @property
    def chat(self) -> Chat:
        """The newest state; the same object until something changes it."""
        if self._has_changed:
            messages = in_order(entry.message for entry in self._entries.values())
            newest = self._head.model_copy(update={_MESSAGES: messages})
            self._chat = self._chat if newest == self._chat else newest
            self._has_changed = False
        return self._chat

    @property
    def has_whole_messages(self) -> bool:
        """Whether every message came as a whole value and is final, all its tool calls have ended, and none is missing."""
        messages = self.chat.chat_messages
        orders = [message.order for message in messages]
        first = orders[0] if orders else None
        return (
            first is not None
            and orders == list(range(first, first + len(orders)))
            and all(message.final and self._entries[message.id].is_whole for message in messages)
            and all(call.status in ENDED for message in messages for call in message.tool_invocations)
        )

    def begin_connection(self) -> None:
        """Note a new connection: its first lines may repeat what is known."""
        self._connection += 1
        self._last_seq = None
        self.has_whole_chat = False

    def apply(self, line: Record) -> None:
        """Apply a line of the stream. One that makes no sense changes nothing."""
        news = as_object(line.get("data")) if "data" in line or "event" in line else line
        fields = texts(line.get("fields"))
        # A line without an event is about the chat if it has the chat's id.
        match line.get("event") or ("chats" if as_text(news.get("id")) in self._ids else ""):
            case "delta":
                self._apply_delta(news)
            case "chat_messages":
                self._apply_message(news, fields)
            case "agent_runs":
                self._apply_run(news, fields)
            case "chats":
                self._apply_chat(news, fields)
            case _:
                pass

    def apply_read(self, chat: Chat) -> None:
        """Apply a GET of the whole chat: it replaces everything except messages that it does not contain."""
        self._set_head(chat.model_copy(update={"id": self._chat.id, _MESSAGES: ()}), is_read=True)
        for message in chat.chat_messages:
            self._update_message(message, message.model_fields_set, is_whole=True)

    def _is_foreign(self, chat_id: object) -> bool:
        """Whether this is the id of another chat, such as a sub-agent's."""
        return isinstance(chat_id, str) and bool(chat_id) and chat_id not in self._ids

    def _apply_chat(self, news: Record, fields: list[str]) -> None:
        if self._is_foreign(news.get("id")):
            return
        named = named_fields(news, fields)
        for message in items(named.get(_MESSAGES)):
            self._apply_message(message, [])
        is_whole = not fields and news.get("status") is not None
        # A whole chat leaves out empty fields: without a run no run is at work, without interrupts it waits for nothing.
        names = {*named, "active_run", "pending_interrupts"} if is_whole else {*named}
        update = parsed(Chat, {**named, "id": self._chat.id, _MESSAGES: None})
        if self._set_head(updated(self._head, update, names - {_MESSAGES})):
            self.has_whole_chat = is_whole

    def _set_head(self, head: Chat, *, is_read: bool = False) -> bool:
        """False if it is older than the known head; a read never is."""
        if not is_read and _is_older(head, self._head):
            return False
        if head != self._head:
            self._head, self._has_changed = head, True
        return True

    def _apply_run(self, news: Record, fields: list[str]) -> None:
        if self._is_foreign(news.get("chat_id")):
            return
        known, update = self._head.active_run or AgentRun(), parsed(AgentRun, news)
        is_same = update.id in {"", known.id}
        is_late = not is_same and update.ended and not known.ended and self._head.active_run is not None
        if is_late or _is_older(update, known):  # the end of the run before, or a line that is repeated
            return
        run = updated(known if is_same else AgentRun(), update, named_fields(news, fields).keys())
        self._set_head(self._head.model_copy(update={"active_run": run}))
        self.has_whole_chat = False

    def _apply_message(self, news: object, fields: list[str]) -> None:
        if is_object(news):
            self._update_message(parsed(ChatMessage, news), named_fields(news, fields).keys(), is_whole=not fields)

    def _update_message(self, update: ChatMessage, names: AbstractSet[str], *, is_whole: bool) -> None:
        if not update.id or self._is_foreign(update.chat_id):
            return
        entry = self._entries.get(update.id)
        known = entry.message if entry else ChatMessage(id=update.id)
        message = updated(known, update, names - {"streamed"})
        is_repeated = known.final and not message.final and not _is_older(known, update)
        if is_repeated or _is_older(update, known):
            return
        last_delta = entry.last_delta if entry else None
        if message.final:
            message, last_delta = message.model_copy(update={"streamed": ""}), None
        self._put(_Entry(message=message, last_delta=last_delta, is_whole=is_whole, size=_size(message)))

    def _apply_delta(self, data: Record) -> None:
        """Apply a delta of a message's text. One without a message's id changes nothing: the message itself will follow."""
        message_id, text, seq = as_text(data.get("resource_id")), delta_text(data), data.get("seq")
        entry = self._entries.get(message_id)
        if not message_id or text is None or (entry and entry.message.final):
            return
        seq, before = seq if isinstance(seq, int) else None, entry.last_delta if entry else None
        is_next = self._is_next(before, seq)
        self._last_seq = seq
        if not is_next:
            return
        if entry is None:
            message = ChatMessage(id=message_id, role="assistant", status="pending")
            entry = _Entry(message=message, is_whole=False, size=0)
        joined = appended(entry.message.streamed if before else "", text)
        message = entry.message.model_copy(update={"streamed": joined})
        last = _Delta(seq=seq, connection=self._connection)
        self._put(replace(entry, message=message, last_delta=last, size=entry.size + len(text)))

    def _is_next(self, before: _Delta | None, seq: int | None) -> bool:
        """Whether a delta follows the known ones, so that nothing is repeated and nothing is missing in between.

        Inside one connection nothing gets lost. A new connection repeats all deltas, or goes on with the next number. With a
        higher number something is missing, and the text grows again when the message itself arrives.
        """
        if before is None:  # deltas may be numbered for each message, or for the whole connection
            return seq is None or seq <= 1 or (self._last_seq is not None and seq == self._last_seq + 1)
        if seq is None or before.seq is None:
            return before.connection == self._connection
        if before.connection == self._connection:
            return seq > before.seq
        return seq == before.seq + 1

    def _put(self, entry: _Entry) -> None:
        """Store an entry, and drop the oldest ones if there are too many, or if they are too long."""
        message_id = entry.message.id
        before = self._entries.get(message_id)
        if before and before.message == entry.message:
            entry = replace(entry, message=before.message)
        else:
            self._has_changed = True
        self._entries[message_id] = entry
        self._size += entry.size - (before.size if before else 0)
        while len(self._entries) > 1 and (self._size > MAX_KEPT or len(self._entries) > MAX_MESSAGES):
            oldest = next(name for name in self._entries if name != message_id)
            self._size -= self._entries.pop(oldest).size
            self._has_changed = True


def _is_older(value: Chat | ChatMessage | AgentRun, other: Chat | ChatMessage | AgentRun) -> bool:
    return bool(value.updated_at and other.updated_at and value.updated_at < other.updated_at)


def _size(message: ChatMessage) -> int:
    return len(message.model_dump_json())
