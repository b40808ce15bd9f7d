"""nccl-tests' output is read whole, or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acceptance.errors import ParseError
from acceptance.measure.nccl_tests import NcclTests, parse_json, parse_text, ranks_by_host
from selftests.nccl_samples import NODES, SIZES, Result, document, healthy_time_us, json_text, results, table

SHORT = SIZES[20:]
TEXT = table(results(SHORT))
JSON = json_text(results(SHORT))
Change = Callable[[dict[str, Any]], Any]


def judged(run: NcclTests) -> list[tuple[Any, ...]]:
    """What a judgement rests on."""
    return [(row.size_bytes, row.in_place, round(row.busbw_gbyte_s, 2), row.wrong, row.ranks) for row in run.rows]


@pytest.mark.parametrize("parsed", [parse_text(table(results()), "all_reduce"), parse_json(json_text(results()),
                                                                                         "all_reduce")])
def test_a_healthy_run(parsed: NcclTests) -> None:
    assert [row.size_bytes for row in parsed.rows if row.in_place] == SIZES
    assert (len(parsed.rows), parsed.verified, parsed.out_of_bounds) == (2 * len(SIZES), True, 0)
    assert {row.wrong for row in parsed.rows} == {0}
    last = parsed.rows[-2]
    assert (last.size_bytes, last.in_place, last.ranks) == (8 << 30, False, 32)
    assert last.busbw_gbyte_s == pytest.approx(10.5, rel=0.01)
    assert ranks_by_host(parsed)[NODES[7]] == [28, 29, 30, 31]


def test_both_formats_tell_the_same() -> None:
    assert judged(parse_text(TEXT, "all_reduce")) == judged(parse_json(JSON, "all_reduce"))


def test_results_that_nobody_verified_are_not_right() -> None:
    rows = results(SHORT, wrong=None)
    for run in (parse_text(table(rows, checked=0), "all_reduce"), parse_json(json_text(rows, checked=0), "all_reduce")):
        assert not run.verified
        assert {row.wrong for row in run.rows} == {None}


def test_alltoall_is_not_verified_in_place() -> None:
    rows = [Result(row.size, row.times, (0, None)) for row in results(SHORT)]
    run = parse_text(table(rows, collective="alltoall", redop="none"), "alltoall")
    assert {(row.in_place, row.wrong) for row in run.rows} == {(False, 0), (True, None)}


def test_wrong_elements_are_counted_at_their_size() -> None:
    rows = [Result(row.size, row.times, (3_000_000, 0) if row.size == 1 << 30 else (0, 0)) for row in results(SHORT)]
    for run in (parse_text(table(rows), "all_reduce"), parse_json(json_text(rows), "all_reduce")):
        assert [(row.size_bytes, row.wrong) for row in run.rows if row.wrong] == [(1 << 30, 3_000_000)]
        assert run.out_of_bounds == 1


def test_old_columns_tell_no_number_of_wrong_elements() -> None:
    run = parse_text(table(results(SHORT), old=True, concluded=False), "all_reduce")
    assert {row.wrong for row in run.rows} == {None}
    assert run.rows[0].busbw_gbyte_s == pytest.approx(10.4, rel=0.02)


def test_log_lines_and_tags_in_between_do_not_matter() -> None:
    noisy = "\n".join(f"{line}\ngpu-node-01:77:78 [0] NCCL INFO Connected all rings" for line in TEXT.splitlines())
    tagged = "\n".join(f"[1,0]<stdout>:{line}" for line in TEXT.splitlines())
    assert judged(parse_text(noisy, "all_reduce")) == judged(parse_text(TEXT, "all_reduce")) == judged(
        parse_text(tagged, "all_reduce"))


def test_one_rank_has_no_bus() -> None:
    run = parse_text(table(results(SHORT, lambda size: 5 + size / 600_000), ranks=1), "all_reduce")
    assert {row.busbw_gbyte_s for row in run.rows} == {0.0}


def test_times_of_more_than_ten_seconds_are_printed_with_two_digits() -> None:
    run = parse_text(table(results([1 << 33], lambda size: size / 660)), "all_reduce")
    assert run.rows[0].time_us == pytest.approx(1.3e7)


def drop(text: str, part: str) -> str:
    return "\n".join(line for line in text.splitlines() if part not in line)


@pytest.mark.parametrize(("text", "expected"), [
    ("", "printed nothing"), ("bash: all_reduce_perf: command not found", "command not found"),
    (drop(TEXT, "Out of bounds"), "did not come to its end"), (drop(TEXT, "Avg bus"), "did not come to its end"),
    (drop(TEXT, "nThread"), "0 settings"), (drop(TEXT, "size "), "0 tables"), (TEXT + TEXT, "2 settings"),
    (drop(TEXT, "  8589934592 "), "10 sizes, expected 11"), (drop(TEXT, "Rank 17 "), "lists the ranks"),
    (drop(TEXT, "#  Rank"), "lists the ranks"), (TEXT.replace("# Out of bounds values : 0 OK",
                                                                "# Out of bounds values : 2 OK"), "contradicts itself"),
    (TEXT.replace("float     sum", "float     sum", 1).replace("     0\n", "\n", 1), "columns, expected 13"),
    (TEXT[:TEXT.index("# Out")] + "gpu-node-03: Test NCCL failure common.cu:954 'unhandled system error'\n",
     "unhandled system error"),
    (TEXT.replace("all_reduce", "all_reduce").replace("busbw", "bosbw"), "unknown columns"),
])
def test_what_is_damaged_is_refused(text: str, expected: str) -> None:
    with pytest.raises(ParseError, match=expected):
        parse_text(text, "all_reduce")


def test_rows_in_another_order_are_refused() -> None:
    lines = TEXT.splitlines()
    at = [number for number, line in enumerate(lines) if line.startswith("  ")]
    lines[at[3]], lines[at[4]] = lines[at[4]], lines[at[3]]
    with pytest.raises(ParseError, match="not in order"):
        parse_text("\n".join(lines), "all_reduce")


def test_a_size_that_was_not_asked_for_is_refused() -> None:
    with pytest.raises(ParseError, match="first 8388612"):
        parse_text(TEXT.replace("     8388608 ", "     8388612 ", 1), "all_reduce")


def test_a_run_that_memory_cut_short_has_fewer_sizes_but_is_whole() -> None:
    text = table(results(SHORT[:-1])).replace(f"maxBytes {SHORT[-2]}", f"maxBytes {SHORT[-1]}").replace(
        "# Using devices", f"# Using devices\n#\n# Reducing maxBytes to {SHORT[-2] + 5} due to memory limitation")
    assert parse_text(text, "all_reduce").rows[-1].size_bytes == SHORT[-2]


@pytest.mark.parametrize(("change", "expected"), [
    (lambda d: d.pop("end_time"), "did not come to its end"), (lambda d: d.update(version=3), "version 3"),
    (lambda d: d.pop("out_of_bounds"), "lacks"), (lambda d: d["results"].pop(3), "10 sizes, expected 11"),
    (lambda d: d["results"].reverse(), "not in order"), (lambda d: d["results"][2].pop("in_place"), "lacks"),
    (lambda d: d["results"][2].update(in_place=None), "lacks"),
    (lambda d: d["config"]["devices"].pop(4), "lists the ranks"),
    (lambda d: d["results"][1]["in_place"].update(bus_bw="nan"), "expected a number"),
    (lambda d: d["results"][1]["in_place"].update(bus_bw=99.0), "contradicts itself"),
    (lambda d: d["results"][1]["in_place"].update(time=1.0), "contradicts itself"),
    (lambda d: d["results"][1]["in_place"].update(nwrong=4.0), "none in its result line"),
    (lambda d: d["average_bus_bandwidth"].update(bandwidth=3.0), "missing or damaged"),
    (lambda d: d["out_of_bounds"].update(okay="false"), "contradicts itself"),
    (lambda d: d["config"].update(minimum_bytes=True), "expected a count"),
    (lambda d: d["config"].update(step_factor=1), "senseless sizes")])
def test_a_damaged_json_is_refused(change: Change, expected: str) -> None:
    found = document(results(SHORT))
    change(found)
    with pytest.raises(ParseError, match=expected):
        parse_json(json.dumps(found), "all_reduce")


def test_the_misspelt_keys_of_the_first_versions_are_known() -> None:
    found = document(results(SHORT))
    average = found.pop("average_bus_bandwidth")
    found |= {"version": 1, "average_bus_bandwidith": {"bandwidith": average["bandwidth"], "okay": "unchecked"}}
    assert judged(parse_json(json.dumps(found), "all_reduce")) == judged(parse_json(JSON, "all_reduce"))


@given(st.integers(0, len(JSON) - 1))
def test_a_json_cut_anywhere_is_refused(at: int) -> None:
    with pytest.raises(ParseError):
        parse_json(JSON[:at], "all_reduce")


@given(st.integers(0, TEXT.index("# Avg bus bandwidth    : 1") + 26))
def test_a_table_cut_anywhere_is_refused(at: int) -> None:
    with pytest.raises(ParseError):
        parse_text(TEXT[:at], "all_reduce")


@pytest.mark.parametrize(("text", "parse"), [(TEXT, parse_text), (JSON, parse_json)])
@given(data=st.data())
def test_no_damage_changes_what_is_judged_unseen(
        text: str, parse: Callable[[str, str], NcclTests], data: st.DataObject) -> None:
    """Whatever happens to a run of characters, it is refused or nothing that is judged has changed."""
    at = data.draw(st.integers(0, len(text) - 1))
    length = data.draw(st.integers(0, 40))
    damaged = text[:at] + data.draw(st.text(alphabet=" 0123456789.eNA#\nx", max_size=4)) + text[at + length:]
    try:
        run = parse(damaged, "all_reduce")
    except ParseError:
        return
    if len(run.devices) != 32:
        return  # fewer ranks than the contract has: the curve's judgement refuses them
    for (size, *_, busbw, wrong, ranks), (size_2, *_, busbw_2, wrong_2, ranks_2) in zip(
            judged(run), judged(parse(text, "all_reduce")), strict=True):
        assert (size, wrong, ranks) == (size_2, wrong_2, ranks_2)
        assert busbw == pytest.approx(busbw_2, rel=0.03)


def test_a_json_that_nests_without_end_is_refused() -> None:
    with pytest.raises(ParseError):
        parse_json("[" * 200_000, "all_reduce")


@given(st.text(max_size=60))
def test_anything_else_is_refused(text: str) -> None:
    for parse in (parse_text, parse_json):
        with pytest.raises(ParseError):
            parse(text, "all_reduce")


def test_a_broadcast_has_another_bus() -> None:
    rows = results(SHORT, lambda size: healthy_time_us(size, collective="broadcast"))
    run = parse_text(table(rows, collective="broadcast", redop="none"), "broadcast")
    assert run.rows[-1].busbw_gbyte_s == run.rows[-1].algbw_gbyte_s == pytest.approx(10.4, rel=0.02)
    with pytest.raises(ParseError, match="contradicts itself"):
        parse_text(table(rows, collective="broadcast", redop="none"), "all_reduce")
