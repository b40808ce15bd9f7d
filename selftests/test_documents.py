"""The workloads' documents: those of a real run are read; what is not whole, or not what was asked for, never is."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acceptance.errors import ParseError
from acceptance.measure import documents
from acceptance.measure.documents import MARK, documents_in

Json = Any
FOLDER = Path(__file__).parent / "data" / "workloads"  # of torch 1.13 over gloo, four ranks
TEXTS = {path.stem: path.read_text().strip() for path in FOLDER.glob("*.json")}
RANKS = 4
COLLECTIVES = ["all_reduce", "all_gather", "reduce_scatter", "broadcast", "alltoall"]
DTYPES = ["bf16", "fp16", "tf32", "fp32", "fp64"]
ON_GPU = {"host-device", "device-host", "device-device", "peer"}

READ: dict[str, Callable[[str], Any]] = {
    "allreduce": lambda text: documents.read_allreduce(
        text, ranks=RANKS, device="cpu", collectives=COLLECTIVES, sizes=[8, 1024, 4096], other_sizes=[4, 512],
        repeats=3, may_lack={"reduce_scatter"}),
    "ddp": lambda text: documents.read_ddp(text, ranks=RANKS, device="cpu", steps=12, warmups=2),
    "gemm": lambda text: documents.read_gemm(
        text, ranks=RANKS, device="cpu", dtypes=DTYPES, size=64, repeats=3, may_lack={"fp16", "tf32"}),
    "memcpy": lambda text: documents.read_memcpy(
        text, ranks=RANKS, device="cpu", size=65536, repeats=3, may_lack=ON_GPU),
    "burnin": lambda text: documents.read_burnin(text, ranks=RANKS, device="cpu", seconds=1),
}
every = pytest.mark.parametrize("name", sorted(READ))


def extent(name: str, document: Any) -> Json:
    """How much a document holds: what must never become less."""
    results = document.results
    if name == "allreduce":
        return sorted([*row.case, [len(each) for each in row.seconds], [len(each) for each in row.arrive_seconds],
                       row.checked] for row in results.rows)
    if name == "ddp":
        steps = [[len(each) for each in getattr(phase, what)] for phase in (results.alone, results.together)
                 for what in ("seconds", "forward_seconds", "loss")]
        return [steps, len(results.replicas.start), len(results.replicas.end)]
    if name == "burnin":
        enough = [sum(work.seconds) > 0.99 and len(sensors.at_s) > 4
                  for work, sensors in zip(results.iterations, results.samples, strict=True)]
        return [enough, len(results.reference), len(results.telemetry), len(results.ecc_before), len(results.ecc_after)]
    return sorted([row.dtype if name == "gemm" else row.kind, [len(each) for each in row.seconds], len(row.wrong)]
                  for row in results.rows)


EXTENT = {name: extent(name, READ[name](TEXTS[name])) for name in READ}


def places(value: Json, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where anything stands."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at] * bool(at) + [place for key, each in inside for place in places(each, (*at, key))]


PLACES = {name: places(json.loads(text)) for name, text in TEXTS.items()}
ODD: list[Json] = [None, True, -1, 0, 0.5, 1e300, "", "x", [], {}, [[]], [1.0], "1", 10 ** 30]


@st.composite
def changed(draw: st.DrawFn, name: str) -> str:
    """A document in which something was taken away, doubled, put in another's place, or replaced."""
    document = json.loads(TEXTS[name])
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.sampled_from(PLACES[name]))
        with contextlib.suppress(LookupError, TypeError):
            holder = document
            for key in place[:-1]:
                holder = holder[key]
            kind, last = draw(st.sampled_from(("remove", "double", "odd", "unknown", "swap"))), place[-1]
            if kind == "remove":
                del holder[last]
            elif kind == "double" and isinstance(holder, list):
                holder.insert(last, copy.deepcopy(holder[last]))
            elif kind == "odd":
                holder[last] = draw(st.sampled_from(ODD))
            elif kind == "unknown" and isinstance(holder, dict):
                holder["unknown"] = 1
            elif kind == "swap" and isinstance(holder, list):
                holder[last], holder[0] = holder[0], holder[last]
    return json.dumps(document)


