"""The tables of a report, out of the records and the scores of their translations."""

from collections.abc import Callable

from fairseq_nart.tools._comparison import Comparison
from fairseq_nart.tools._markup import Table, ratio, significant
from fairseq_nart.tools._quality import Quality, other_tokenisation
from fairseq_nart.tools._records import OTHER, PARTS
from fairseq_nart.tools._speed import SCOPES, Times, measured


def main_table(of: Comparison) -> Table:
    """In the form of the paper's Table 2: BLEU with gaps, latency, speed-up."""
    timed = measured(of.collection)
    header = ["system", *(f"BLEU, {data}" for data in of.assessments)]
    for data, scope in timed:
        where = f"{SCOPES[scope]}" if len(of.collection.data) == 1 else f"{data}, {SCOPES[scope]}"
        header += [f"latency, ms ({where})", "speed-up"]
    rows = []
    for system in of.collection.systems:
        row = [system, *(_bleu(of, system, data) for data in of.assessments)]
        for data, scope in timed:
            times = of.times(system, data, scope)
            row += [
                significant(times.mean if times else None),
                ratio(of.speed_up(system, data, scope)),
            ]
        rows.append([*row, of.circumstance(system, "threads")])
    return Table("Quality and speed", [*header, "threads"], rows)


def _bleu(of: Comparison, system: str, data: str) -> str:
    quality, gap = of.quality(system, data), of.gap(system, data)
    if quality is None:
        return ""
    return f"{quality.bleu:.2f}" + ("" if gap is None else f" ({gap:.2f})")


def quality_table(of: Comparison) -> Table:
    """All that is known of the translations."""
    columns: dict[str, Callable[[Quality], str]] = {
        f"BLEU ({of.tokenize})": lambda q: f"{q.bleu:.2f} ± {q.confidence:.2f}",
        "p": lambda q: "" if q.p_value is None else f"{q.p_value:.3f}",
        f"BLEU ({other_tokenisation(of.tokenize)})": lambda q: f"{q.other_bleu:.2f}",
        "chrF": lambda q: f"{q.chrf:.2f}",
        "length ratio": lambda q: f"{q.length_ratio:.3f}",
        "brevity penalty": lambda q: f"{q.brevity_penalty:.3f}",
        "repeated tokens, %": lambda q: f"{100 * q.repetition:.2f}",
        "empty outputs": lambda q: str(q.empty),
    }
    rows = [
        [system, *_data_cell(of, data), *(show(quality) for show in columns.values())]
        for data, assessment in of.assessments.items()
        for system, quality in assessment.systems.items()
    ]
    return Table("Quality in detail", ["system", *_data_header(of), *columns], rows)


def speed_table(of: Comparison) -> Table:
    """All latencies, and under which circumstances they were measured."""
    scopes = list(dict.fromkeys(SCOPES[scope] for _, scope in measured(of.collection)))
    header = ["system", *_data_header(of), *(["measured"] if len(scopes) > 1 else [])]
    header += ["mean, ms", "median", "95 %", "99 %", "speed-up", "sentences"]
    header += ["engine", "threads", "precision", "peak memory, GiB"]
    rows = []
    for data, scope in measured(of.collection):
        for system, about in of.collection.systems.items():
            latency = of.collection.latencies.get((system, data, scope))
            if not latency:
                continue
            times, memory = Times.of(latency), of.collection.memories.get((system, data))
            row = [system, *_data_cell(of, data), *([SCOPES[scope]] if len(scopes) > 1 else [])]
            row += map(significant, (times.mean, times.median, times.p95, times.p99))
            row += [ratio(of.speed_up(system, data, scope)), str(len(latency.seconds))]
            row += [about.engine, str(latency.threads), latency.precision]
            rows.append([*row, f"{memory.peak_bytes / 2**30:.2f}" if memory else ""])
    what = f" ({scopes[0]})" if len(scopes) == 1 else ""
    return Table(f"Latency in detail{what}", header, rows)


def throughput_table(of: Comparison) -> Table:
    """Sentences per second by batch size."""
    throughputs = of.collection.throughputs
    batches = sorted({batch for _, _, batch in throughputs})
    rows = []
    for data in of.collection.data:
        for system in of.collection.systems:
            cells = [throughputs.get((system, data, batch)) for batch in batches]
            there = [cell for cell in cells if cell]
            if there:
                threads = dict.fromkeys(str(cell.threads) for cell in there)
                row = [system, *_data_cell(of, data), " / ".join(threads)]
                row += [significant(x.sentences_per_second if x else None) for x in cells]
                rows.append([*row, f"{max(x.tokens_per_second for x in there):,.0f}"])
    header = ["system", *_data_header(of), "threads", *(f"batch {batch}" for batch in batches)]
    return Table("Sentences per second", [*header, "most tokens per second"], rows)


def parts_table(of: Comparison) -> Table:
    """Milliseconds per sentence of each part of the work."""
    found = of.collection.parts
    there = {name for parts in found.values() for name in parts.seconds}
    names = [*(name for name in PARTS if name in there), *sorted(there - set(PARTS))]
    rows = []
    for data in of.collection.data:
        for system in of.collection.systems:
            if parts := found.get((system, data)):
                spent = {**parts.seconds, OTHER: parts.other, "total": parts.total}
                cells = [_milliseconds(spent.get(name)) for name in (*names, OTHER, "total")]
                rows.append([system, *_data_cell(of, data), *cells])
    header = ["system", *_data_header(of), *names, OTHER, "total"]
    return Table("Where the time of a sentence goes, ms", header, rows)


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{1000 * seconds:.2f}"


def _data_header(of: Comparison) -> list[str]:
    """A column that names the test set, where there are several."""
    return ["data"] if len(of.collection.data) > 1 else []


def _data_cell(of: Comparison, data: str) -> list[str]:
    return [data] if len(of.collection.data) > 1 else []


def details(of: Comparison) -> list[Table]:
    """The tables beside the main one that have something to say."""
    tables = (quality_table(of), speed_table(of), throughput_table(of))
    return [table for table in tables if table.rows]
