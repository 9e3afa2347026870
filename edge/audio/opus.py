"""Opus (RFC 6716): libopus's encoder and decoder by ctypes, and what a packet says of itself.

Everything is mono here, whatever the packets are: libopus mixes stereo down as it decodes. PCM is
16-bit little-endian, at 8, 12, 16, 24 or 48 kHz; libopus decodes and encodes straight at that rate.
"""

import ctypes
import functools
import weakref
from collections.abc import Callable

from edge.errors import AudioError, BootError, LocalProtocolError

CLOCK_RATE_HZ = 48_000
"""Of Opus in RTP, whatever the rate of the sound (RFC 7587 §4.1)."""
PACKET_TICKS_MAX = 5_760
"""120 ms, the longest that a packet may be (RFC 6716 §3.4, requirement R5)."""

# Every number below is from opus_defines.h.
_OK = 0
_APPLICATION_VOIP = 2048
_SET_BITRATE = 4002
_SET_MAX_BANDWIDTH = 4004
_SET_VBR = 4006
_SET_COMPLEXITY = 4010
_SET_INBAND_FEC = 4012
_SET_PACKET_LOSS_PERC = 4014
_SET_DTX = 4016
_SET_VBR_CONSTRAINT = 4020
_SET_SIGNAL = 4024
_RESET_STATE = 4028
_SIGNAL_VOICE = 3001
_BANDWIDTHS = {8_000: 1101, 12_000: 1102, 16_000: 1103, 24_000: 1104, 48_000: 1105}

_SONAME = "libopus.so.0"
_PACKET_BYTES_MAX = 1_276  # one frame and its TOC (RFC 6716 §3.2.1)

_CONFIG_TICKS = (
    *((480, 960, 1920, 2880) * 3),  # 0..11: SILK, narrow to wide band
    *((480, 960) * 2),  # 12..15: hybrid
    *((120, 240, 480, 960) * 4),  # 16..31: CELT
)
"""Length of one frame by configuration number (RFC 6716 §3.1, table 2)."""
_CELT_CONFIG_FIRST = 16