@every
@given(data=st.data())
def test_a_changed_document_never_holds_less_than_was_asked_for(name: str, data: st.DataObject) -> None:
    with contextlib.suppress(ParseError):
        document = READ[name](data.draw(changed(name)))
        assert len(document.ranks) == RANKS
        assert extent(name, document) == EXTENT[name]


@every
@given(data=st.data())
def test_a_cut_or_garbled_text_never_holds_less_than_was_asked_for(name: str, data: st.DataObject) -> None:
    text = TEXTS[name]
    at, to = sorted((data.draw(st.integers(0, len(text))), data.draw(st.integers(0, len(text)))))
    with contextlib.suppress(ParseError):
        document = READ[name](text[:at] + data.draw(st.text(max_size=6)) + text[min(to, at + 40):])
        assert len(document.ranks) == RANKS
        assert extent(name, document) == EXTENT[name]


def without_rank(value: Json, rank: int) -> Json:
    """Everything that has an entry a rank, without one: as if it had never been."""
    if isinstance(value, dict):
        return {key: without_rank(each, rank) for key, each in value.items()}
    if isinstance(value, list):
        return [without_rank(each, rank) for index, each in enumerate(value) if len(value) != RANKS or index != rank]
    return value


@every
@pytest.mark.parametrize("rank", range(RANKS))
def test_a_rank_that_is_missing_everywhere_is_named(name: str, rank: int) -> None:
    text = json.dumps(without_rank(json.loads(TEXTS[name]), rank))
    with pytest.raises(ParseError, match=rf"^{name}: ranks \[{rank}\] are missing$"):
        READ[name](text)


@every
def test_another_run_is_not_the_one_asked_for(name: str) -> None:
    for key in ("sizes", "other_sizes", "collectives", "dtypes", "repeats", "steps", "size", "bytes", "seconds"):
        document = json.loads(TEXTS[name])
        value = document["arguments"].get(key)
        if value is not None:
            document["arguments"][key] = value[:-1] if isinstance(value, list) else value + 1
            with pytest.raises(ParseError):
                READ[name](json.dumps(document))


def edited(name: str, change: Callable[[Json], object]) -> str:
    document = json.loads(TEXTS[name])
    change(document)
    return json.dumps(document)


def drop_size(document: Json) -> None:
    document["arguments"]["sizes"].remove(1024)
    document["results"]["rows"] = [row for row in document["results"]["rows"] if row["asked_bytes"] != 1024]


