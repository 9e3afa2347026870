"""Decode an SDP offer: the subset that WebRTC uses (RFC 8866, RFC 8829, RFC 8839, RFC 8843).

The decoder is about form only: it refuses what is malformed or beyond its caps, and leaves it to
``edge.signal.answer`` to say which well-formed offers are accepted. Lines and attributes that it
does not know are ignored, candidates among them: a lite agent sends no checks. Whatever a value
here holds was matched against its grammar, so that it can be written into an answer as it is.

Attributes that may stand at session level (fingerprint, setup, ICE credentials, direction, extmap)
are folded into every section that does not have its own.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple, NoReturn, TypeVar

from attrs import frozen

from edge.errors import SdpError

OFFER_BYTES_MAX = 65_536
SECTIONS_MAX = 16
LINES_MAX = 2_048
LINE_CHARS_MAX = 4_096

TRUSTED_HASHES = {"sha-256": 32, "sha-384": 48, "sha-512": 64}
"""The hash functions that a fingerprint is believed with, and their digests' lengths in bytes."""

EnumT = TypeVar("EnumT", bound=StrEnum)


class SdpReason(StrEnum):
    """Every ``reason`` of an SdpError."""

    TOO_LARGE = "too-large"
    """Beyond a cap: bytes, lines, line length or number of media sections."""
    CONTROL_CHARACTER = "control-character"
    SYNTAX = "syntax"
    DUPLICATE_MID = "duplicate-mid"
    NO_AUDIO = "no-audio"
    NO_CODEC = "no-codec"
    """Audio, but in no codec that the policy takes."""
    NO_RTCP_MUX = "no-rtcp-mux"
    NO_ICE = "no-ice"
    """No ICE credentials."""
    ICE_LITE = "ice-lite"
    """Both sides lite: nobody would send checks."""
    NO_FINGERPRINT = "no-fingerprint"
    WEAK_FINGERPRINT = "weak-fingerprint"
    """None of the fingerprints uses a hash that we trust."""
    SETUP = "setup"
    """A DTLS role that cannot be answered."""
    AUDIO_GONE = "audio-gone"
    """This and the following: a later offer that asks for what a session cannot follow."""
    CODEC_CHANGED = "codec-changed"
    FINGERPRINT_CHANGED = "fingerprint-changed"
    ROLE_CHANGED = "role-changed"


class Direction(StrEnum):
    """Who sends (RFC 8866 §6.7), as seen by whoever wrote the description."""

    SENDRECV = "sendrecv"
    SENDONLY = "sendonly"
    RECVONLY = "recvonly"
    INACTIVE = "inactive"


class Setup(StrEnum):
    """Who starts the DTLS handshake (RFC 8842 §5.2)."""

    ACTIVE = "active"
    PASSIVE = "passive"
    ACTPASS = "actpass"
    HOLDCONN = "holdconn"


@frozen
class Codec:
    """One payload type with its rtpmap. A payload type without one is not listed."""

    payload_type: int
    name: str
    """In lower case."""
    clock_rate: int
    """Hz."""
    channels: int
    """1 where the rtpmap does not say."""
    fmtp: str
    """Format parameters as offered: what the offerer wishes to receive. Empty if it has none."""


@frozen
class Extension:
    """One RTP header extension (RFC 8285 §5)."""

    id: int
    uri: str
    direction: Direction


@frozen
class Fingerprint:
    """A certificate fingerprint (RFC 8122 §5)."""

    algorithm: str
    """In lower case, such as ``sha-256``; may be one that we do not know."""
    digest: str
    """Upper-case hex pairs, joined by colons; of the right length if the hash is trusted."""

    def __str__(self) -> str:
        return f"{self.algorithm} {self.digest}"


class Msid(NamedTuple):
    """A track and the stream it belongs to (RFC 8830). ``-`` is the stream of a lone track."""

    stream: str
    track: str


