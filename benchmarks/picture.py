"""The picture of `make bench` for the README: the CPU time of each load as bars, in light and in dark."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import matplotlib

matplotlib.use("svg")

import matplotlib.pyplot as plt

FOLDER = Path(__file__).parents[1] / "docs"
NAMES = {"chat-agent": "chat-agent", "naive": "a tutorial's"}
THEMES = {
    "light": {"text": "#1f2328", "line": "#59636e", "chat-agent": "#0969da", "naive": "#b7bdc4"},
    "dark": {"text": "#f0f6fc", "line": "#9198a1", "chat-agent": "#4493f8", "naive": "#5d646c"},
}


def main() -> None:
    """Draw what `benchmarks.speed --json FILE` has measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("measured", type=Path)
    ratios: Mapping[str, Mapping[str, float]] = json.loads(parser.parse_args().measured.read_text())
    for theme, colours in THEMES.items():
        for kind in ("svg", "png"):
            draw(ratios, colours, FOLDER / f"speed-{theme}.{kind}")


def draw(ratios: Mapping[str, Mapping[str, float]], colours: Mapping[str, str], path: Path) -> None:
    """Draw the bars of all loads into one file; large letters, since a phone shows it at a third of its size."""
    plt.rcParams.update({"font.size": 15, "svg.hashsalt": "speed", "svg.fonttype": "path"})
    figure, axes = plt.subplots(len(ratios), 1, figsize=(9, 6.5), layout="constrained")
    for axis, (load, of_load) in zip(axes, ratios.items(), strict=True):
        servers = [server for server in ("naive", "chat-agent") if server in of_load]
        bars = axis.barh([NAMES[server] for server in servers], [of_load[server] for server in servers])
        for bar, server in zip(bars, servers, strict=True):
            bar.set_color(colours[server])
        axis.bar_label(bars, [f"{of_load[server]:.3g}×" for server in servers], padding=6, color=colours["text"])
        axis.axvline(1, color=colours["line"], linestyle=":", linewidth=2)
        axis.set_title(load, loc="left", color=colours["text"], fontsize=15, x=-0.16)
        axis.set_xlim(0, 1.15 * max(of_load[server] for server in servers))
        axis.tick_params(colors=colours["text"], length=0)
        axis.set_xticks([])
        axis.spines[:].set_visible(False)
    figure.supxlabel("CPU time of the server; dotted: a bare proxy = 1×", color=colours["text"], fontsize=15)
    figure.savefig(path, transparent=True, dpi=110, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)


if __name__ == "__main__":
    main()
