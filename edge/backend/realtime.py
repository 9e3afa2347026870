"""The dialect of servers that speak the OpenAI Realtime protocol (docs/backend-realtime.md).

The session is configured with the first message. The server answers ``session.updated``; what the
client says until then is held back, so that no word is judged by settings that are not ours. From
then on every frame is appended to the server's input buffer, also comfort noise and concealment:
the server's turn detection needs time that passes evenly.

An answer is a *response* made of conversation items. Each piece of sound in an item is one item of
ours. When the server hears the client speak, what is not yet sent is cleared, sound that still
comes for it is dropped, and as soon as ``Cleared`` says how far each item got, the server is told
to truncate it there, so that the model knows what it was able to say.
"""

from collections import Counter, deque
from typing import Final

from attrs import define

from edge.backend import realtime_messages as messages
from edge.backend.dialect import SESSION_EXPIRED, Message, SessionFacts
from edge.backend.realtime_settings import (
    DigitPolicy,
    RealtimeSettings,
    server_interrupts,
    session_object,
)
from edge.errors import BackendError
from edge.media.dialogue import (
    Clear,
    Cleared,
    Command,
    Digit,
    EndItem,
    ItemEnded,
    ItemPosition,
    Notice,
    Play,
)
from edge.media.frames import AudioFrame

HOLD_MAX: Final = 3.0
"""Seconds of sound that wait for ``session.updated``. A server that has not answered by then is
one that never does; the session is configured all the same, because messages keep their order."""
RECEIVED_LAG_MAX: Final = 0.5
"""Seconds by which the received position may lag behind the sent one to be believed. A longer lag
is that of the client's reports, which come every few seconds, not that of its sound."""
MALFORMED_MAX: Final = 16
PLAYING_MAX: Final = 64
PARTS_MAX: Final = 256
MESSAGES_MAX: Final = 256
SENTENCE_CHARS_MAX: Final = 200

_HOLD_BYTES: Final = int(HOLD_MAX * 1000) * messages.BYTES_PER_MS
_UPDATE_ID: Final = "edge-session-update"
_FATAL: Final = {
    "session_expired": SESSION_EXPIRED,
    "invalid_api_key": "key-refused",
    "authentication_error": "key-refused",
    "insufficient_quota": "quota-exceeded",
    "model_not_found": "model-refused",
}
"""Code or type of an error after which the server answers nothing any more → our reason."""


@define(eq=False)
class _Sound:
    """The sound of one content part: what is an item to the session."""

    name: str
    item_id: str
    content_index: int
    response_id: str | None
    length_bytes: int = 0
    ended_at: float = 0.0
    """Seconds of it that were over before it came to more: the session counts from there."""
    is_complete: bool = False
    """No more is taken: the server said that it is done, or it was cut off."""
    is_cut: bool = False