@frozen
class MediaSection:
    """One ``m=`` line and its attributes, with those of the session folded in."""

    kind: str
    """``audio``, ``video``, ``application`` or any other token."""
    port: int
    protocol: str
    formats: tuple[str, ...]
    """As in the m-line; for RTP these are distinct payload types 0..127."""
    mid: str | None
    direction: Direction
    setup: Setup | None
    ice_ufrag: str | None
    ice_pwd: str | None
    fingerprints: tuple[Fingerprint, ...]
    codecs: tuple[Codec, ...]
    """In the order of the m-line."""
    extensions: tuple[Extension, ...]
    rtcp_mux: bool
    rtcp_rsize: bool
    bundle_only: bool
    ptime: int | None
    """Milliseconds of media per packet that the offerer asks for."""
    ssrcs: tuple[int, ...]
    msids: tuple[Msid, ...]
    sctp_port: int | None

    @property
    def is_rejected(self) -> bool:
        """Whether the offerer has closed the section (RFC 8843 §7.1.4: unless bundle-only)."""
        return self.port == 0 and not self.bundle_only


@frozen
class Offer:
    """A decoded offer."""

    sections: tuple[MediaSection, ...]
    bundle: tuple[str, ...]
    """The mids of the first BUNDLE group; the first of them is the tagged section."""
    ice_lite: bool


def decode_offer(text: str) -> Offer:
    """Decode an offer whose lines end with CRLF or LF.

    Raises:
        SdpError: not SDP, or beyond the caps of this module. The message names the line and never
            quotes it.

    """
    session, blocks = _split(_lines(text))
    sections = tuple(_section(block, session) for block in blocks)
    mids = [section.mid for section in sections if section.mid is not None]
    if len(set(mids)) != len(mids):
        raise SdpError(SdpReason.DUPLICATE_MID, "two media sections of the offer have the same mid")
    return Offer(sections, _bundle(session), "ice-lite" in session.attributes)


class _Line(NamedTuple):
    number: int
    text: str


class _Block(NamedTuple):
    """The session's lines, or those of one section: its first line and its attributes by name."""

    head: _Line
    attributes: dict[str, list[_Line]]


# Everything but printable text, CR and LF. C1 controls and surrogates are no text either.
_CONTROL = re.compile("[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]|\r(?!\n)")

