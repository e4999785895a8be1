"""The figures of a report, as PNG files; one for which there are no records is left out."""

from pathlib import Path

from fairseq_nart.tools.reporting import quality_plots, speed_plots
from fairseq_nart.tools.reporting.comparison import Comparison
from fairseq_nart.tools.reporting.content import Plot

FIGURES = (
    speed_plots.quality_latency,
    speed_plots.latency_length,
    speed_plots.throughput_batch,
    quality_plots.bleu_lengths,
    quality_plots.bleu_sentence_length,
    quality_plots.predicted_length,
)


def draw(of: Comparison, folder: Path) -> list[Plot]:
    """All figures that the records allow, of each test set on its own, but the parts of time."""
    folder.mkdir(parents=True, exist_ok=True)
    plots = []
    for data, end in _endings(of):
        plots += [figure(of, data, folder / f"{figure.__name__}{end}") for figure in FIGURES]
        for parameter in (p for of_data, p in of.sweeps if of_data == data):
            file = folder / f"sweep_{parameter}{end}"
            plots.append(quality_plots.sweep(of, data, parameter, file))
    return [plot for plot in plots if plot]


def draw_parts(of: Comparison, folder: Path) -> list[Plot]:
    """Where the time goes, of each test set on its own."""
    folder.mkdir(parents=True, exist_ok=True)
    plots = [speed_plots.parts(of, data, folder / f"parts{end}") for data, end in _endings(of)]
    return [plot for plot in plots if plot]


def _endings(of: Comparison) -> list[tuple[str, str]]:
    """Each test set and how the names of its files end."""
    several = len(of.collection.data) > 1
    return [
        (data, f"_{number}.png" if several else ".png")
        for number, data in enumerate(of.collection.data, 1)
    ]
