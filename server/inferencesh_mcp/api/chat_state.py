"""What is known of one chat, and what a line of its stream, or a read, adds to that. Pure: no I/O.

A stream's lines are `chats`, `chat_messages`, `agent_runs` and `delta`, whole or with `fields`, of which only the named ones
count. After a reconnect a server may tell everything again: states that are older than what is known change nothing, and no
piece of text is taken twice.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from inferencesh_mcp.api.chat_models import ENDED_RUN, FINAL_MESSAGE, AgentRun, Chat, ChatMessage, place, word
from inferencesh_mcp.api.enums import ENDED
from inferencesh_mcp.api.json import is_object, items
from inferencesh_mcp.api.models import Wire, parsed
from inferencesh_mcp.api.task_state import Record, merge_delta

MOST_MESSAGES = 1_000  # of one chat that are kept: the newest
MOST_KEPT = 16 * 1024 * 1024  # characters of them, as much as a read brings at the most: the newest again
_MESSAGES = "chat_messages"
_RUN = "active_run"
_INTERRUPTS = "pending_interrupts"


@dataclass(frozen=True, kw_only=True)
class _Streamed:
    """The pieces of one message, put together."""

    output: Record
    """In the shape of an LLM's output: response, reasoning, tool_calls."""
    seq: int | None
    """The last piece's number, where pieces have numbers."""
    connection: int
    """The connection that it came by."""


