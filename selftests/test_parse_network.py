"""Parsers of what network tools print: recorded output, broken output, and anything at all."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acceptance.errors import ParseError
from acceptance.parse.iperf3 import parse_iperf3
from acceptance.parse.perftest import parse_perftest_json, parse_perftest_text
from acceptance.parse.ping import parse_ping
from acceptance.parse.tools import PARSERS, parse_ansible, parse_helm, parse_kubectl, parse_version

DATA = Path(__file__).parent / "data"


def recorded(name: str) -> str:
    return (DATA / name).read_text(encoding="utf-8")


# ping


def test_ping_counts_packets_and_round_trip() -> None:
    ping = parse_ping(recorded("ping-good.txt"))
    assert (ping.sent, ping.received, ping.lost, ping.errors) == (3, 3, 0, 0)
    assert ping.average_ms is not None
    assert ping.trouble == ""


def test_ping_that_may_not_fragment_says_why() -> None:
    ping = parse_ping(recorded("ping-too-long.txt"), recorded("ping-too-long.err"))
    assert (ping.sent, ping.received, ping.errors, ping.average_ms) == (3, 0, 3, None)
    assert ping.trouble == "ping: local error: message too long, mtu=1500"


def test_ping_to_a_host_that_is_not_there() -> None:
    text = recorded("ping-silent.txt").replace(" received,", " received, +3 errors,").replace(
        "\n\n", "\nFrom 10.9.0.1 icmp_seq=1 Destination Host Unreachable\n\n", 1)
    ping = parse_ping(text)
    assert (ping.lost, ping.errors) == (3, 3)
    assert ping.trouble.endswith("Destination Host Unreachable")
    silent = parse_ping(recorded("ping-silent.txt"))
    assert (silent.lost, silent.errors, silent.trouble) == (3, 0, "")


def test_ping_with_every_extra_in_its_summary() -> None:
    text = "10 packets transmitted, 9 received, +2 duplicates, +1 corrupted, +1 errors, 10% packet loss, time 1807ms\n"
    ping = parse_ping(text)
    assert (ping.received, ping.duplicates, ping.errors, ping.lost) == (9, 2, 1, 1)


@pytest.mark.parametrize("text", [
    "", "PING 10.100.0.101 (10.100.0.101) 56(84) bytes of data.\n",
    "10 Pakete gesendet, 10 empfangen, 0% Paketverlust, Zeit 1809ms\n",
    "0 packets transmitted, 0 received, 0% packet loss, time 0ms\n",
    "3 packets transmitted, 4 received, 0% packet loss, time 0ms\n",
    "3 packets transmitted, 3 received, 0% packet loss, time 0ms\n" * 2,
])
def test_ping_without_a_sound_summary_is_no_measurement(text: str) -> None:
    with pytest.raises(ParseError):
        parse_ping(text)


def test_ping_says_what_kept_it_from_starting() -> None:
    with pytest.raises(ParseError, match="Network is unreachable"):
        parse_ping("", "ping: connect: Network is unreachable\n")


# iperf3


@pytest.mark.parametrize(("name", "reverse"), [("forward", False), ("reverse", True)])
def test_iperf3_recorded(name: str, reverse: bool) -> None:
    result = parse_iperf3(recorded(f"iperf3-3.12-{name}.json"))
    assert result.version == "3.12"
    assert result.reverse is reverse
    assert result.received_gbps == pytest.approx(0.2, abs=0.001)
    assert result.seconds == pytest.approx(1, abs=0.01)


def other_version(version: str) -> str:
    """The recorded document with the fields that other versions add or lack."""
    document = json.loads(recorded("iperf3-3.12-forward.json"))
    start = document["start"]
    start["version"] = f"iperf {version}"
    if version == "3.9":
        del start["target_bitrate"], start["test_start"]["target_bitrate"], document["end"]["sum_sent"]["sender"]
    else:
        start["test_start"] |= {"bidir": 0, "fqrate": 0, "interval": 1}
        start["timestamp"]["timemillisecs"] = 1_795_520_573_000
    return json.dumps(document)


@pytest.mark.parametrize("version", ["3.9", "3.16", "3.19.1+"])
def test_iperf3_of_other_versions(version: str) -> None:
    result = parse_iperf3(other_version(version))
    assert (result.version, round(result.received_gbps, 2)) == (version, 0.2)


def test_iperf3_gives_its_own_reason() -> None:
    with pytest.raises(ParseError, match="unable to connect to server: Connection refused"):
        parse_iperf3(recorded("iperf3-3.12-refused.json"))


@pytest.mark.parametrize("text", ["", "{}", "[]", "iperf3: error - unknown", '{"start": {}, "end": {}}', "{" * 50])
def test_iperf3_broken(text: str) -> None:
    with pytest.raises(ParseError):
        parse_iperf3(text)


@given(st.integers(min_value=0, max_value=4000))
def test_iperf3_cut_short_is_never_a_number(length: int) -> None:
    text = recorded("iperf3-3.12-forward.json").rstrip()
    with pytest.raises(ParseError):
        parse_iperf3(text[:min(length, len(text) - 1)])


@pytest.mark.parametrize("value", [None, "fast", True, -1.0, float("nan"), float("inf")])
def test_iperf3_with_a_senseless_rate(value: object) -> None:
    document = json.loads(recorded("iperf3-3.12-forward.json"))
    document["end"]["sum_received"]["bits_per_second"] = value
    with pytest.raises(ParseError):
        parse_iperf3(json.dumps(document))


# perftest


def test_perftest_table() -> None:
    result = parse_perftest_text(recorded("ib_write_bw-6.06-text.txt"))
    assert (result.mtu, result.link_type, result.gid_index) == (4096, "Ethernet", 1)
    assert (result.message_bytes, result.iterations, result.average_gbps) == (65536, 1329, 0.35)


def test_perftest_json_that_is_none() -> None:
    result = parse_perftest_json(recorded("ib_write_bw-6.06-out_json.txt"))
    assert (result.mtu, result.link_type, result.iterations, result.average_gbps) == (4096, "Ethernet", 1414, 0.37)


def test_perftest_that_moved_nothing_shows_no_bandwidth() -> None:
    result = parse_perftest_text(recorded("ib_write_bw-6.06-text-no-data-moved.txt"))
    assert (result.iterations, result.average_gbps) == (0, 0.0)
    with pytest.raises(ParseError, match="no data moved"):
        parse_perftest_json(recorded("ib_write_bw-6.06-out_json-no-data-moved.txt"))


def test_perftest_that_moved_data_and_tells_no_rate_is_not_measured() -> None:
    with pytest.raises(ParseError, match="moved 521 messages and tells no rate: it could not calibrate"):
        parse_perftest_text(recorded("ib_write_bw-6.06-text-uncalibrated.txt"))


def test_perftest_in_megabytes_is_refused() -> None:
    text = recorded("ib_write_bw-6.06-text.txt").replace("Gb/sec", "MB/sec")
    with pytest.raises(ParseError, match="--report_gbits"):
        parse_perftest_text(text)


def test_perftest_refused() -> None:
    with pytest.raises(ParseError, match="Unable to init the socket connection"):
        parse_perftest_text(recorded("ib_write_bw-6.06-refused.txt"))


@given(st.integers(min_value=0, max_value=3000))
def test_perftest_cut_short_is_never_a_number(length: int) -> None:
    text, document = recorded("ib_write_bw-6.06-text.txt"), recorded("ib_write_bw-6.06-out_json.txt").rstrip()
    row = text.index("65536")
    with pytest.raises(ParseError):
        parse_perftest_text(text[:min(length, row + len("65536      1329             0.00               "))])
    with pytest.raises(ParseError):
        parse_perftest_json(document[:min(length, document.rindex("MsgRate"))])


# versions of tools


def test_tools_recorded() -> None:
    kubectl = json.dumps({"clientVersion": {"major": "1", "minor": "34", "gitVersion": "v1.34.4"}})
    assert parse_kubectl(kubectl) == parse_version("v1.34.4")
    assert parse_helm("v3.22.0\n") > parse_version("3.12")
    assert parse_ansible("ansible [core 2.19.14]\n  config file = None\n") >= parse_version("2.14")
    assert parse_ansible("ansible 2.9.27\n") < parse_version("2.14")


def test_versions_compare_as_numbers() -> None:
    assert parse_version("v1.9.0") < parse_version("1.28")
    assert parse_version("v1.28.0-rc.1") < parse_version("1.28")
    assert parse_version("2.14.0rc1") < parse_version("2.14")
    assert parse_version("v1.30.1-eks-036c24b") >= parse_version("1.30.1")
    assert parse_version("v3.12.3+g3a31588") >= parse_version("3.12")


@pytest.mark.parametrize("tool", sorted(PARSERS))
@pytest.mark.parametrize("text", ["", "command not found", "{}", "null", "v", "Client: &version.Version{}"])
def test_tools_broken(tool: str, text: str) -> None:
    with pytest.raises(ParseError):
        PARSERS[tool](text)


@given(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99), st.integers(0, 99))
def test_versions_are_ordered_like_their_numbers(a: int, b: int, c: int, d: int) -> None:
    assert (parse_version(f"v{a}.{b}") < parse_version(f"{c}.{d}.0")) == ((a, b) < (c, d))


# anything at all

ANYTHING = st.text(max_size=300) | st.text(alphabet="{}[]:,\"' 0123456789.%BWMtu#bytes\n", max_size=300)


@pytest.mark.parametrize(
    "parse", [parse_ping, parse_iperf3, parse_perftest_text, parse_perftest_json, *PARSERS.values()]
)
@given(text=ANYTHING)
def test_parsers_raise_nothing_but_parse_error(parse: Callable[[str], object], text: str) -> None:
    with contextlib.suppress(ParseError):
        parse(text)
