"""The tables of a report, out of the records and the scores of their translations."""

import statistics
from collections.abc import Callable

from fairseq_nart.tools.benchmark.records import OTHER, PARTS
from fairseq_nart.tools.reporting.comparison import PARAMETERS, Comparison
from fairseq_nart.tools.reporting.groups import by_size
from fairseq_nart.tools.reporting.markup import Table, ratio, significant
from fairseq_nart.tools.reporting.quality import Quality, other_tokenisation
from fairseq_nart.tools.reporting.speed import SCOPES, Times, gigaflop_per_second, measured


def main_table(of: Comparison) -> Table:
    """In the form of the paper's Table 2: BLEU with gaps, latency, speed-up."""
    timed = measured(of.collection)
    header = ["system", *(f"BLEU, {data}" for data in of.assessments)]
    for data, scope in timed:
        where = SCOPES[scope] if len(of.collection.data) == 1 else f"{data}, {SCOPES[scope]}"
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


def quality_table(of: Comparison, data: str) -> Table:
    """All that is known of the translations of one test set."""
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
    found = [(system, of.quality(system, data)) for system in of.collection.systems]
    rows = [
        [system, *(show(quality) for show in columns.values())]
        for system, quality in found
        if quality
    ]
    header = ["system", *columns]
    if any(of.iterations(system, data) for system in of.collection.systems):
        header.append("iterations")
        for row in rows:
            row.append(significant(of.iterations(row[0], data)))
    return Table(f"Quality in detail: {data}", header, rows)


def speed_table(of: Comparison, data: str, scope: str) -> Table:
    """Latencies, and under which circumstances they were measured."""
    header = ["system", "mean, ms", "median", "95 %", "99 %", "speed-up", "sentences"]
    header += ["engine", "threads", "precision", "peak memory, GiB"]
    rows = []
    for system, about in of.collection.systems.items():
        if latency := of.collection.latencies.get((system, data, scope)):
            times, memory = Times.of(latency), of.collection.memories.get((system, data))
            row = [system, *map(significant, (times.mean, times.median, times.p95, times.p99))]
            row += [ratio(of.speed_up(system, data, scope)), str(len(latency.seconds))]
            row += [about.engine, str(latency.threads), latency.precision]
            rows.append([*row, f"{memory.peak_bytes / 2**30:.2f}" if memory else ""])
    return Table(f"Latency in detail: {data}, {SCOPES[scope]}", header, rows)


def operations_table(of: Comparison, data: str, scope: str) -> Table:
    """What a sentence needs, and how fast that runs."""
    rows, found = [], of.collection
    for system in found.systems:
        counted = found.operations.get((system, data))
        latency = found.latencies.get((system, data, scope))
        if counted and latency:
            fast = significant(gigaflop_per_second(latency, counted))
            rows.append([system, significant(counted.flop / 1e9), fast])
    header = ["system", "GFLOP", "GFLOP/s"]
    return Table(f"Operations: {data}, {SCOPES[scope]}", header, rows)


def length_table(of: Comparison, data: str, scope: str) -> Table:
    """Mean latencies by length: of groups of sentences, the same for all that took turns."""
    title = f"Latency by length, ms: {data}, {SCOPES[scope]}"
    base = of.collection.latencies.get((of.baseline, data, scope))
    if base is None:
        return Table(title, [], [])
    groups = by_size(base.target_tokens)
    rows = []
    for system in of.collection.systems:
        latency = of.collection.latencies.get((system, data, scope))
        if latency and latency.sentences == base.sentences:
            means = (statistics.fmean(latency.seconds[i] for i in group) for _, group in groups)
            rows.append([system, *(significant(1000 * mean) for mean in means)])
    spans = (f"{low}" if low == high else f"{low} to {high}" for (low, high), _ in groups)
    return Table(title, ["system", *spans], rows, f"Columns: target tokens of {of.baseline}.")


def throughput_table(of: Comparison, data: str) -> Table:
    """Sentences per second by batch size."""
    found = of.collection.throughputs
    batches = sorted({batch for _, of_data, batch in found if of_data == data})
    rows = []
    for system in of.collection.systems:
        cells = [found.get((system, data, batch)) for batch in batches]
        if there := [cell for cell in cells if cell]:
            threads = " / ".join(dict.fromkeys(str(cell.threads) for cell in there))
            rates = [significant(cell.sentences_per_second if cell else None) for cell in cells]
            most = max(cell.tokens_per_second for cell in there)
            rows.append([system, threads, *rates, f"{most:,.0f}"])
    header = ["system", "threads", *(f"batch {batch}" for batch in batches)]
    return Table(f"Sentences per second: {data}", [*header, "most tokens per second"], rows)


def sweep_tables(of: Comparison, data: str) -> list[Table]:
    """BLEU by the values of a parameter, a table for each."""
    tables = []
    for (of_data, parameter), swept in of.sweeps.items():
        if of_data == data:
            values = sorted({value for scores in swept.values() for value in scores})
            rows = [
                [system, *(f"{scores[value]:.2f}" if value in scores else "" for value in values)]
                for system, scores in swept.items()
            ]
            title = f"BLEU against {PARAMETERS[parameter]}: {data}"
            tables.append(Table(title, ["system", *map(str, values)], rows))
    return tables


def parts_table(of: Comparison, data: str) -> Table:
    """Milliseconds per sentence of each part of the work."""
    found = {name: of.collection.parts.get((name, data)) for name in of.collection.systems}
    there = {name for parts in found.values() if parts for name in parts.seconds}
    names = [*(name for name in PARTS if name in there), *sorted(there - set(PARTS))]
    rows = []
    for system, parts in found.items():
        if parts:
            spent = {**parts.seconds, OTHER: parts.other, "total": parts.total}
            cells = [spent.get(name) for name in (*names, OTHER, "total")]
            rows.append([system, *("" if x is None else f"{1000 * x:.2f}" for x in cells)])
    header = ["system", *names, OTHER, "total"]
    return Table(f"Where the time of a sentence goes, ms: {data}", header, rows)


def parts_tables(of: Comparison) -> list[Table]:
    """One for each test set on which parts were measured."""
    return [table for data in of.collection.data if (table := parts_table(of, data)).rows]


def details(of: Comparison) -> list[Table]:
    """The tables beside the main one that have something to say."""
    tables = [quality_table(of, data) for data in of.collection.data]
    tables += [table for data in of.collection.data for table in sweep_tables(of, data)]
    for table in (speed_table, operations_table, length_table):
        tables += [table(of, data, scope) for data, scope in measured(of.collection)]
    tables += [throughput_table(of, data) for data in of.collection.data]
    return [table for table in tables if table.rows]
