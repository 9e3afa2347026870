"""NTP time against the worked example of RFC 3550 §6.4.1, and serial arithmetic at the wraps."""

import pytest

from edge.rtp.clock import compact_ntp, ntp_from_unix, unix_from_ntp
from edge.rtp.serial import sequence_difference, timestamp_difference

# RFC 3550 figure 2: 10 Nov 1995 11:33:25.125 UTC is 3024992005.125 s, b44db705:20000000.
FIGURE_2_UNIX = 816_003_205.125
FIGURE_2_NTP = 0xB44D_B705_2000_0000


def test_rfc_3550_figure_2() -> None:
    assert ntp_from_unix(FIGURE_2_UNIX) == FIGURE_2_NTP
    assert unix_from_ntp(FIGURE_2_NTP) == FIGURE_2_UNIX
    assert compact_ntp(FIGURE_2_NTP) == 0xB705_2000


def test_unix_epoch() -> None:
    assert ntp_from_unix(0.0) == 2_208_988_800 << 32
    assert unix_from_ntp(2_208_988_800 << 32) == 0.0


def test_era_that_begins_in_2036() -> None:
    # RFC 5905 figure 4: era 1 begins on 7 Feb 2036 at 06:28:16.
    assert ntp_from_unix(2_085_978_496.0) == 0
    assert unix_from_ntp(0) == 2_085_978_496.0
    assert ntp_from_unix(2_085_978_495.5) == 0xFFFF_FFFF_8000_0000


@pytest.mark.parametrize(
    ("later", "earlier", "difference"),
    [(5, 3, 2), (3, 5, -2), (1, 65535, 2), (65535, 1, -2), (0x8000, 0, -0x8000), (0, 0, 0)],
)
def test_sequence_difference(later: int, earlier: int, difference: int) -> None:
    assert sequence_difference(later, earlier) == difference


@pytest.mark.parametrize(
    ("later", "earlier", "difference"),
    [(960, 0, 960), (0, 960, -960), (480, 2**32 - 480, 960), (2**31 - 1, 0, 2**31 - 1)],
)
def test_timestamp_difference(later: int, earlier: int, difference: int) -> None:
    assert timestamp_difference(later, earlier) == difference
