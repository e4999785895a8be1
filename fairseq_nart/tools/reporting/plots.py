"""The figures of a report, as PNG files; those without records are left out."""

from pathlib import Path

from fairseq_nart.tools.reporting import quality_plots, speed_plots
from fairseq_nart.tools.reporting.comparison import Comparison
from fairseq_nart.tools.reporting.content import Plot

FIGURES = (
    speed_plots.quality_latency,
    speed_plots.latency_length,
    speed_plots.latency_source,
    speed_plots.throughput_batch,
    quality_plots.bleu_lengths,
    quality_plots.bleu_sentence_length,
    quality_plots.predicted_length,
)


def draw(results: Comparison, folder: Path) -> list[Plot]:
    """Draws the figures of each test set that the records allow, except those of parts."""
    folder.mkdir(parents=True, exist_ok=True)
    plots = []
    for data, end in _endings(results):
        plots += [figure(results, data, folder / f"{figure.__name__}{end}") for figure in FIGURES]
        for parameter in (p for test_set, p in results.sweeps if test_set == data):
            file = folder / f"sweep_{parameter}{end}"
            plots.append(quality_plots.sweep(results, data, parameter, file))
    return [plot for plot in plots if plot]


def draw_parts(results: Comparison, folder: Path) -> list[Plot]:
    """Draws the parts of the time, one figure per test set."""
    folder.mkdir(parents=True, exist_ok=True)
    plots = [
        speed_plots.parts(results, data, folder / f"parts{end}") for data, end in _endings(results)
    ]
    return [plot for plot in plots if plot]


def _endings(results: Comparison) -> list[tuple[str, str]]:
    """Each test set, with the ending of its file names."""
    several = len(results.collection.data) > 1
    return [
        (data, f"_{number}.png" if several else ".png")
        for number, data in enumerate(results.collection.data, 1)
    ]
