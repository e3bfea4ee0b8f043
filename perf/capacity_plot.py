"""The curves beside a plan: cores against messages a second for several sizes of rooms, memory against connections."""
import matplotlib

matplotlib.use("svg")  # no display is needed
from matplotlib import pyplot  # noqa: E402

import capacity_model as models  # noqa: E402

MEMBERS = (2, 10, 100, 1000)
SUBSCRIPTIONS = (1, 10, 50)  # rooms of a connection
POINTS = 80
CPUS_MAX = 100        # of the picture
APART = 1.02          # memory that differs less is drawn once
INK, PALE = "#222222", "#d9d9d4"
SHADES = ("#6baed6", "#3182bd", "#08519c", "#041f3d")
MARK = "#d94801"


def draw(path, fitted, planned):
    """Writes the picture to a file whose ending says its kind (.svg, .png, .pdf)."""
    with pyplot.rc_context({"font.size": 10, "axes.edgecolor": PALE, "axes.labelcolor": INK, "xtick.color": INK,
                            "ytick.color": INK, "text.color": INK, "axes.titlesize": 12, "axes.titleweight": "bold",
                            "axes.titlelocation": "left", "svg.hashsalt": "carillon"}):
        figure, (left, right) = pyplot.subplots(1, 2, figsize=(13, 5.2))
        cores(left, fitted, planned)
        memory(right, fitted, planned)
        figure.tight_layout(w_pad=4)
        figure.savefig(path, dpi=110, metadata={"Date": None} if path.endswith(".svg") else None)
        pyplot.close(figure)


def cores(axes, fitted, planned):
    """CPUs of a load like the planned one, with more or fewer messages, in rooms of several sizes."""
    load, busy = planned["load"], planned["utilisation"]
    rates = [10 ** (1 + 5 * step / (POINTS - 1)) for step in range(POINTS)]
    shades = iter(SHADES)
    for number in sorted({*MEMBERS, load["members"]}):
        points = []
        for rate in rates:
            one = models.plan(fitted, {**load, "members": number, "messages_per_second": rate}, busy)
            if one["writer_busy"] > busy or one["cpu_total"] / busy > CPUS_MAX:
                break
            points.append((rate, one["cpu_total"] / busy))
        own = number == load["members"]
        colour = MARK if own else next(shades)
        if points:
            axes.plot(*zip(*points), color=colour, linewidth=2.4 if own else 1.8)
            above = one["cpu_total"] / busy > CPUS_MAX
            name(axes, points, f"{number:,}" if above else f"{number:,} members", colour, above)
    axes.plot(load["messages_per_second"], planned["cpu_total"] / busy, "o", color=MARK, markersize=9, zorder=5)
    axes.set(xscale="log", yscale="log", xlim=(10, 1e6), ylim=(0.01, 2 * CPUS_MAX), xlabel="messages a second, in all",
             title=f"CPUs, at most {100 * busy:.0f} % busy")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.text(0.98, 0.03, f"{load['rooms']:,} rooms, {load['connections']:,} connections, {load['size']} bytes\n"
              "a line ends where the one writer is full", transform=axes.transAxes, ha="right", color="#666666")
    plain(axes)


def memory(axes, fitted, planned):
    """Memory of idle connections, without the kernel's, for several numbers of rooms that each is in."""
    load = planned["load"]
    most, last = max(100_000, 2 * load["connections"]), 0
    connections = [most * step / (POINTS - 1) for step in range(1, POINTS)]
    for index, number in enumerate(SUBSCRIPTIONS):
        points = []
        for count in connections:
            one = models.memory_of(fitted, {**load, "connections": count, "members": count * number / load["rooms"]})
            points.append((count, sum(one.values()) / (1 << 20)))
        if points[-1][1] < last * APART:
            continue
        last = points[-1][1]
        axes.plot(*zip(*points), color=SHADES[index], linewidth=1.8)
        name(axes, points, f"in {number} room{'s' if number > 1 else ''} each", SHADES[index])
    axes.plot(load["connections"], planned["memory_total"] / (1 << 20), "o", color=MARK, markersize=9, zorder=5)
    axes.annotate("this plan", (load["connections"], planned["memory_total"] / (1 << 20)), (-8, -18),
                  textcoords="offset points", color=MARK, ha="right", bbox={"fc": "white", "ec": "none", "pad": 0.5})
    store = planned["memory"]["store"] / (1 << 20)
    axes.axhline(store, color="#999999", linewidth=1, linestyle=(0, (4, 3)))
    axes.text(most, store, "store's cache and buffers ", color="#666666", ha="right", va="top")
    axes.set(xlim=(0, most), ylim=(0, None), xlabel="connections", title="Memory in MiB")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    plain(axes)


def name(axes, points, text, colour, above=False):
    """A line is named at its end, or above it where it has left the picture: no legend to look up."""
    axes.annotate(text, points[-1], (6, 6) if above else (6, 0), textcoords="offset points", color=colour,
                  va="bottom" if above else "center", ha="right" if above else "left", annotation_clip=False)


def plain(axes):
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, color="#eeeeea", linewidth=0.8)
    axes.set_axisbelow(True)