# Tokens and numbers are ASCII: \d and \w would match other alphabets too.
_TOKEN = r"[A-Za-z0-9!#$%&'*+.^_`{|}~-]+"  # noqa: S105 - the grammar's word, not a secret
_MEDIA = re.compile(
    rf"m=({_TOKEN}) ([0-9]{{1,5}})(?:/[0-9]+)? ({_TOKEN}(?:/{_TOKEN})*)((?: {_TOKEN})+)"
)
_MID = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`{|}~-]{1,64}")
_UFRAG = re.compile(r"[A-Za-z0-9+/]{4,256}")
_PASSWORD = re.compile(r"[A-Za-z0-9+/]{22,256}")
_FINGERPRINT = re.compile(rf"({_TOKEN}) +((?:[0-9A-Fa-f]{{2}}:)*[0-9A-Fa-f]{{2}})")
_RTPMAP = re.compile(rf"([0-9]{{1,3}}) ({_TOKEN})/([0-9]{{1,9}})(?:/([0-9]{{1,3}}))?")
_FMTP = re.compile(r"([0-9]{1,3}) +([\x20-\x7e]+)")
_EXTMAP = re.compile(rf"([0-9]{{1,5}})(?:/({_TOKEN}))? ([\x21-\x7e]+)(?: .*)?")
_SSRC = re.compile(r"([0-9]{1,10})(?: .*)?")
_MSID = re.compile(r"([\x21-\x7e]{1,256})(?: ([\x21-\x7e]{1,256}))?")
_NUMBER = re.compile(r"[0-9]{1,5}")

_NOTHING: Sequence[_Line] = ()


def _fail(line: _Line, sentence: str) -> NoReturn:
    raise SdpError(SdpReason.SYNTAX, f"line {line.number} of the offer: {sentence}")


def _lines(text: str) -> Iterator[_Line]:
    """Cut the text into its lines, having checked every cap on it."""
    # UTF-8 is never shorter than the count of characters; the first test spares the encoding.
    if len(text) > OFFER_BYTES_MAX or _utf8_length(text) > OFFER_BYTES_MAX:
        raise SdpError(SdpReason.TOO_LARGE, f"the offer is longer than {OFFER_BYTES_MAX} bytes")
    if text.count("\n") > LINES_MAX:
        raise SdpError(SdpReason.TOO_LARGE, f"the offer has more than {LINES_MAX} lines")
    if _CONTROL.search(text):
        raise SdpError(SdpReason.CONTROL_CHARACTER, "the offer contains a control character")
    for number, raw in enumerate(text.rstrip("\r\n").split("\n"), start=1):
        line = _Line(number, raw.removesuffix("\r"))
        if len(line.text) > LINE_CHARS_MAX:
            raise SdpError(
                SdpReason.TOO_LARGE,
                f"line {number} of the offer is longer than {LINE_CHARS_MAX} characters",
            )
        yield line


def _utf8_length(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _split(lines: Iterator[_Line]) -> tuple[_Block, list[_Block]]:
    """Return the session's block and one per media section."""
    first = next(lines)
    if first.text != "v=0":
        _fail(first, "an SDP description starts with v=0")
    session = block = _Block(first, {})
    blocks: list[_Block] = []
    for line in lines:
        kind, equals, value = line.text.partition("=")
        if not equals or len(kind) != 1:
            _fail(line, "expected one letter and an equals sign")
        if kind == "m":
            if len(blocks) == SECTIONS_MAX:
                raise SdpError(
                    SdpReason.TOO_LARGE, f"the offer has more than {SECTIONS_MAX} media sections"
                )
            block = _Block(line, {})
            blocks.append(block)
        elif kind == "a":
            name, _, argument = value.partition(":")
            block.attributes.setdefault(name, []).append(_Line(line.number, argument))
    return session, blocks


def _section(block: _Block, session: _Block) -> MediaSection:
    match = _MEDIA.fullmatch(block.head.text)
    if match is None:
        _fail(block.head, "malformed m= line")
    kind, port_text, protocol, formats_text = match.groups()
    port = int(port_text)
    if port > 65535:
        _fail(block.head, "a port is 0..65535")
    formats = tuple(formats_text.split())
    own = block.attributes
    is_rtp = "RTP/" in protocol
    sctp_port = _single(own, "sctp-port")
    ptime = _single(own, "ptime")
    return MediaSection(
        kind=kind,
        port=port,
        protocol=protocol,
        formats=formats,
        mid=_matched(_single(own, "mid"), _MID, "a mid is a token of at most 64 characters"),
        direction=_direction(own) or _direction(session.attributes) or Direction.SENDRECV,
        setup=_setup(_single(own, "setup") or _single(session.attributes, "setup")),
        ice_ufrag=_matched(
            _single(own, "ice-ufrag") or _single(session.attributes, "ice-ufrag"),
            _UFRAG,
            "an ice-ufrag is 4 to 256 ice-chars",
        ),
        ice_pwd=_matched(
            _single(own, "ice-pwd") or _single(session.attributes, "ice-pwd"),
            _PASSWORD,
            "an ice-pwd is 22 to 256 ice-chars",
        ),
        fingerprints=_fingerprints(own) or _fingerprints(session.attributes),
        codecs=_codecs(block, formats) if is_rtp else (),
        extensions=_extensions(own) + _extensions(session.attributes),
        rtcp_mux="rtcp-mux" in own or "rtcp-mux-only" in own,
        rtcp_rsize="rtcp-rsize" in own,
        bundle_only="bundle-only" in own,
        ptime=None if ptime is None else _number(ptime),
        ssrcs=_ssrcs(own),
        msids=_msids(own),
        sctp_port=None if sctp_port is None else _number(sctp_port),
    )


def _single(attributes: Mapping[str, list[_Line]], name: str) -> _Line | None:
    """Return the value of an attribute that may stand once."""
    lines = attributes.get(name, _NOTHING)
    if len(lines) > 1:
        _fail(lines[1], f"a second a={name} in one section")
    return lines[0] if lines else None


def _matched(line: _Line | None, pattern: re.Pattern[str], rule: str) -> str | None:
    if line is None:
        return None
    if not pattern.fullmatch(line.text):
        _fail(line, rule)
    return line.text


def _number(line: _Line) -> int:
    if not _NUMBER.fullmatch(line.text):
        _fail(line, "expected a number")
    return int(line.text)


def _member(line: _Line, text: str, kind: type[EnumT]) -> EnumT:
    try:
        return kind(text)
    except ValueError as exc:
        names = ", ".join(kind)
        raise SdpError(
            SdpReason.SYNTAX, f"line {line.number} of the offer: expected one of {names}"
        ) from exc


def _setup(line: _Line | None) -> Setup | None:
    return None if line is None else _member(line, line.text, Setup)


def _direction(attributes: Mapping[str, list[_Line]]) -> Direction | None:
    found = [direction for direction in Direction if direction in attributes]
    if len(found) > 1:
        _fail(attributes[found[1]][0], "a second direction in one section")
    return found[0] if found else None


def _fingerprints(attributes: Mapping[str, list[_Line]]) -> tuple[Fingerprint, ...]:
    found: dict[Fingerprint, None] = {}
    for line in attributes.get("fingerprint", _NOTHING):
        match = _FINGERPRINT.fullmatch(line.text)
        if match is None:
            _fail(line, "malformed fingerprint")
        algorithm, digest = match.group(1).lower(), match.group(2).upper()
        length = TRUSTED_HASHES.get(algorithm)
        if length is not None and len(digest) != 3 * length - 1:
            _fail(line, "the fingerprint is not of its hash's length")
        found[Fingerprint(algorithm, digest)] = None
    return tuple(found)


def _codecs(block: _Block, formats: Sequence[str]) -> tuple[Codec, ...]:
    """Return the codecs of an RTP section in the order of its m-line."""
    if any(not _NUMBER.fullmatch(text) or int(text) > 127 for text in formats):
        _fail(block.head, "a payload type is 0..127")
    payload_types = [int(text) for text in formats]
    if len(set(payload_types)) != len(payload_types):
        _fail(block.head, "a payload type is listed twice")
    parameters: dict[int, str] = {}
    for line in block.attributes.get("fmtp", _NOTHING):
        match = _FMTP.fullmatch(line.text)
        if match is None:
            _fail(line, "malformed fmtp")
        parameters.setdefault(int(match.group(1)), match.group(2))
    codecs: dict[int, Codec] = {}
    for line in block.attributes.get("rtpmap", _NOTHING):
        match = _RTPMAP.fullmatch(line.text)
        if match is None:
            _fail(line, "malformed rtpmap")
        number, name, clock_rate, channels = match.groups()
        payload_type = int(number)
        if payload_type in codecs:
            _fail(line, "a second rtpmap for one payload type")
        codecs[payload_type] = Codec(
            payload_type,
            name.lower(),
            int(clock_rate),
            int(channels or 1),
            parameters.get(payload_type, ""),
        )
    return tuple(codecs[number] for number in payload_types if number in codecs)


def _extensions(attributes: Mapping[str, list[_Line]]) -> tuple[Extension, ...]:
    extensions = []
    for line in attributes.get("extmap", _NOTHING):
        match = _EXTMAP.fullmatch(line.text)
        if match is None:
            _fail(line, "malformed extmap")
        number, direction, uri = match.groups()
        extensions.append(
            Extension(int(number), uri, _member(line, direction or Direction.SENDRECV, Direction))
        )
    return tuple(extensions)


def _ssrcs(attributes: Mapping[str, list[_Line]]) -> tuple[int, ...]:
    found: dict[int, None] = {}
    for line in attributes.get("ssrc", _NOTHING):
        match = _SSRC.fullmatch(line.text)
        if match is None or int(match.group(1)) > 0xFFFFFFFF:
            _fail(line, "malformed ssrc")
        found[int(match.group(1))] = None
    return tuple(found)


def _msids(attributes: Mapping[str, list[_Line]]) -> tuple[Msid, ...]:
    msids = []
    for line in attributes.get("msid", _NOTHING):
        match = _MSID.fullmatch(line.text)
        if match is None:
            _fail(line, "malformed msid")
        msids.append(Msid(match.group(1), match.group(2) or ""))
    return tuple(msids)


def _bundle(session: _Block) -> tuple[str, ...]:
    for line in session.attributes.get("group", _NOTHING):
        semantics, *mids = line.text.split(" ")
        if semantics == "BUNDLE":
            if not all(_MID.fullmatch(mid) for mid in mids):
                _fail(line, "a BUNDLE group lists mids")
            return tuple(dict.fromkeys(mids))
    return ()
