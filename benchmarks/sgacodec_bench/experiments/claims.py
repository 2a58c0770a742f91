"""What the rows of an experiment say: a line on the paper's ordering, a table, a plot.

Losses are compared as the mean over images and levels of the truly rounded loss after the last step, relative to that of
plain rounding without refinement, in per cent; below zero is a gain.
"""

from __future__ import annotations

from itertools import groupby

import numpy as np

from sgacodec import metrics

YANG = ("sga", "map", "ste", "uniform-noise", "deterministic-annealing")
SSL_A_OF_THE_PAPER = (2.0, 2.7)


def curves(rows: list[dict]) -> str:
    change = changes_at(rows, most_steps(rows))
    change = {name: change[name] for name in YANG if name in change}
    gap = {name: mean_of(rows, name, most_steps(rows), "last_gap") for name in change}
    return claim(
        "Yang et al. 2020, figure 3: of the five methods there, sga ends lowest and its gap is below those of map and "
        "uniform-noise",
        lowest(change) == "sga" and abs(gap["sga"]) < min(abs(gap["map"]), abs(gap["uniform-noise"])),
        f"{listing(change)}; gaps {', '.join(f'{name} {value:+.4f}' for name, value in gap.items())}",
    )


def ablations(rows: list[dict]) -> str:
    change = changes_at(rows, most_steps(rows))
    everywhere = all(
        at["ssl"] <= at["sga"] for steps in steps_of(rows) if "ssl" in (at := changes_at(rows, steps)) and "sga" in at
    )
    baselines = {name: change[name] for name in YANG if name in change}
    return claim(
        "Yang et al. 2020, figure 5, and Perugachi-Diaz et al. 2024: sga gains most of Yang's methods, ste is the worst, "
        "ssl is at least as good as sga at every number of steps",
        lowest(baselines) == "sga" and max(change, key=change.__getitem__) == "ste" and everywhere,
        listing(change),
    )


def tuning(rows: list[dict]) -> str:
    gain = {
        (setting, steps): mean_change(same, "best_loss")
        for (setting, steps), same in grouped(rows, "setting", "iterations").items()
    }
    whole = gain["tuned, four times the steps", most_steps(rows)]

    def shares_of(name: str) -> dict[int, float]:
        return {steps: gain[name, steps] / whole if whole else 0.0 for setting, steps in gain if setting == name}

    shares, papers = shares_of("tuned"), shares_of("papers")
    return claim(
        f"100 steps give at least 60 % and 500 at least 90 % of the gain of {most_steps(rows)}",
        shares.get(100, 1.0) >= 0.6 and shares.get(500, 1.0) >= 0.9,
        "; ".join(
            f"{steps} steps {100 * share:.0f} %, with the papers' schedule {100 * papers[steps]:.0f} %"
            for steps, share in sorted(shares.items())
        ),
    )


def extrapolation(rows: list[dict]) -> str:
    last = [row for row in rows if row["iterations"] == most_steps(rows)]
    gain = {setting: mean_change(same, "best_loss") for (setting,), same in grouped(last, "setting").items()}
    seconds = {setting: mean_of(last, setting, most_steps(rows), "seconds") for setting in gain}
    whole = gain["synthesis every 1"]
    return claim(
        f"{most_steps(rows)} steps with the synthesis at every fourth gain at least 98 % of what they gain where it always runs",
        gain["synthesis every 4"] <= 0.98 * whole,
        ", ".join(
            f"{setting.removeprefix('synthesis ')} {gain[setting]:+.2f} % in {seconds[setting]:.0f} s"
            for setting in gain
        ),
    )


def tau(rows: list[dict]) -> str:
    spread = spreads(rows)
    return claim(
        "Perugachi-Diaz et al. 2024, table 2: linear, cosine and ssl depend less on tau_max than sga",
        spread["sga"] > max(spread[name] for name in ("linear", "cosine", "ssl")),
        f"best to worst, in points: {listing(spread)}",
    )


def ssl_a(rows: list[dict]) -> str:
    rows = [row for row in rows if row["iterations"] == most_steps(rows)]
    change = {f"{x:g}": mean_change([row for row in rows if row["x"] == x]) for x in sorted({row["x"] for row in rows})}
    low, high = SSL_A_OF_THE_PAPER
    return claim(
        f"Perugachi-Diaz et al. 2024, the sweep over a: the best a is near 2.3 ({low:g} to {high:g})",
        low <= float(lowest(change)) <= high,
        listing(change),
    )


