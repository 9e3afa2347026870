"""What an operator's server may say about a caller: a JSON object, bounded."""

from typing import Any

import msgspec

METADATA_BYTES_MAX = 4096
"""As JSON without blanks."""
METADATA_DEPTH_MAX = 8
"""Objects and arrays in each other, the metadata itself counted."""

_encoder = msgspec.json.Encoder()


def metadata_problem(metadata: dict[str, Any]) -> str | None:
    """Say what is wrong with decoded JSON as metadata; None: nothing."""
    if _is_deeper(metadata, METADATA_DEPTH_MAX):
        return f"more than {METADATA_DEPTH_MAX} levels - at `$.metadata`"
    if len(_encoder.encode(metadata)) > METADATA_BYTES_MAX:
        return f"more than {METADATA_BYTES_MAX} bytes - at `$.metadata`"
    return None


def _is_deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(each, levels - 1) for each in inner)
