"""The model card of an exported folder."""

from fairseq_nart.runtime.folder import Manifest

FILE = "README.md"


def card(manifest: Manifest) -> str:
    """Markdown: what the model is, how to use it, and what it was made with."""
    source, target = manifest.languages
    options = [
        f"| `{name}` | {option.value} | {option.help} |"
        for name, option in manifest.decoding.items()
        if not option.idle
    ]
    teacher = "yes: `rescore=True` ranks candidates by it" if manifest.scorer else "none"
    bleu = manifest.about.get("bleu")
    facts = {
        "system": f"{manifest.title} (`{manifest.system}`)",
        "languages": f"{source} to {target}",
        "precision": manifest.precision,
        "vocabulary": f"{manifest.vocab_size:,} symbols",
        "longest source, target": f"{manifest.longest_source}, {manifest.longest_target} tokens",
        "input": "text" if manifest.subwords else "segmented text, tokens divided by spaces",
        "teacher": teacher,
        "BLEU": "not given" if bleu is None else f"{bleu}",
        "made with": ", ".join(f"{x} {y}" for x, y in manifest.about["versions"].items()),
    }
    rows = [f"| {name} | {value} |" for name, value in facts.items()]
    return "\n".join(
        [
            f"# {manifest.title}, {source} to {target}\n",
            "A non-autoregressive translation model, exported by `fairseq-nart export`.\n",
            *("| | |", "|---|---|", *rows, ""),
            "## Use\n",
            "```bash",
            "fairseq-nart translate --model FOLDER < text > translations",
            "fairseq-nart serve FOLDER",
            "```\n",
            "```python",
            "from fairseq_nart import runtime\n",
            'model = runtime.load("FOLDER")',
            'model.translate(["..."])',
            "```\n",
            "This needs NumPy, onnxruntime and sentencepiece, but neither torch nor fairseq.\n",
            "## Decoding options\n",
            *("| option | default here | meaning |", "|---|---|---|", *options),
        ]
    )