def drop_repeat(document: Json) -> None:
    document["arguments"]["repeats"] = 2
    for row in document["results"]["rows"]:
        for each in (*row["seconds"], *row["arrive_seconds"], row["algbw_gbyte_s"], row["busbw_gbyte_s"]):
            each.pop()
        row["checked"] = [checked // 4 * 3 for checked in row["checked"]]
        slowest = [max(times) for times in zip(*row["seconds"], strict=True)]
        row["algbw_gbyte_s"] = [row["bytes"] / each / 1e9 for each in slowest]
        row["busbw_gbyte_s"] = [each * row["factor"] for each in row["algbw_gbyte_s"]]


def drop_collective(document: Json) -> None:
    results = document["results"]
    results["rows"] = [row for row in results["rows"] if row["collective"] != "broadcast"]
    results["left_out"].append(
        {"collective": "broadcast", "placement": "in_place", "asked_bytes": None, "reason": "busy"})


def add_size(document: Json) -> None:
    row = copy.deepcopy(first_row(document))
    row.update(asked_bytes=16, bytes=16, checked=[64] * RANKS)
    for name in ("algbw_gbyte_s", "busbw_gbyte_s"):
        row[name] = [2 * each for each in row[name]]
    document["results"]["rows"].append(row)


def leave_size_out(document: Json) -> None:
    row = document["results"]["rows"].pop(0)
    document["results"]["left_out"].append(
        {key: row[key] for key in ("collective", "placement", "asked_bytes")} | {"reason": "small"})


def shorten(document: Json) -> None:
    first_row(document)["seconds"][1].pop()
    first_row(document)["tflops"][1].pop()


def emptied(columns: Json) -> None:
    for each in columns.values():
        each.clear()


def worked(document: Json) -> Json:
    return [each["worked_seconds"] for each in document["results"]["iterations"]]


def on_gpus(document: Json) -> None:
    document["device"] = document["arguments"]["device"] = "cuda"


def first_row(document: Json) -> Json:
    return document["results"]["rows"][0]


def same_gpu(document: Json) -> None:
    document["ranks"][2]["gpu_uuid"] = document["ranks"][1]["gpu_uuid"]


WRONG: list[tuple[str, Callable[[Json], object], str]] = [
    ("allreduce", drop_size, r"allreduce: asked for sizes \[8, 1024, 4096\], the document has \[8, 4096\]"),
    ("allreduce", drop_repeat, "allreduce: asked for repeats 3, the document has 2"),
    ("allreduce", drop_collective, "allreduce: broadcast in_place was not run: busy"),
    ("allreduce", lambda it: it["results"]["rows"].pop(0), "allreduce: all_reduce in_place 8 B stands in 0 rows"),
    ("allreduce", lambda it: it["results"]["rows"].append(first_row(it)), "all_reduce in_place 8 B stands in 2 rows"),
    ("allreduce", lambda it: first_row(it)["seconds"][2].pop(), "in_place 8 B: seconds: rank 2 has 2 values of 3"),
    ("allreduce", lambda it: first_row(it)["checked"].__setitem__(1, 4), "rank 1 compared 4 elements of 32"),
    ("allreduce", lambda it: first_row(it).update(factor=1.9375), "factor is not what"),
    ("allreduce", lambda it: first_row(it)["busbw_gbyte_s"].__setitem__(0, 12.0), "busbw_gbyte_s is not what"),
    ("allreduce", lambda it: first_row(it)["wrong"].__setitem__(0, -1), r"results.rows.0.wrong.0: .*found -1"),
    ("allreduce", lambda it: first_row(it)["wrong"].__setitem__(0, False), r"results.rows.0.wrong.0: .*found False"),
    ("allreduce", lambda it: first_row(it).update(bytes=16), "in_place 8 B: ran with 16 B"),
    ("allreduce", lambda it: first_row(it).update(operations=1), "in_place 8 B: 1 operations in a repeat"),
    ("allreduce", add_size, "1 rows that nobody asked for"),
    ("allreduce", leave_size_out, "all_reduce in_place 8 B: too small for 4 ranks: False"),
    ("allreduce", lambda it: it["results"]["nccl_logs"].pop(), "nccl_logs: 3 ranks of 4"),
    ("allreduce", lambda it: it.update(backend="nccl"), "backend nccl on cpu"),
    ("allreduce", lambda it: it.update(device="cuda", backend="nccl"), "asked for cpu"),
    ("allreduce", lambda it: it.update(schema=2), "allreduce: schema: "),
    ("allreduce", lambda it: it.update(workload="ddp"), "allreduce: workload: "),
    ("allreduce", lambda it: it.update(note="x"), "allreduce: unknown key note"),
    ("allreduce", lambda it: it["ranks"][3].pop("node"), "allreduce: key ranks.3.node is missing"),
    ("allreduce", lambda it: it["ranks"].reverse(), "each once in order"),
    ("allreduce", same_gpu, "2 ranks say that they have GPU GPU-9c9905b6"),
    ("allreduce", lambda it: it.update(ended_utc="2026-01-01T00:00:00Z"), "before it began"),
    ("ddp", lambda it: it["results"].update(efficiency=0.99), "ddp: efficiency is not what the raw times give"),
    ("ddp", lambda it: it["results"]["replicas"]["end"].pop(), "ddp: replicas.end: 3 ranks of 4"),
    ("ddp", lambda it: it["results"]["together"]["loss"][1].pop(), "together: loss: rank 1 has 13 values of 14"),
    ("ddp", lambda it: it["results"].update(tokens=64), "ddp: together: tokens_per_s|ddp: alone: tokens_per_s"),
    ("ddp", lambda it: it["results"].update(gradient_bytes=2), "gradients of 2 bytes"),
    ("ddp", lambda it: it["arguments"].update(tokens=64), "ddp: 32 tokens a step, asked for 64"),
    ("ddp", lambda it: it["results"].update(expected_share=0.9), "ddp: expected_share is not what"),
    ("ddp", lambda it: it["results"]["model"].update(layers=12), "ddp: model.layers is 12, not 1"),
    ("gemm", shorten, "gemm: bf16: seconds: rank 1 has 2 values of 3"),
    ("gemm", lambda it: it["results"]["rows"].pop(), "gemm: asked for .*, told of"),
    ("gemm", lambda it: first_row(it)["tflops"][3].__setitem__(0, 312.0), "tflops of rank 3 is not what"),
    ("gemm", lambda it: first_row(it)["checked_rows"].__setitem__(0, 1), "bf16: rows not checked"),
    ("memcpy", lambda it: it["results"]["rows"].pop(), "memcpy: copies "),
    ("memcpy", lambda it: first_row(it).update(counted_bytes=262144), "host-host: 2 copies of 65536 B"),
    ("burnin", lambda it: it["results"]["samples"][0].update(power_w=[]), "rank 0: samples: rank 4 has 0 values of"),
    ("burnin", lambda it: it["results"]["ecc_after"][2].clear(), r"rank 2: ECC counters \[\]"),
    ("burnin", lambda it: it["results"]["ecc_before"][2].clear(), "rank 2: ECC counters "),
    ("burnin", lambda it: it["results"]["telemetry"][2].update(reason="none"), "rank 2: samples without NVML"),
    ("burnin", lambda it: it["results"].update(asked_seconds=0.1), "burnin: 0.1 s of fp32"),
    ("burnin", lambda it: worked(it)[1].__setitem__(0, 9.0), "burnin: rank 1: tflops is not what the raw times give"),
    ("burnin", lambda it: worked(it)[1].pop(), "burnin: rank 1: rank 2 has 3 values of 4"),
    ("burnin", on_gpus, "burnin: rank 0: worked_seconds are not seconds, on a GPU"),
    ("burnin", lambda it: emptied(it["results"]["iterations"][1]), "rank 1: worked for 0 s of 1"),
    ("burnin", lambda it: emptied(it["results"]["samples"][1]), "rank 1: 0 samples, at least 5"),
]


@pytest.mark.parametrize(("name", "change", "message"), WRONG)
def test_what_is_wrong_is_said_in_one_line(name: str, change: Callable[[Json], object], message: str) -> None:
    with pytest.raises(ParseError, match=message) as caught:
        READ[name](edited(name, change))
    assert "\n" not in str(caught.value)


def test_what_the_backend_lacks_must_be_allowed() -> None:
    with pytest.raises(ParseError, match="allreduce: reduce_scatter in_place was not run: unsupported by backend gloo"):
        documents.read_allreduce(TEXTS["allreduce"], ranks=RANKS, device="cpu", collectives=COLLECTIVES,
                                 sizes=[8, 1024, 4096], other_sizes=[4, 512], repeats=3)
    with pytest.raises(ParseError, match="gemm: fp16 was not run: unsupported on cpu"):
        documents.read_gemm(TEXTS["gemm"], ranks=RANKS, device="cpu", dtypes=DTYPES, size=64, repeats=3)
    with pytest.raises(ParseError, match="memcpy: host-device was not run: no GPU"):
        documents.read_memcpy(TEXTS["memcpy"], ranks=RANKS, device="cpu", size=65536, repeats=3)


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", '{"schema": 1', "\ud800", "[" * 100_000, "NaN",
                                  '{"schema": 1, "schema": 1}'])
