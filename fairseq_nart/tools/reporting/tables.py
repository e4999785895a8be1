"""The tables of a report, made from the records and the scores of the translations."""

import statistics
from collections.abc import Callable

from fairseq_nart.tools.benchmark.records import OTHER, PARTS
from fairseq_nart.tools.reporting.comparison import PARAMETERS, Comparison
from fairseq_nart.tools.reporting.groups import by_size
from fairseq_nart.tools.reporting.markup import Table, ratio, significant
from fairseq_nart.tools.reporting.quality import Quality, other_tokenisation
from fairseq_nart.tools.reporting.speed import SCOPES, Times, floor, gigaflop_per_second, measured


def main_table(results: Comparison) -> Table:
    """In the form of the paper's Table 2: BLEU with gaps, latency, speed-up."""
    timed = measured(results.collection)
    header = ["system", *(f"BLEU, {data}" for data in results.assessments)]
    for data, scope in timed:
        where = SCOPES[scope] if len(results.collection.data) == 1 else f"{data}, {SCOPES[scope]}"
        header += [f"latency, ms ({where})", "speed-up"]
    rows = []
    for system in results.collection.systems:
        row = [system, *(_bleu(results, system, data) for data in results.assessments)]
        for data, scope in timed:
            times = results.times(system, data, scope)
            row += [
                significant(times.mean if times else None),
                ratio(results.speed_up(system, data, scope)),
            ]
        rows.append([*row, results.circumstance(system, "threads")])
    return Table("Quality and speed", [*header, "threads"], rows)


def _bleu(results: Comparison, system: str, data: str) -> str:
    quality, gap = results.quality(system, data), results.gap(system, data)
    if quality is None:
        return ""
    return f"{quality.bleu:.2f}" + ("" if gap is None else f" ({gap:.2f})")


def quality_table(results: Comparison, data: str) -> Table:
    """All scores of the translations of one test set."""
    columns: dict[str, Callable[[Quality], str]] = {
        f"BLEU ({results.tokenize})": lambda q: f"{q.bleu:.2f} ± {q.confidence:.2f}",
        "p": lambda q: "" if q.p_value is None else f"{q.p_value:.3f}",
        f"BLEU ({other_tokenisation(results.tokenize)})": lambda q: f"{q.other_bleu:.2f}",
        "chrF": lambda q: f"{q.chrf:.2f}",
        "length ratio": lambda q: f"{q.length_ratio:.3f}",
        "brevity penalty": lambda q: f"{q.brevity_penalty:.3f}",
        "repeated tokens, %": lambda q: f"{100 * q.repetition:.2f}",
        "empty outputs": lambda q: str(q.empty),
    }
    qualities = [(system, results.quality(system, data)) for system in results.collection.systems]
    rows = [
        [system, *(show(quality) for show in columns.values())]
        for system, quality in qualities
        if quality
    ]
    header = ["system", *columns]
    if any(results.iterations(system, data) for system in results.collection.systems):
        header.append("iterations")
        for row in rows:
            row.append(significant(results.iterations(row[0], data)))
    return Table(f"Quality in detail: {data}", header, rows)


def speed_table(results: Comparison, data: str, scope: str) -> Table:
    """Latencies, with the circumstances of their measurement."""
    header = ["system", "mean, ms", "median", "95 %", "99 %", "speed-up", "sentences"]
    header += ["engine", "threads", "precision", "peak memory, GiB"]
    rows = []
    for system, about in results.collection.systems.items():
        if latency := results.collection.latencies.get((system, data, scope)):
            times, memory = Times.of(latency), results.collection.memories.get((system, data))
            row = [system, *map(significant, (times.mean, times.median, times.p95, times.p99))]
            row += [ratio(results.speed_up(system, data, scope)), str(len(latency.seconds))]
            row += [about.engine, str(latency.threads), latency.precision]
            rows.append([*row, f"{memory.peak_bytes / 2**30:.2f}" if memory else ""])
    return Table(f"Latency in detail: {data}, {SCOPES[scope]}", header, rows)


def operations_table(results: Comparison, data: str, scope: str) -> Table:
    """Operations per sentence and per second, and the least time that they take."""
    rows, collection = [], results.collection
    for system in collection.systems:
        counted = collection.operations.get((system, data))
        latency = collection.latencies.get((system, data, scope))
        if counted and latency:
            rate = gigaflop_per_second(latency, counted)
            gigaflop = counted.flop / 1e9
            mean = None if rate is None else 1000 * gigaflop / rate  # of the counted sentences
            cells = (gigaflop, rate, mean, floor(collection, counted))
            rows.append([system, *map(significant, cells)])
    header = ["system", "GFLOP", "GFLOP/s", "latency, ms", "floor, ms"]
    return Table(f"Operations: {data}, {SCOPES[scope]}", header, rows)