def classes(rows: list[dict]) -> str:
    few, most = steps_of(rows)[0], most_steps(rows)
    names = sorted({row["setting"].split()[0] for row in rows})
    ahead = {
        steps: {name: (at := changes_at(rows, steps))[f"{name} 2"] - at[f"{name} 3"] for name in names}
        for steps in (few, most)
    }
    return claim(
        f"Perugachi-Diaz et al. 2024, section 3.2: three classes are ahead of two after {few} steps, by more than after {most}",
        all(ahead[few][name] > max(0, ahead[most][name] if most > few else 0) for name in names),
        f"lead of three classes, in points: {few} steps {listing(ahead[few])}; {most} steps {listing(ahead[most])}",
    )


def learning_rate(rows: list[dict]) -> str:
    spread = spreads(rows)
    return claim(
        "Perugachi-Diaz et al. 2024, learning rates: ssl depends less on the learning rate than sga",
        spread["ssl"] < spread["sga"],
        f"best to worst, in points: {listing(spread)}",
    )


def claim(text: str, holds: bool, details: str) -> str:
    return f"{text}: {'holds' if holds else 'does not hold'} ({details})."


def listing(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {values[name]:+.2f}" for name in sorted(values, key=values.__getitem__))


def lowest(values: dict[str, float]) -> str:
    return min(values, key=values.__getitem__)


def steps_of(rows: list[dict]) -> list[int]:
    return sorted({row["iterations"] for row in rows if row["iterations"]})


def most_steps(rows: list[dict]) -> int:
    return steps_of(rows)[-1]


def mean_change(rows: list[dict], key: str = "last_loss") -> float:
    return float(np.mean([100 * (row[key] / row["start_loss"] - 1) for row in rows]))


def mean_of(rows: list[dict], setting: str, steps: int, key: str) -> float:
    return float(np.mean([row[key] for row in rows if (row["setting"], row["iterations"]) == (setting, steps)]))


def grouped(rows: list[dict], *keys: str) -> dict[tuple, list[dict]]:
    """Return the rows that share the values of some keys, in order of those."""

    def key_of(row: dict) -> tuple:
        return tuple(row[key] for key in keys)

    return {key: list(chosen) for key, chosen in groupby(sorted(rows, key=key_of), key_of)}


def changes_at(rows: list[dict], steps: int) -> dict[str, float]:
    """Return the mean change of the loss of every setting after so many steps, in per cent."""
    chosen = [row for row in rows if row["iterations"] == steps]
    return {setting: mean_change(same) for (setting,), same in grouped(chosen, "setting").items()}


def spreads(rows: list[dict]) -> dict[str, float]:
    """Return by how much the worst setting of each group is behind the best, in points, after most steps."""
    chosen = [row for row in rows if row["iterations"] == most_steps(rows)]
    change: dict[str, list[float]] = {}
    for (group, _), same in grouped(chosen, "group", "x").items():
        change.setdefault(group, []).append(mean_change(same))
    return {group: max(values) - min(values) for group, values in change.items()}


def table(name: str, result: dict) -> str:
    """Return Markdown: the finding, and for each setting and number of steps the loss, gains and time."""
    rows = result["rows"]
    sizes = ", ".join(sorted({"x".join(map(str, row["size"])) for row in rows}))
    lines = [
        f"# {name}",
        "",
        result["finding"],
        "",
        f"{_pictures(result)} of {sizes}, levels {', '.join(f'{x:g}' for x in sorted({row['level'] for row in rows}))}, "
        f"{result['model']}, {result['device']}, {result['threads']} threads. The best state is what the file holds.",
        "",
        "| setting | steps | true loss, last | best | against no refinement, last | best | BD-rate of the files | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    none = [row for row in rows if not row["iterations"]]
    for (setting, steps), same in grouped(rows, "setting", "iterations").items():
        last, best = (np.mean([row[key] for row in same]) for key in ("last_loss", "best_loss"))
        lines.append(
            f"| {setting} | {steps} | {last:.4f} | {best:.4f} | {mean_change(same):+.2f} % | {mean_change(same, 'best_loss'):+.2f} % "
            f"| {bd_rate_text(none, same)} | {np.median([row['seconds'] for row in same]):.1f} |"
        )
    return "\n".join(lines) + "\n"


def summary(result: dict) -> str:
    """Return Markdown: for each method, by steps, the gain of the best state, BD-rate against no refinement, seconds."""
    rows = result["rows"]
    steps = steps_of(rows)
    none = [row for row in rows if not row["iterations"]]
    cells = {
        key: f"{mean_change(same, 'best_loss'):+.2f} %, {bd_rate_text(none, same) or 'one level'}, {np.median([row['seconds'] for row in same]):.0f} s"
        for key, same in grouped(rows, "setting", "iterations").items()
    }
    names = sorted({setting for setting, count in cells if count}, key=lambda name: (rank(rows, name), name))
    lines = [
        f"True R-D loss, BD-rate against `none` and seconds (one thread of a busy machine). {_pictures(result)}.",
        "",
        f"| method | {' | '.join(f'{count} steps' for count in steps)} |",
        "|---" * (len(steps) + 1) + "|",
    ]
    lines += [
        f"| {name} | {' | '.join(cells.get((name, count), 'not measured') for count in steps)} |" for name in names
    ]
    return "\n".join(lines) + "\n"


def rank(rows: list[dict], setting: str) -> float:
    """Return the gain of a setting after the number of steps that all settings have."""
    counts = [
        {row["iterations"] for row in rows if row["setting"] == name}
        for name in {row["setting"] for row in rows if row["iterations"]}
    ]
    common = max(set.intersection(*counts))
    return mean_change([row for row in rows if (row["setting"], row["iterations"]) == (setting, common)], "best_loss")


def _pictures(result: dict) -> str:
    if result["tile"]:
        return (
            f"Crops of {', '.join(result['tile'])}, {result['crop']}x{result['crop']} each, side by side in one picture"
        )
    return f"{len({row['image'] for row in result['rows']})} images"


def bd_rate_text(none: list[dict], rows: list[dict]) -> str:
    """Return the BD-rate of files against those without refinement; empty without two levels of both."""
    levels = {row["level"] for row in rows} & {row["level"] for row in none}
    if len(levels) < 2:
        return ""
    try:
        return f"{metrics.bd_rate_percent(mean_by_level(none, levels), mean_by_level(rows, levels)):+.2f} %"
    except ValueError:  # no PSNR in common
        return "none in common"


def mean_by_level(rows: list[dict], levels: set[float]) -> list[tuple[float, float]]:
    """Return (bpp, PSNR) of each level, the mean over its images."""
    at_level = ([row for row in rows if row["level"] == level] for level in sorted(levels))
    return [(float(np.mean([r["bpp"] for r in at])), float(np.mean([r["psnr_db"] for r in at]))) for at in at_level]


def plot(result: dict, x_label: str):
    """Return a figure of the rows: learning curves with their gaps where there are any, else loss over x."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.5), layout="constrained")
    figure.suptitle(f"{result['experiment']}: {result['model']}")
    if any(row["curve"] for row in result["rows"]):
        plot_curves(result["rows"], *figure.subplots(1, 2))
    else:
        plot_lines(result["rows"], figure.subplots(), x_label)
    return figure


def plot_curves(rows: list[dict], losses, gaps) -> None:
    longest = [row for row in rows if row["iterations"] == most_steps(rows) and row["curve"]]
    for (group,), same in grouped(longest, "group").items():
        n_points = min(len(row["curve"]) for row in same)
        steps = [point["step"] for point in same[0]["curve"][:n_points]]
        change = [[100 * (p["true_loss"] / row["start_loss"] - 1) for p in row["curve"][:n_points]] for row in same]
        gap = [[p["gap"] for p in row["curve"][:n_points]] for row in same]
        losses.plot(steps, np.mean(change, axis=0), label=group)
        gaps.plot(steps, np.mean(gap, axis=0), label=group)
    losses.set(xlabel="steps", ylabel="truly rounded loss against no refinement, %")
    leave_out_divergence(losses)
    gaps.set(xlabel="steps", ylabel="gap: truly rounded loss minus sample's")
    losses.legend()


def leave_out_divergence(axes) -> None:
    """End the axis of losses at +10 %: ste is far above, and would press the others together."""
    axes.set_ylim(top=min(10, axes.get_ylim()[1]))


def plot_lines(rows: list[dict], axes, x_label: str) -> None:
    refined = [row for row in rows if row["iterations"]]
    many = len(steps_of(refined)) > 1 and any(row["x"] != row["iterations"] for row in refined)
    keys = ("group", "iterations") if many else ("group",)
    for key, same in grouped(refined, *keys).items():
        points = [(x, mean_change(chosen)) for (x,), chosen in grouped(same, "x").items()]
        axes.plot(*zip(*points, strict=True), marker="o", label=", ".join(map(str, key)))
    axes.set(xlabel=x_label, ylabel="truly rounded loss against no refinement, %")
    leave_out_divergence(axes)
    axes.legend()
