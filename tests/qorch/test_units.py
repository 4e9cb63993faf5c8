import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qorch.units import CpuSet, Duration, Mac, Name, Size

LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@given(st.integers(0, (1 << 63) - 1))
def test_a_size_reads_back_what_it_writes(number):
    """Every size up to the largest is written with a unit and read back the same."""
    assert Size.from_text(str(Size(number))) == number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("512MiB", 512 << 20),
        ("1.5GiB", 3 << 29),
        (" 10 GiB ", 10 << 30),
        ("4096B", 4096),
        ("2GB", 2 * 10**9),
        ("8191.9990234375PiB", 8191_9990234375 * (1 << 50) // 10**10),
    ],
)
def test_sizes_are_exact(text, number):
    """Binary and decimal units are read to the byte, fractions too."""
    assert Size.from_text(text) == number


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("512", 'write "512MiB"'),
        (512, 'write "512MiB"'),
        (1.5, 'write "1.5MiB"'),
        ("512mb", "the units are B, KiB"),
        ("10Q", "not a size"),
        ("-1GiB", "not a size"),
        ("", "not a size"),
        (True, "True is not a size"),
        ([1], "is not a size"),
        ("1.3B", "not a whole number of bytes"),
        ("8192PiB", "more than any disk"),
        ("9" * 400 + ".5GiB", "more than any disk"),
    ],
)
def test_what_is_no_size_is_refused(text, words):
    """A wrong size says what is wrong, and a missing unit how to write it."""
    with pytest.raises(ValueError, match=words):
        Size.from_text(text)


@given(st.integers(0, 10**12))
def test_a_duration_reads_back_what_it_writes(milliseconds):
    """Every duration in milliseconds survives being stored: equal to the bit."""
    duration = Duration.from_text(f"{milliseconds}ms")
    assert Duration.from_text(str(duration)) == duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("250ms", 0.25), ("1.5min", 90), ("0.07min", 4.2), ("2h", 7200), ("1d", 86400)],
)
def test_durations_have_units(text, seconds):
    """All units of a duration mean what they say."""
    assert Duration.from_text(text) == seconds


@pytest.mark.parametrize("text", ["30", 30, "s", "1 year", "0.5ms", "-1s", "9" * 400 + "s", None])
def test_what_is_no_duration_is_refused(text):
    """A duration without a unit, finer than a millisecond or endless is refused."""
    with pytest.raises(ValueError, match=r"is not a"):
        Duration.from_text(text)


@given(st.integers(0, (1 << 48) - 1).filter(lambda number: not number >> 40 & 1))
def test_a_mac_address_has_one_form(number):
    """Upper case and hyphens are read as what they mean, and the result reads back as itself."""
    mac = number.to_bytes(6).hex(":")
    assert Mac.from_text(mac.upper().replace(":", "-")) == mac
    assert Mac.from_text(mac) == mac


@pytest.mark.parametrize("text", ["52:54:00:12:34", "52:54:00:12:34:5g", "525400123456", 5, None])
def test_what_is_no_mac_address_is_refused(text):
    """Six octets in hexadecimal or nothing."""
    with pytest.raises(ValueError, match="is not a MAC address"):
        Mac.from_text(text)


def test_a_multicast_mac_address_is_refused():
    """A card cannot have a group's address."""
    with pytest.raises(ValueError, match="multicast"):
        Mac.from_text("53:54:00:12:34:56")


@given(st.from_regex(LABEL, fullmatch=True))
def test_a_label_of_a_host_name_is_a_name(text):
    """RFC 1123's labels in lower case are names."""
    assert Name.from_text(text) == text


@given(st.text(max_size=70).filter(lambda text: not LABEL.fullmatch(text)))
def test_anything_else_is_no_name(text):
    """No name needs quoting in a path, a host name or a command line."""
    with pytest.raises(ValueError, match="no valid host name"):
        Name.from_text(text)


@given(st.frozensets(st.integers(0, 8191), min_size=1))
def test_a_set_of_cpus_reads_back_what_it_writes(cpus):
    """The kernel's list form says the same set."""
    assert CpuSet.from_text(str(CpuSet(cpus))) == cpus


def test_a_set_of_cpus_is_written_as_the_kernel_does():
    """Runs are joined, in order."""
    assert str(CpuSet.from_text("8,0-1,3,2")) == "0-3,8"
    assert CpuSet.from_text(3) == {3}


@pytest.mark.parametrize(
    "text", ["", "a", "0-", "3-1", "0,3-1", "-1", -1, True, 1.0, "0-99999999999", "0, 1"]
)
def test_what_is_no_set_of_cpus_is_refused(text):
    """A range that runs backwards, or to a CPU that no host has, is refused at once."""
    with pytest.raises(ValueError, match=repr(text).replace(".", r"\.")):
        CpuSet.from_text(text)
