"""aiortc as a caller: a 440 Hz tone goes out, and what comes back is measured.

aiortc is asyncio: it runs on a loop of its own in another thread, and its verbs are awaited from
Trio.
"""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from fractions import Fraction
from typing import Any, TypeVar

import numpy as np
import trio
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack, MediaStreamError, MediaStreamTrack
from aiortc.rtcdtlstransport import SRTPProtectionProfile
from aiortc.stats import RTCStatsReport
from attrs import define, field
from av import AudioFrame
from av.frame import Frame

RATE_HZ = 48_000
FRAME_SAMPLES = 960
TONE_HZ = 440
WINDOW_FRAMES = 25
"""What is looked at to tell a tone: half a second."""

ResultT = TypeVar("ResultT")


class Tone(AudioStreamTrack):
    """A 440 Hz sine in real time, 20 ms per frame."""

    async def recv(self) -> Frame:
        silence = await super().recv()  # which paces us
        assert isinstance(silence, AudioFrame)
        assert silence.pts is not None
        start = silence.pts * RATE_HZ // silence.sample_rate
        times = (start + np.arange(FRAME_SAMPLES)) / RATE_HZ
        samples = (10_000 * np.sin(2 * np.pi * TONE_HZ * times)).astype(np.int16)
        frame = AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout="mono")
        frame.pts, frame.sample_rate, frame.time_base = start, RATE_HZ, Fraction(1, RATE_HZ)
        return frame


@define
class AiortcClient:
    """One aiortc peer connection with the tone on it."""

    _loop: asyncio.AbstractEventLoop
    _connection: RTCPeerConnection
    _heard: deque[np.ndarray[Any, np.dtype[np.int16]]] = field(
        factory=lambda: deque(maxlen=WINDOW_FRAMES)
    )
    _listening: "asyncio.Task[None] | None" = None

    async def offer(self, *, setup: str = "actpass") -> str:
        """Return an offer in which aiortc claims that role in DTLS (RFC 8842 §5.2)."""

        async def offer() -> str:
            connection = self._connection
            connection.addTrack(Tone())
            connection.on("track", self._listen)
            await connection.setLocalDescription(await connection.createOffer())
            return connection.localDescription.sdp

        sdp = await self._call(offer)
        return sdp.replace("a=setup:actpass", f"a=setup:{setup}")

    async def accept(self, answer: str) -> None:
        """Take the answer; ICE and DTLS begin."""
        description = RTCSessionDescription(answer, "answer")
        await self._call(lambda: self._connection.setRemoteDescription(description))

    async def state(self) -> str:
        """Return the state of ICE and DTLS together."""

        async def state() -> str:
            return self._connection.connectionState

        return await self._call(state)

    async def statistics(self, kind: str) -> Any:
        """Return the figures of one kind, as getStats names it; None if there are none yet."""
        report: RTCStatsReport = await self._call(self._connection.getStats)
        return next((entry for entry in report.values() if entry.type == kind), None)

    async def heard_hz(self) -> float | None:
        """Return the loudest frequency of the last half second heard; None if it was too quiet."""

        async def heard() -> float | None:
            if len(self._heard) < WINDOW_FRAMES:
                return None
            samples = np.concatenate(self._heard).astype(np.float64)
            if np.abs(samples).mean() < 1_000:
                return None
            return float(np.abs(np.fft.rfft(samples)).argmax() * RATE_HZ / len(samples))

        return await self._call(heard)

    async def force_profile(self, profile: SRTPProtectionProfile) -> None:
        """Offer or accept one SRTP profile only. Call it after ``offer``."""
        for transceiver in self._connection.getTransceivers():
            transceiver.sender.transport._srtp_profiles = [profile]

    async def close(self) -> None:
        async def close() -> None:
            await self._connection.close()
            if self._listening is not None:
                self._listening.cancel()
                with suppress(asyncio.CancelledError):
                    await self._listening

        await self._call(close)

    def _listen(self, track: MediaStreamTrack) -> None:
        self._listening = self._loop.create_task(self._take_frames(track))

    async def _take_frames(self, track: MediaStreamTrack) -> None:
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            assert isinstance(frame, AudioFrame)
            assert frame.sample_rate == RATE_HZ
            channels = len(frame.layout.channels)
            samples = frame.to_ndarray().reshape(-1, channels)[:, 0]
            self._heard.append(samples.astype(np.int16))

    async def _call(self, verb: Callable[[], Coroutine[Any, Any, ResultT]]) -> ResultT:
        future = asyncio.run_coroutine_threadsafe(verb(), self._loop)
        return await trio.to_thread.run_sync(future.result)


@asynccontextmanager
async def aiortc_client() -> AsyncIterator[AiortcClient]:
    """Start a loop with a client on it; close both afterwards."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="aiortc")
    thread.start()

    async def connect() -> RTCPeerConnection:
        return RTCPeerConnection()

    try:
        connection = asyncio.run_coroutine_threadsafe(connect(), loop)
        client = AiortcClient(loop, await trio.to_thread.run_sync(connection.result))
        try:
            yield client
        finally:
            with trio.CancelScope(shield=True):
                await client.close()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(thread.join)
        loop.close()
