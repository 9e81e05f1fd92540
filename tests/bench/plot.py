#!/usr/bin/python3
"""Plots of the benchmarks' own CSV files as SVG.

usage: plot.py QUALITY.csv PLACEMENT.csv FOLDER    writes placement-allocation.svg and placement-cost.svg there
"""

import csv
import math
import pathlib
import sys

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 64, 190, 40, 48
COLOURS = ["#888888", "#b8860b", "#2e8b57", "#cc6677", "#4477aa", "#aa4499", "#66ccee", "#111111"]


class Axis:
    def __init__(self, low, high, begin, end, log=False):
        self.low, self.high, self.begin, self.end, self.log = low, high, begin, end, log

    def at(self, value):
        value = min(max(value, self.low), self.high)
        scale = math.log if self.log else float
        part = (scale(value) - scale(self.low)) / (scale(self.high) - scale(self.low))
        return self.begin + part * (self.end - self.begin)


class Plot:
    """One pair of axes; what is drawn lies within them."""

    def __init__(self, title, x_title, y_title, x, y, log=False):
        self.x = Axis(*x, LEFT, WIDTH - RIGHT, log)
        self.y = Axis(*y, HEIGHT - BOTTOM, TOP, log)
        self.named = 0
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
            f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        ]
        self.text(LEFT, 22, title, size=14)
        self.text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, x_title, anchor="middle")
        turned = f'transform="translate(16 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)"'
        self.parts.append(f'<text {turned} text-anchor="middle">{y_title}</text>')

    def text(self, x, y, text, anchor="start", size=12, colour="black"):
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">{text}</text>'
        )

    def line(self, x1, y1, x2, y2, colour="#dddddd"):
        self.parts.append(f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="{colour}"/>')

    def ticks(self, xs, ys):
        for value in xs:
            at = self.x.at(value)
            self.line(at, TOP, at, HEIGHT - BOTTOM)
            self.text(at, HEIGHT - BOTTOM + 16, f"{value:,}", anchor="middle")
        for value in ys:
            at = self.y.at(value)
            self.line(LEFT, at, WIDTH - RIGHT, at)
            self.text(LEFT - 6, at + 4, f"{value:,}", anchor="end")

    def series(self, name, points, colour, note="", dots=False):
        path = "L".join(f"{self.x.at(x):.1f} {self.y.at(y):.1f}" for x, y in points)
        self.parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        for x, y in points if dots else points[-1:]:
            self.parts.append(f'<circle cx="{self.x.at(x):.1f}" cy="{self.y.at(y):.1f}" r="3.5" fill="{colour}"/>')
        y = TOP + 14 + self.named * 32
        self.parts.append(f'<circle cx="{WIDTH - RIGHT + 16}" cy="{y - 4}" r="4" fill="{colour}"/>')
        self.text(WIDTH - RIGHT + 26, y, name)
        self.text(WIDTH - RIGHT + 26, y + 13, note, size=10, colour="#555555")
        self.named += 1

    def dashed(self, points):
        path = "L".join(f"{self.x.at(x):.1f} {self.y.at(y):.1f}" for x, y in points)
        self.parts.append(f'<path d="M{path}" fill="none" stroke="black" stroke-dasharray="4 4"/>')

    def save(self, path):
        path.write_text("\n".join([*self.parts, "</svg>", ""]))


def arrivals(path):
    """Of each strategy (arrivals, allocated %, machines in use); it ends with the first refusal."""
    found = {}
    with open(path) as f:
        for row in csv.reader(f):
            if row[0] == "arrivals":
                found.setdefault(row[1], []).append((int(row[2]), float(row[3]), int(row[4])))
    return found


def allocation(path, folder):
    """Until one is refused all place the same requests, so the allocated share grows alike; the machines that it takes
    do not, nor does the end come at the same time."""
    found = arrivals(path)
    last = max(points[-1][0] for points in found.values())
    most = max(points[-1][2] for points in found.values())
    x_max, y_max = math.ceil(last / 2000) * 2000, math.ceil(most / 250) * 250
    plot = Plot(
        "Machines in use until the first refusal: OpenB, cycled",
        "requests that came",
        "machines; dashed: cores allocated, as a share of all machines",
        (0, x_max),
        (0, y_max),
    )
    plot.ticks(range(0, x_max + 1, 2000), range(0, y_max + 1, 250))
    for (name, points), colour in zip(found.items(), COLOURS):
        came, share, _ = points[-1]
        plot.series(name, [(n, machines) for n, _, machines in points], colour, f"{share:.2f} % at request {came:,}")
    longest = max(found.values(), key=lambda points: points[-1][0])
    plot.dashed([(n, most * share / 100) for n, share, _ in longest])
    plot.save(folder / "placement-allocation.svg")


def cost(path, folder):
    with open(path) as f:
        rows = list(csv.DictReader(f))
    plot = Plot(
        "Cost of a decision by the size of the fleet, ten instances a node",
        "nodes",
        "microseconds",
        (800, 25000),
        (1, 100000),
        log=True,
    )
    plot.ticks([1000, 2000, 5000, 10000, 20000], [1, 10, 100, 1000, 10000, 100000])
    for (name, column), colour in zip(
        [("index: mean", "mean_us"), ("index: p99", "p99_us"), ("every node: mean", "scan_us")],
        ["#111111", "#4477aa", "#cc6677"],
    ):
        points = [(int(row["nodes"]), float(row[column])) for row in rows]
        plot.series(name, points, colour, f"{points[-1][1]:,.1f} us at {points[-1][0]:,}", dots=True)
    plot.save(folder / "placement-cost.svg")


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[3])
    allocation(sys.argv[1], folder)
    cost(sys.argv[2], folder)


main()