def test_another_text_is_no_document(text: str) -> None:
    for read in READ.values():
        with pytest.raises(ParseError):
            read(text)


@every
def test_a_key_that_stands_twice_is_refused(name: str) -> None:
    with pytest.raises(ParseError, match="a key twice among"):
        READ[name](TEXTS[name].replace('"schema":1,', '"schema":1,"schema":1,'))


def test_a_document_without_its_end_is_no_document() -> None:
    with pytest.raises(ParseError, match="a workload's document has no end"):
        documents_in("\n".join(framed(TEXTS["gemm"])[:-1]))


def test_a_number_that_is_none_is_refused() -> None:
    text = TEXTS["ddp"].replace('"efficiency":', '"efficiency":NaN,"x":')
    with pytest.raises(ParseError):
        READ["ddp"](text)
    changed = edited("ddp", lambda it: it["results"]["alone"]["loss"][0].__setitem__(0, None))
    assert READ["ddp"](changed).results.alone.loss[0][0] is None, "a loss that was no number is told, not refused"


def test_the_worked_figures_of_nccl_tests() -> None:
    from acceptance.measure.documents.collectives import factor
    assert factor("all_reduce", 32) == 1.9375
    assert factor("alltoall", 32) == factor("all_gather", 32) == factor("reduce_scatter", 32) == 31 / 32
    assert factor("broadcast", 32) == 1
    assert math.isclose(12.25 / factor("all_reduce", 32), 6.32, rel_tol=1e-3)