class Conversation:
    """One chat as it is heard of. `chat` is what it comes to; parts that did not change stay the same objects."""

    def __init__(self, chat: Chat) -> None:
        self._ids = {chat.id, chat.short_id} - {""}
        self._head: Record = chat.model_dump(exclude_unset=True, exclude={_MESSAGES})
        self._raw: dict[str, Record] = {}
        self._messages: dict[str, ChatMessage] = {}
        self._streamed: dict[str, _Streamed] = {}
        self._connection = 0
        self._last_seq: int | None = None
        """The number of the last piece of any message that this connection told."""
        self._chat = self._bare = chat
        self._is_new = False
        """Whether `_chat` has to be put together again; `_bare` is that without its messages, of `_bare_head`."""
        self._bare_head = self._head
        self._parts: set[str] = set()
        """Messages that were told by pieces or by named fields, and not whole since."""
        self.is_told = False
        """The chat itself was told whole on this connection, and its run said nothing since."""
        self._sizes: dict[str, int] = {}
        """Characters of each message and its pieces, in the order they were first told in."""
        self._size = 0
        for message in chat.chat_messages:
            self._raw[message.id] = message.model_dump(exclude_unset=True)
            self._messages[message.id] = message
            self._measure(message.id)

    @property
    def chat(self) -> Chat:
        """The newest state; the same object until something changes it."""
        if self._is_new:
            if self._bare_head is not self._head:
                self._bare, self._bare_head = parsed(Chat, self._head), self._head
            ordered = tuple(sorted(self._messages.values(), key=place))
            newest, self._is_new = self._bare.model_copy(update={_MESSAGES: ordered}), False
            self._chat = self._chat if newest == self._chat else newest
        return self._chat

    @property
    def has_whole_messages(self) -> bool:
        """Whether every message was told whole, in its last status, with its tools at their end, and none is missing."""
        messages = self.chat.chat_messages
        places = [message.order for message in messages]
        first = places[0] if places else None
        return (
            first is not None
            and places == list(range(first, first + len(places)))
            and all(message.final and message.id not in self._parts for message in messages)
            and all(call.status in ENDED for message in messages for call in message.tool_invocations)
        )

    def connected(self) -> None:
        """A new connection begins: what it tells first may have been told before."""
        self._connection += 1
        self._last_seq = None
        self.is_told = False

    def hear(self, line: Record) -> None:
        """Take a line of the stream. One that makes no sense changes nothing."""
        data = line.get("data")
        news = data if is_object(data) else {} if "event" in line else line
        event = line.get("event") or self._kind(news)
        fields = [name for name in items(line.get("fields")) if isinstance(name, str)]
        if event == "delta":
            self._piece(news)
        elif event == "chat_messages":
            self._message(news, fields)
        elif event == "agent_runs":
            self._run(news, fields)
        elif event == "chats":
            self._chats(news, fields)

    def read(self, record: Record) -> None:
        """Take the whole chat as a GET told it: it has the last word on all but messages that it does not hold."""
        self._set_head({name: value for name, value in record.items() if name != _MESSAGES}, last_word=True)
        for message in items(record.get(_MESSAGES)):
            self._message(message, [])

    def _kind(self, news: Record) -> str:
        """What a line without an event is about: the chat, if it is the chat's."""
        return "chats" if isinstance(news.get("id"), str) and news["id"] in self._ids else ""

    def _is_foreign(self, chat_id: Any) -> bool:
        """Whether this is the id of another chat."""
        return isinstance(chat_id, str) and bool(chat_id) and chat_id not in self._ids

    def _chats(self, news: Record, fields: list[str]) -> None:
        if self._is_foreign(news.get("id")):
            return  # a sub-agent's
        named = {name: news[name] for name in fields if name in news}
        told = named or news
        for message in items(told.get(_MESSAGES)):
            self._message(message, [])
        head = {name: value for name, value in told.items() if name != _MESSAGES}
        if not fields and news.get("status") is not None:
            # A whole chat leaves out what it has not: no run is at work then, and nothing is waited for.
            head = {_RUN: None, _INTERRUPTS: None, **head}
        if self._set_head({**self._head, **head}):
            self.is_told = not fields and news.get("status") is not None

    def _set_head(self, head: Record, *, last_word: bool = False) -> bool:
        """False where it is older than what is known."""
        head = _known(Chat, head) | {"id": self._chat.id}
        if not last_word and _is_older(head, self._head):
            return False
        if head != self._head:
            self._head, self._is_new = head, True
        return True

    def _run(self, news: Record, fields: list[str]) -> None:
        if self._is_foreign(news.get("chat_id")):
            return
        known = self._head.get(_RUN)
        run: Record = known if is_object(known) else {}
        named = _known(AgentRun, {name: news[name] for name in fields if name in news} or news)
        same = news.get("id") in (None, run.get("id"))
        if _is_older(news, run) or (not same and _has_ended(news) and run and not _has_ended(run)):
            return  # the late word of a run that is over
        self._set_head({**self._head, _RUN: {**run, **named} if same else named})
        self.is_told = False

    def _message(self, news: Any, fields: list[str]) -> None:
        if not is_object(news) or not isinstance(news.get("id"), str) or not news["id"]:
            return
        if self._is_foreign(news.get("chat_id")):
            return
        named = _known(ChatMessage, {name: news[name] for name in fields if name in news} or news)
        known = self._raw.get(news["id"], {})
        if _is_older(news, known) or (
            _is_final(known) and not _is_final({**known, **named}) and not _is_later(news, known)
        ):
            return
        self._parts = self._parts | {news["id"]} if fields else self._parts - {news["id"]}
        merged = {**known, **named, "id": news["id"]}
        if merged != known:
            self._keep(merged)

    def _keep(self, record: Record) -> None:
        message = parsed(ChatMessage, record)
        if message.final:
            self._streamed.pop(message.id, None)
        self._raw[message.id] = record
        message = self._with_pieces(message)
        if message != self._messages.get(message.id):
            self._messages[message.id], self._is_new = message, True
        self._measure(message.id)

    def _piece(self, news: Record) -> None:
        """A piece of a message's text. One that names no message could be of any, and waits for the message itself."""
        name, delta = news.get("resource_id"), news.get("delta")
        more = {"response": delta} if isinstance(delta, str) else delta
        if not isinstance(name, str) or not name or not is_object(more) or not more:
            return
        known = self._messages.get(name)
        if known is not None and known.final:
            return
        seq = news.get("seq")
        number = seq if isinstance(seq, int) else None
        so_far = self._streamed.get(name)
        follows = self._continues(so_far, number)
        self._last_seq = number
        if not follows:
            return
        output = merge_delta(so_far.output if so_far else {}, more)
        self._streamed[name] = _Streamed(output=output, seq=number, connection=self._connection)
        if known is None:
            self._parts |= {name}
            self._keep({"id": name, "role": "assistant", "status": "pending"})
        else:
            self._messages[name] = self._with_pieces(known)
            self._is_new = True
            self._measure(name, grown=sum(len(text) for text in more.values() if isinstance(text, str)))

    def _measure(self, name: str, *, grown: int | None = None) -> None:
        """Note how long a message is now, and forget the oldest where all are too long, or too many.

        One that has `grown` by a piece of text is not written out again to be measured.
        """
        before = self._sizes.get(name, 0)
        pieces = self._streamed.get(name)
        size = before + grown if grown is not None else len(_JSON.encode((self._raw[name], pieces and pieces.output)))
        self._sizes[name] = size
        self._size += size - before
        while len(self._sizes) > 1 and (self._size > MOST_KEPT or len(self._sizes) > MOST_MESSAGES):
            oldest = next(one for one in self._sizes if one != name)
            self._size -= self._sizes.pop(oldest)
            for held in (self._raw, self._messages, self._streamed):
                held.pop(oldest, None)
            self._parts = self._parts - {oldest}
            self._is_new = True

    def _continues(self, so_far: _Streamed | None, number: int | None) -> bool:
        """Whether a piece follows what is there, so that nothing is repeated and nothing is missing in between.

        Inside one connection nothing gets lost. A new one tells all from the start, or goes on: with the next number it
        does; with a higher one something is missing, and the text grows again when the message itself comes.
        """
        if so_far is None:  # pieces may be counted for each message, or for all of a connection
            return number is None or number <= 1 or (self._last_seq is not None and number == self._last_seq + 1)
        if number is None or so_far.seq is None:
            return so_far.connection == self._connection
        if so_far.connection == self._connection:
            return number > so_far.seq
        return number == so_far.seq + 1

    def _with_pieces(self, message: ChatMessage) -> ChatMessage:
        streamed = self._streamed.get(message.id)
        if streamed is None:
            return message
        texts = {
            "streamed": streamed.output.get("response", ""),
            "streamed_reasoning": streamed.output.get("reasoning", ""),
        }
        return message.model_copy(update=texts)


_JSON = json.JSONEncoder(ensure_ascii=False, default=str)


def _known(kind: type[Wire], told: Record) -> Record:
    """What a kind of record has; what else is told would be held for nothing, and there is no end to names."""
    return {name: value for name, value in told.items() if name in kind.model_fields}


def _is_final(record: Record) -> bool:
    return word(record.get("status")) in FINAL_MESSAGE


def _has_ended(run: Record) -> bool:
    return word(run.get("state")) in ENDED_RUN


def _is_older(news: Record, known: Record) -> bool:
    first, second = _updated(news), _updated(known)
    return first is not None and second is not None and first < second


def _is_later(news: Record, known: Record) -> bool:
    return _is_older(known, news)


def _updated(record: Record) -> datetime | None:
    text = record.get("updated_at")
    try:
        moment = text if isinstance(text, datetime) else datetime.fromisoformat(text or "")
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo else None