@functools.cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_SONAME)
    except OSError as exc:
        raise BootError(f"cannot load {_SONAME} (Debian package libopus0): {exc}") from exc
    c_int, c_void_p, c_char_p = ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p
    c_int_p = ctypes.POINTER(c_int)
    for name, result, arguments in (
        ("opus_get_version_string", c_char_p, []),
        ("opus_strerror", c_char_p, [c_int]),
        ("opus_decoder_create", c_void_p, [ctypes.c_int32, c_int, c_int_p]),
        ("opus_decoder_destroy", None, [c_void_p]),
        (
            "opus_decode",
            c_int,
            [c_void_p, c_char_p, ctypes.c_int32, c_void_p, c_int, c_int],
        ),
        ("opus_encoder_create", c_void_p, [ctypes.c_int32, c_int, c_int, c_int_p]),
        ("opus_encoder_destroy", None, [c_void_p]),
        ("opus_encode", ctypes.c_int32, [c_void_p, c_char_p, c_int, c_void_p, ctypes.c_int32]),
        ("opus_encoder_ctl", c_int, [c_void_p, c_int]),  # and one int: it is variadic
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def opus_version() -> str:
    """Return what libopus calls itself, "libopus 1.3.1" for one.

    Raises:
        BootError: libopus is not installed.

    """
    return str(_library().opus_get_version_string().decode())


def packet_ticks(payload: bytes) -> int:
    """Return how long a packet is, on the 48 kHz clock, by its first one or two bytes.

    Says nothing about whether the rest can be decoded.

    Raises:
        AudioError: ``opus-malformed``: empty, cut, no frames, or longer than 120 ms.

    """
    if not payload:
        raise AudioError("opus-malformed", "empty packet")
    toc = payload[0]
    ticks = _CONFIG_TICKS[toc >> 3]
    code = toc & 3
    if code == 0:
        return ticks
    if code < 3:
        return 2 * ticks
    if len(payload) < 2:
        raise AudioError("opus-malformed", "no frame count")
    ticks *= payload[1] & 0x3F
    if not 0 < ticks <= PACKET_TICKS_MAX:
        raise AudioError("opus-malformed", "no frames, or more than 120 ms")
    return ticks


def is_dtx(payload: bytes) -> bool:
    """Return whether a packet only says that there is silence: at most two bytes."""
    return len(payload) <= 2


def has_fec(payload: bytes) -> bool:
    """Return whether a packet, if it can be decoded, has a copy of the sound just before it.

    The copy is as long as the packet's first frame. The flags of such LBRR frames are among the
    first bits of a SILK layer, and those come as they are (RFC 6716 §4.2.3): per channel one bit of
    voice activity for each 20 ms, then the LBRR flag.
    """
    if not payload:
        return False
    toc = payload[0]
    config = toc >> 3
    if config >= _CELT_CONFIG_FIRST:
        return False
    start = _first_frame(payload)
    if not start:
        return False
    flags = payload[start]
    silk_frames = max(1, _CONFIG_TICKS[config] // 960)
    if flags >> (7 - silk_frames) & 1:
        return True
    return bool(toc & 4 and flags >> (6 - 2 * silk_frames) & 1)


def _first_frame(payload: bytes) -> int:
    """Return where a packet's first frame begins, 0 if it is empty or not to be found.

    RFC 6716 §3.2: codes 0 and 1 begin behind the TOC; code 2 has the first frame's length there;
    code 3 a byte with VBR and padding flags and the count, then the padding's length, then the
    lengths of all frames but the last.
    """
    code, end = payload[0] & 3, len(payload)
    at, lengths = 1, int(code == 2)
    if code == 3 and end > 1:
        frames, at = payload[1], 2
        if frames & 0x40:
            while at < end and payload[at] == 255:
                at, end = at + 1, end - 254
            end -= payload[at] if at < end else 0
            at += 1
        lengths = (frames & 0x3F) - 1 if frames & 0x80 else 0
    for index in range(lengths):
        if at >= end or (index == 0 and payload[at] == 0):
            return 0
        at += 1 if payload[at] < 252 else 2
    return at if at < end else 0


class OpusDecoder:
    """One stream's decoder. Every call continues where the last one ended."""

    def __init__(self, rate_hz: int) -> None:
        if rate_hz not in _BANDWIDTHS:
            raise LocalProtocolError(f"Opus has no rate of {rate_hz} Hz")
        library = _library()
        self._state = _create(library.opus_decoder_create, rate_hz, 1)
        weakref.finalize(self, library.opus_decoder_destroy, self._state).atexit = False
        self._decode: Callable[..., int] = library.opus_decode
        self._samples_max = PACKET_TICKS_MAX * rate_hz // CLOCK_RATE_HZ
        self._unit = rate_hz // 400  # 2.5 ms: what libopus makes without a packet
        self._output = (ctypes.c_int16 * self._samples_max)()
        self._address = ctypes.addressof(self._output)
        self._bytes = memoryview(self._output).cast("B")

    def decode(self, payload: bytes) -> bytes:
        """Return a packet's sound, of the length that ``packet_ticks`` says.

        Raises:
            AudioError: ``opus-malformed``. The decoder is as it was before.

        """
        if not payload:  # which libopus takes for a lost packet
            raise AudioError("opus-malformed", "empty packet")
        return self._run(payload, self._samples_max, 0)

    def decode_fec(self, payload: bytes, samples: int) -> bytes:
        """Return the ``samples`` before a packet that is still to be decoded, from its copy.

        The copy is as long as the packet's first frame; what is asked beyond that, and everything
        if ``has_fec`` is false, is concealed.

        Raises:
            AudioError: ``opus-malformed``.
            LocalProtocolError: see ``conceal``.

        """
        if not payload:
            raise AudioError("opus-malformed", "empty packet")
        return self._run(payload, self._whole_units(samples), 1)[: 2 * samples]

    def conceal(self, samples: int) -> bytes:
        """Return ``samples`` made up from what came before, fading out; comfort noise after DTX.

        Raises:
            LocalProtocolError: ``samples`` is not positive, or more than 120 ms.

        """
        return self._run(None, self._whole_units(samples), 0)[: 2 * samples]

    def _whole_units(self, samples: int) -> int:
        if not 0 < samples <= self._samples_max:
            raise LocalProtocolError(f"no {samples} samples at once")
        return -(-samples // self._unit) * self._unit

    def _run(self, payload: bytes | None, samples: int, fec: int) -> bytes:
        length = len(payload) if payload else 0
        made = self._decode(self._state, payload, length, self._address, samples, fec)
        if made < 0:
            raise AudioError("opus-malformed", _error_text(made))
        return self._bytes[: 2 * made].tobytes()


class OpusEncoder:
    """One stream's encoder: 20 ms frames of voice, constrained variable bit rate.

    With ``fec``, packets of speech carry a copy of the frame before them, once loss is expected and
    the bit rate has room for it. libopus 1.3.1 turns to SILK or hybrid mode for that by itself. The
    least kbit/s with which it was seen to do so, for 1 to 5 % of expected loss, and for 20 %:

    | complexity | 8 kHz | 16 kHz | 24 kHz | 48 kHz |
    | --- | --- | --- | --- | --- |
    | 0 | 26, 24 | 34, 24 | 40, 24 | 44, 24 |
    | 2..5 | 20, 18 | 26, 18 | 32, 18 | 36, 18 |
    | 9, 10 | 18, 18 | 24, 18 | 30, 18 | 30, 18 |
    """

    def __init__(
        self, rate_hz: int, *, bitrate_bps: int, complexity: int, fec: bool, dtx: bool
    ) -> None:
        if rate_hz not in _BANDWIDTHS:
            raise LocalProtocolError(f"Opus has no rate of {rate_hz} Hz")
        library = _library()
        self._state = _create(library.opus_encoder_create, rate_hz, 1, _APPLICATION_VOIP)
        weakref.finalize(self, library.opus_encoder_destroy, self._state).atexit = False
        self._encode: Callable[..., int] = library.opus_encode
        self._control: Callable[..., int] = library.opus_encoder_ctl
        self._samples = rate_hz // 50
        self._loss_percent = 0
        self._output = (ctypes.c_ubyte * _PACKET_BYTES_MAX)()
        self._address = ctypes.addressof(self._output)
        self._bytes = memoryview(self._output)
        for request, value in (
            (_SET_BITRATE, bitrate_bps),
            (_SET_COMPLEXITY, complexity),
            (_SET_VBR, 1),
            (_SET_VBR_CONSTRAINT, 1),
            (_SET_MAX_BANDWIDTH, _BANDWIDTHS[rate_hz]),
            (_SET_SIGNAL, _SIGNAL_VOICE),
            (_SET_INBAND_FEC, int(fec)),
            (_SET_DTX, int(dtx)),
        ):
            self._set(request, value)

    def encode(self, pcm: bytes) -> bytes:
        """Return the packet for 20 ms of sound. With DTX, ``is_dtx`` ones need not be sent.

        Raises:
            LocalProtocolError: ``pcm`` is not 20 ms long.

        """
        if len(pcm) != 2 * self._samples:
            raise LocalProtocolError(f"{len(pcm)} bytes are not 20 ms")
        made = self._encode(self._state, pcm, self._samples, self._address, _PACKET_BYTES_MAX)
        if made < 0:
            raise LocalProtocolError(f"libopus: {_error_text(made)}")
        return self._bytes[:made].tobytes()

    def expect_loss(self, fraction: float) -> None:
        """Take what share of the packets is lost, 0..1: how much room FEC gets, from 1 % up."""
        percent = min(100, max(0, round(100 * fraction)))
        if percent != self._loss_percent:
            self._set(_SET_PACKET_LOSS_PERC, percent)
            self._loss_percent = percent

    def reset(self) -> None:
        """Forget the sound so far, not the settings: for what does not continue it."""
        self._check(self._control(self._state, _RESET_STATE))

    def _set(self, request: int, value: int) -> None:
        self._check(self._control(self._state, request, ctypes.c_int(value)))

    def _check(self, result: int) -> None:
        if result != _OK:
            raise LocalProtocolError(f"libopus: {_error_text(result)}")


def _create(create: Callable[..., int | None], *arguments: int) -> int:
    error = ctypes.c_int()
    state = create(*arguments, ctypes.byref(error))
    if not state:
        raise LocalProtocolError(f"libopus: {_error_text(error.value)}")
    return state


def _error_text(code: int) -> str:
    return str(_library().opus_strerror(code).decode())
