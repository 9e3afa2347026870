"""The second line of defence against secrets in log lines; the first is not to log them.

What looks like a secret is masked, whoever put it there: a library's exception, a peer's text, a
mistake of ours. Words are masked by their shape, so now and then one that is no secret is hit.
Every rule takes time in proportion to the text.
"""

import re

MASK = "[redacted]"

_ICE = r"[A-Za-z0-9+/]"
_NAMES = r"(?:[\w-]{0,24}(?:password|passwd|secret|token|api[_-]?key)|key|pwd|ufrag)"
_MIXED = r"(?=[\w+/-]*[0-9])(?=[\w+/-]*[A-Z])(?=[\w+/-]*[a-z])"
_MIXED_WORD = _MIXED.replace("/", "")
_RULES = [
    (re.compile(pattern, flags), replacement)
    for pattern, replacement, flags in (
        (
            r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
            MASK,
            re.DOTALL,
        ),
        # SDP (RFC 8839 section 5.4)
        (r"(ice-(?:pwd|ufrag)\s*[:=]\s*)[^\s\\]+", rf"\1{MASK}", re.IGNORECASE),
        # HTTP: headers, and what stands in URLs
        (r"(authorization\W{1,6}(?:\w+ )?)[^\s\"',]{8,}", rf"\1{MASK}", re.IGNORECASE),
        (r"\b(bearer )[\w.~+/=-]{8,}", rf"\1{MASK}", re.IGNORECASE),
        (r"(://)[^/\s@]+@", rf"\1{MASK}@", 0),
        # client secrets, API keys, JSON Web Tokens
        (r"\b(ek_|sk-)[\w.-]{8,}", rf"\1{MASK}", 0),
        (r"(?<![\w-])eyJ[\w-]+\.[\w-]+(?:\.[\w-]*)?", MASK, 0),
        # by name: JSON, URLs' queries, Python's repr
        (rf"([\"']{_NAMES}[\"']\s*:\s*b?[\"'])[^\"']+", rf"\1{MASK}", re.IGNORECASE),
        (rf"(\b{_NAMES}=b?[\"']?)[^\s&\"',;)]+", rf"\1{MASK}", re.IGNORECASE),
        # our ufrags, alone or before the peer's in a USERNAME: edge/routing/ufrag.py has the layout
        (
            rf"(?<!{_ICE})[AIQYgow][Q-Za-f]{_ICE}{{22}}(?!{_ICE})(?::{_ICE}{{4,}})?",
            MASK,
            0,
        ),
        # ICE passwords of ours, random words, keys in hexadecimal
        (rf"(?<![\w+/-]){_MIXED}{_ICE}{{32}}(?![\w+/-])", MASK, 0),
        (rf"(?<![\w+-]){_MIXED_WORD}[\w+-]{{24,}}", MASK, 0),
        (r"\b[0-9A-Fa-f]{32,}\b", MASK, 0),
    )
]


def redact(text: str) -> str:
    """Return a text without what looks like a secret."""
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text