class RealtimeDialect:
    """One session with a Realtime server.

    Reasons in ``drops``: ``malformed-message``; ``late-audio``, sound of an answer that was cut
    off; ``item-forgotten``, of too many items at once the oldest will not be truncated;
    ``server-error`` and ``response-failed``, of which ``last_error`` has the latest; ``digit``;
    ``message-queue-full``.
    Reasons of errors: ``too-many-errors``, ``session-refused``, ``format-refused``,
    ``session-expired``, ``key-refused``, ``quota-exceeded``, ``model-refused``.
    """

    def __init__(self, settings: RealtimeSettings) -> None:
        self.format = messages.FORMAT
        self.drops: Counter[str] = Counter()
        self.last_error: str | None = None
        """What the server complained about last, in its words, at most 200 characters."""
        self._settings = settings
        self._gather_bytes = settings.gather_ms * messages.BYTES_PER_MS
        self._messages: deque[Message] = deque()
        self._commands: deque[Command] = deque()
        self._is_closed = False
        self._pending = bytearray()  # heard, not yet appended
        self._sounds_begun = 0
        self._playing: dict[str, _Sound] = {}  # by name, until ended or cleared
        self._begin_conversation()

    def _begin_conversation(self) -> None:
        self._is_ready = False
        self._server_interrupts = True
        self._malformed = 0
        self._response: str | None = None  # in progress
        self._cut_response: str | None = None
        # The latest content parts of this conversation, whatever became of them.
        self._parts: dict[tuple[str, int], _Sound] = {}

    def open(self, facts: SessionFacts, *, again: bool) -> None:  # noqa: ARG002 (the server is told nothing of the session)
        """Configure the session. Again: it is a new conversation, which knows nothing of the old.

        What the old one had sent is still played.
        """
        if again:
            for sound in self._playing.values():
                self._complete(sound)
        self._begin_conversation()
        session = session_object(self._settings)
        self._server_interrupts = server_interrupts(session)
        self._send(messages.encode_session_update(session, _UPDATE_ID))

    def hear(self, frame: AudioFrame) -> Message | None:
        """Return what is to be appended. What was held back goes out with the first frame then."""
        if self._is_closed:
            return None
        self._pending += frame.audio
        if len(self._pending) < (self._gather_bytes if self._is_ready else _HOLD_BYTES):
            return None
        self._is_ready = True
        message = messages.encode_append(self._pending)
        self._pending.clear()
        return message

    def notify(self, notice: Notice) -> None:
        if self._is_closed:
            return
        match notice:
            case Cleared(positions):
                for position in positions:
                    self._truncate(position)
            case ItemEnded(position):
                if sound := self._playing.pop(position.item, None):
                    sound.ended_at += position.sent  # not for good if it ran dry
            case Digit(digit):
                self._press(digit)
            case _:  # a Realtime server has no use for the others
                pass

    def receive(self, message: Message) -> None:
        if self._is_closed:
            return
        try:
            event = self._decode(message)
        except BackendError as exc:
            self.drops[exc.reason] += 1
            self._malformed += 1
            if self._malformed > MALFORMED_MAX:
                raise BackendError("too-many-errors", str(exc)) from exc
            return
        match event:
            case messages.Audio():
                self._play(event)
            case messages.AudioDone(item_id, content_index):
                if sound := self._parts.get((item_id, content_index)):
                    self._complete(sound)
            case messages.SpeechStarted():
                self._interrupt()
            case messages.ResponseCreated(response):
                self._response = response.id
            case messages.ResponseDone(response):
                self._end_response(response)
            case messages.SessionUpdated(session):
                self._take_session(session)
            case messages.ErrorReport(fault):
                self._take_fault(fault, "server-error")
            case None:
                pass

    def close(self, reason: str) -> None:  # noqa: ARG002 (the protocol has no word for it)
        """Stop. Closing the connection is all that a Realtime server needs to know."""
        self._is_closed = True
        self._pending.clear()

    def next_message(self) -> Message | None:
        return self._messages.popleft() if self._messages else None

    def next_command(self) -> Command | None:
        return self._commands.popleft() if self._commands else None

    # What the client says

    def _press(self, digit: str) -> None:
        if self._settings.digits is DigitPolicy.IGNORE:
            self.drops["digit"] += 1
            return
        self._send(messages.encode_text_item(f"I pressed {digit} on the keypad."))

    # What the model says

    def _play(self, audio: messages.Audio) -> None:
        sound = self._parts.get((audio.item_id, audio.content_index))
        is_of_cut_response = (
            audio.response_id is not None and audio.response_id == self._cut_response
        )
        if is_of_cut_response or (sound is not None and sound.is_complete):
            self.drops["late-audio"] += 1
            return
        if not audio.delta:
            return
        if sound is None:
            sound = self._begin_sound(audio)
        self._expect_end(sound)
        sound.length_bytes += len(audio.delta)
        self._commands.append(Play(sound.name, audio.delta))

    def _begin_sound(self, audio: messages.Audio) -> _Sound:
        self._sounds_begun += 1
        name = f"{audio.item_id}#{self._sounds_begun}"  # also across conversations
        sound = _Sound(name, audio.item_id, audio.content_index, audio.response_id)
        if len(self._parts) >= PARTS_MAX:
            del self._parts[next(iter(self._parts))]
        self._parts[audio.item_id, audio.content_index] = sound
        return sound

    def _expect_end(self, sound: _Sound) -> None:
        if sound.name in self._playing:
            return
        if len(self._playing) >= PLAYING_MAX:
            del self._playing[next(iter(self._playing))]
            self.drops["item-forgotten"] += 1
        self._playing[sound.name] = sound

    def _complete(self, sound: _Sound) -> None:
        if not sound.is_complete:
            sound.is_complete = True
            self._commands.append(EndItem(sound.name))

    def _end_response(self, response: messages.Response) -> None:
        if response.id in {None, self._response}:
            self._response = None
        for sound in self._parts.values():  # servers need not say it item by item
            if sound.response_id == response.id:
                self._complete(sound)
        details = response.status_details
        if response.status == "failed":
            fault = details.error if details is not None else None
            self._take_fault(fault or messages.Fault(), "response-failed")

    # Barge-in

    def _interrupt(self) -> None:
        if not self._settings.interrupt:
            return
        if self._response is not None:
            self._cut_response = self._response
            if not self._server_interrupts:
                self._send(messages.encode_cancel(self._response))
        uncut = [sound for sound in self._playing.values() if not sound.is_cut]
        for sound in uncut:
            sound.is_cut = sound.is_complete = True
        if uncut:
            self._commands.append(Clear())

    def _truncate(self, position: ItemPosition) -> None:
        sound = self._playing.pop(position.item, None)
        if sound is None or self._parts.get((sound.item_id, sound.content_index)) is not sound:
            return  # of a conversation that is gone
        heard_ms = int((sound.ended_at + _heard(position)) * 1000)
        length_ms = sound.length_bytes // messages.BYTES_PER_MS
        end_ms = min(heard_ms, length_ms)  # beyond its length the server would refuse
        self._send(messages.encode_truncate(sound.item_id, sound.content_index, end_ms))

    # The session

    def _take_session(self, session: messages.Session) -> None:
        audio = session.audio or messages.SessionAudio()
        turn_detection = None
        if audio.input is not None:
            _check_format(audio.input.format)
            turn_detection = audio.input.turn_detection
        if audio.output is not None:
            _check_format(audio.output.format)
        if turn_detection is not None:
            self._server_interrupts = turn_detection.interrupt_response is not False
        self._is_ready = True

    def _take_fault(self, fault: messages.Fault, drop: str) -> None:
        fatal = _FATAL.get(fault.code or "") or _FATAL.get(fault.type or "")
        if fault.event_id == _UPDATE_ID and fatal is None:
            fatal = "session-refused"
        words = f"{fault.code or fault.type}: {fault.message}"[:SENTENCE_CHARS_MAX]
        words = "".join(each if each.isprintable() else " " for each in words)  # for log lines
        self.last_error = fatal if fatal == "key-refused" else words  # words may quote the key
        self.drops[drop] += 1
        if fatal is not None:
            raise BackendError(fatal, self.last_error or "")

    def _decode(self, message: Message) -> messages.ServerEvent | None:
        if isinstance(message, bytes):
            raise BackendError("malformed-message", "a binary message")
        return messages.decode_event(message)

    def _send(self, message: str) -> None:
        if len(self._messages) >= MESSAGES_MAX:
            self.drops["message-queue-full"] += 1
            return
        self._messages.append(message)


def _heard(position: ItemPosition) -> float:
    """Return how far the client heard an item, as well as is known."""
    received = position.received
    if received is not None and 0 <= position.sent - received <= RECEIVED_LAG_MAX:
        return received
    return position.sent


def _check_format(audio_format: messages.Format | None) -> None:
    """Refuse a server that would take our samples, or have us take its, for something else."""
    if audio_format is None:
        return
    if audio_format.type not in (None, "audio/pcm") or audio_format.rate not in (
        None,
        messages.FORMAT.rate_hz,
    ):
        raise BackendError("format-refused", "the server does not speak PCM16 at 24 kHz")
