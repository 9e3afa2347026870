"""Where on the Earth something is, and how far that is from elsewhere."""

from math import asin, cos, isfinite, radians, sin, sqrt

from attrs import frozen

EARTH_RADIUS_KM = 6371.0088
"""Mean radius. The Earth as a ball is wrong by half a percent at most."""


@frozen
class Position:
    """Degrees, north and east positive. ``position`` makes one of values that may be bad."""

    latitude: float
    longitude: float


def position(latitude: object, longitude: object) -> Position | None:
    """Return the position that two values name; None if they name none on this planet."""
    north, east = _degrees(latitude, 90.0), _degrees(longitude, 180.0)
    return None if north is None or east is None else Position(north, east)


def distance_km(one: Position, other: Position) -> float:
    """Return the great-circle distance (haversine formula, exact for near points too)."""
    north, other_north = radians(one.latitude), radians(other.latitude)
    across = sin((other_north - north) / 2) ** 2
    along = sin(radians(other.longitude - one.longitude) / 2) ** 2
    chord = across + cos(north) * cos(other_north) * along
    return 2 * EARTH_RADIUS_KM * asin(sqrt(min(1.0, chord)))


def _degrees(value: object, limit: float) -> float | None:
    if not isinstance(value, float | int | str) or isinstance(value, bool):
        return None
    try:
        degrees = float(value)
    except (ValueError, OverflowError):
        return None
    return degrees if isfinite(degrees) and -limit <= degrees <= limit else None