def framed(text: str, prefix: str = "") -> list[str]:
    """As workloads print it."""
    chunks = [f"|{text[start:start + 3000]}" for start in range(0, len(text), 3000)]
    begin = f"begin {len(text)} {hashlib.sha256(text.encode()).hexdigest()}"
    return [f"{prefix}{MARK}{line}" for line in (begin, *chunks, "end")]


def test_documents_are_found_among_other_lines() -> None:
    lines = ["WARNING: torch", *framed(TEXTS["gemm"], "[default0]:"), "", *framed(TEXTS["ddp"])]
    lines[3:3] = ["[default1]: another rank", "NCCL INFO about ACCEPTANCE-DOCUMENT end"]
    assert documents_in("\n".join(lines)) == {"gemm": TEXTS["gemm"], "ddp": TEXTS["ddp"]}
    assert documents_in("") == {}


def test_two_documents_of_one_workload_are_refused() -> None:
    with pytest.raises(ParseError, match="gemm wrote two documents"):
        documents_in("\n".join(framed(TEXTS["gemm"]) * 2))


@given(st.data())
def test_a_damaged_log_gives_the_document_or_none(data: st.DataObject) -> None:
    lines = framed(TEXTS["allreduce"], "[default0]:")
    for _ in range(data.draw(st.integers(1, 2))):
        at = data.draw(st.integers(0, len(lines) - 1))
        kind = data.draw(st.sampled_from(("drop", "swap", "double", "letter")))
        if kind == "drop":
            lines[at:at + 1] = []
        elif kind == "swap":
            lines[at], lines[0] = lines[0], lines[at]
        elif kind == "double":
            lines.insert(at, lines[at])
        else:
            place = data.draw(st.integers(0, len(lines[at])))
            lines[at] = lines[at][:place] + data.draw(st.characters(codec="utf-8")) + lines[at][place + 1:]
        if not lines:
            break
    with contextlib.suppress(ParseError):
        assert documents_in("\n".join(lines)) in ({}, {"allreduce": TEXTS["allreduce"]})