def length_table(results: Comparison, data: str, scope: str) -> Table:
    """Mean latencies of groups of sentences by length, for systems timed on the same sentences."""
    title = f"Latency by length, ms: {data}, {SCOPES[scope]}"
    base = results.collection.latencies.get((results.baseline, data, scope))
    if base is None:
        return Table(title, [], [])
    groups = by_size(base.target_tokens)
    rows = []
    for system in results.collection.systems:
        latency = results.collection.latencies.get((system, data, scope))
        if latency and latency.sentences == base.sentences:
            means = (statistics.fmean(latency.seconds[i] for i in group) for _, group in groups)
            rows.append([system, *(significant(1000 * mean) for mean in means)])
    spans = (f"{low}" if low == high else f"{low} to {high}" for (low, high), _ in groups)
    return Table(title, ["system", *spans], rows, f"Columns: target tokens of {results.baseline}.")


def source_length_table(results: Comparison, data: str) -> Table:
    """Mean latencies by the length of the source."""
    measured_lengths = results.collection.source_lengths
    lengths = sorted({tokens for _, test_set, tokens in measured_lengths if test_set == data})
    rows = []
    for system in results.collection.systems:
        records = [measured_lengths.get((system, data, tokens)) for tokens in lengths]
        if any(records):
            means = (1000 * statistics.fmean(x.seconds) if x else None for x in records)
            rows.append([system, *map(significant, means)])
    title = f"Latency by source tokens, ms: {data}, {SCOPES['text']}"
    return Table(title, ["system", *map(str, lengths)], rows)


def throughput_table(results: Comparison, data: str) -> Table:
    """Sentences per second by batch size."""
    throughputs = results.collection.throughputs
    batches = sorted({batch for _, test_set, batch in throughputs if test_set == data})
    rows = []
    for system in results.collection.systems:
        cells = [throughputs.get((system, data, batch)) for batch in batches]
        if measured_cells := [cell for cell in cells if cell]:
            threads = " / ".join(dict.fromkeys(str(cell.threads) for cell in measured_cells))
            rates = [significant(cell.sentences_per_second if cell else None) for cell in cells]
            most = max(cell.tokens_per_second for cell in measured_cells)
            rows.append([system, threads, *rates, f"{most:,.0f}"])
    header = ["system", "threads", *(f"batch {batch}" for batch in batches)]
    return Table(f"Sentences per second: {data}", [*header, "most tokens per second"], rows)


def sweep_tables(results: Comparison, data: str) -> list[Table]:
    """BLEU by the values of a parameter; one table per parameter."""
    tables = []
    for (test_set, parameter), swept in results.sweeps.items():
        if test_set == data:
            values = sorted({value for scores in swept.values() for value in scores})
            rows = [
                [system, *(f"{scores[value]:.2f}" if value in scores else "" for value in values)]
                for system, scores in swept.items()
            ]
            title = f"BLEU against {PARAMETERS[parameter]}: {data}"
            tables.append(Table(title, ["system", *map(str, values)], rows))
    return tables


def parts_table(results: Comparison, data: str) -> Table:
    """Milliseconds per sentence by part."""
    measurements = {
        name: results.collection.parts.get((name, data)) for name in results.collection.systems
    }
    known = {name for parts in measurements.values() if parts for name in parts.seconds}
    names = [*(name for name in PARTS if name in known), *sorted(known - set(PARTS))]
    rows = []
    for system, parts in measurements.items():
        if parts:
            spent = {**parts.seconds, OTHER: parts.other, "total": parts.total}
            cells = [spent.get(name) for name in (*names, OTHER, "total")]
            rows.append([system, *("" if x is None else f"{1000 * x:.2f}" for x in cells)])
    header = ["system", *names, OTHER, "total"]
    return Table(f"Where the time of a sentence goes, ms: {data}", header, rows)


def parts_tables(results: Comparison) -> list[Table]:
    """One table per test set on which parts were measured."""
    return [table for data in results.collection.data if (table := parts_table(results, data)).rows]


def details(results: Comparison) -> list[Table]:
    """All other tables that have rows."""
    tables = [quality_table(results, data) for data in results.collection.data]
    tables += [table for data in results.collection.data for table in sweep_tables(results, data)]
    for table in (speed_table, operations_table, length_table):
        tables += [table(results, data, scope) for data, scope in measured(results.collection)]
    tables += [source_length_table(results, data) for data in results.collection.data]
    tables += [throughput_table(results, data) for data in results.collection.data]
    return [table for table in tables if table.rows]
