"""Opus packets that the appliance would not make: all lengths, stereo, several frames in one."""

import ctypes

import numpy as np

from edge.audio import opus

_APPLICATION_VOIP = 2048
_SET_BITRATE = 4002
_SET_INBAND_FEC, _SET_PACKET_LOSS_PERC = 4012, 4014


class RawEncoder:
    """libopus's encoder as it comes."""

    def __init__(
        self,
        rate_hz: int,
        channels: int,
        bitrate_bps: int,
        *,
        fec: bool = False,
    ) -> None:
        self.rate_hz, self.channels = rate_hz, channels
        self._library = opus._library()
        error = ctypes.c_int()
        self._state = self._library.opus_encoder_create(
            rate_hz, channels, _APPLICATION_VOIP, ctypes.byref(error)
        )
        assert error.value == 0
        self._set(_SET_BITRATE, bitrate_bps)
        self._set(_SET_INBAND_FEC, int(fec))
        self._set(_SET_PACKET_LOSS_PERC, 20 if fec else 0)

    def __del__(self) -> None:
        self._library.opus_encoder_destroy(self._state)

    def encode_all(self, pcm: bytes, frame_ms: float) -> list[bytes]:
        """Return the packets of mono ``pcm``; in stereo the second channel is it at half volume."""
        mono = np.frombuffer(pcm, "<i2")
        sound = mono if self.channels == 1 else np.stack([mono, mono // 2], axis=1).ravel()
        size = int(frame_ms * self.rate_hz / 1000)
        output = ctypes.create_string_buffer(4_000)
        packets = []
        for at in range(0, len(mono) - size + 1, size):
            frame = sound[at * self.channels : (at + size) * self.channels].tobytes()
            made = self._library.opus_encode(self._state, frame, size, output, len(output))
            assert made > 0
            packets.append(output.raw[:made])
        return packets

    def _set(self, request: int, value: int) -> None:
        result = self._library.opus_encoder_ctl(self._state, request, ctypes.c_int(value))
        assert result == 0


def join(packets: list[bytes]) -> bytes:
    """Return one packet with the frames of all of them, which have the same configuration."""
    library = opus._library()
    library.opus_repacketizer_create.restype = ctypes.c_void_p
    state = ctypes.c_void_p(library.opus_repacketizer_create())
    kept = [ctypes.create_string_buffer(packet, len(packet)) for packet in packets]
    for packet in kept:
        result = library.opus_repacketizer_cat(state, packet, ctypes.c_int32(len(packet)))
        assert result == 0, "the packets differ in configuration"
    output = ctypes.create_string_buffer(8_000)
    made = library.opus_repacketizer_out(state, output, ctypes.c_int32(len(output)))
    library.opus_repacketizer_destroy(state)
    assert made > 0
    return output.raw[:made]


def library_ticks(packet: bytes) -> int:
    """Return the packet's length at 48 kHz as libopus sees it; negative if it refuses it."""
    return int(
        opus._library().opus_packet_get_nb_samples(packet, ctypes.c_int32(len(packet)), 48_000)
    )


def library_frames(packet: bytes) -> list[tuple[int, int]] | None:
    """Return where libopus finds each frame, as (start, length); None if it refuses the packet."""
    held = ctypes.create_string_buffer(packet, len(packet))
    toc = ctypes.c_ubyte()
    starts = (ctypes.c_void_p * 48)()
    lengths = (ctypes.c_int16 * 48)()
    offset = ctypes.c_int()
    count = opus._library().opus_packet_parse(
        held, ctypes.c_int32(len(packet)), ctypes.byref(toc), starts, lengths, ctypes.byref(offset)
    )
    if count < 0:
        return None
    base = ctypes.addressof(held)
    return [((starts[n] or base) - base, lengths[n]) for n in range(count)]
