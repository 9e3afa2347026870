"""Which session of a worker a Binding request is for, as its ufrag says."""

import logging
from collections import Counter

from edge.errors import StunError
from edge.routing.peek import peek_ufrag
from edge.transceiver.driven import Driven

logger = logging.getLogger(__name__)

GIVEN_UP_MAX = 1024
"""Ufrags of sessions without a check that are remembered."""


class Ufrags:
    """The ufrags of all sessions of a worker. ``drops`` counts requests that are for none."""

    def __init__(self, drops: Counter[str]) -> None:
        self._drops = drops
        self._sessions: dict[bytes, Driven] = {}
        self._given_up: dict[bytes, str] = {}
        """Ufrags of sessions that ended without a check, and their ids: the latest ones."""

    def add(self, driven: Driven) -> None:
        """Let all ufrags that a session has now lead to it."""
        self._sessions.update(dict.fromkeys(driven.ufrags, driven))

    def retire(self, driven: Driven, ufrag: bytes) -> None:
        """Let one ufrag of a session lead nowhere."""
        if driven.ufrags.pop(ufrag, None) is not None:
            del self._sessions[ufrag]

    def remove(self, driven: Driven, *, given_up: bool) -> None:
        """A session has ended. ``given_up``: no check has ever come, and one may come too late."""
        for ufrag in driven.ufrags:
            del self._sessions[ufrag]
            if given_up:
                self._note_given_up(ufrag, driven.id)

    def find(self, request: bytes) -> Driven | None:
        """Return the session that a Binding request is for; count it if there is none."""
        try:
            ufrag = peek_ufrag(request)
        except StunError as exc:
            self._drops[exc.reason] += 1
            return None
        driven = self._sessions.get(ufrag)
        if driven is None:
            self._drop_unknown(ufrag)
        return driven

    def _drop_unknown(self, ufrag: bytes) -> None:
        """Count a check for nobody; say whom it would have been for, if it comes too late."""
        late = self._given_up.pop(ufrag, None)
        if late is None:
            self._drops["unknown-session"] += 1
            return
        self._drops["ufrag-expired"] += 1
        logger.info(
            "session %s: its first check came after it had been given up",
            late,
            extra={"session_id": late},
        )

    def _note_given_up(self, ufrag: bytes, session: str) -> None:
        if len(self._given_up) >= GIVEN_UP_MAX:
            del self._given_up[next(iter(self._given_up))]
        self._given_up[ufrag] = session
