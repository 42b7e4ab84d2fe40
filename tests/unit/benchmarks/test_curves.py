"""The picture of the costs is an SVG that anybody can read: whole, labelled, and within its frame."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from tests.benchmarks.curves import svg

CURVES = {"a <hit>": [(100, 8.0), (1_000_000, 95.5)], "job": [(10, 600.0), (100_000, 580.0)], "one": [(1, 0.7)]}


def test_every_curve_is_drawn_named_and_told() -> None:
    picture = ElementTree.fromstring(svg("Costs", "how many", "µs", CURVES))  # noqa: S314  (ours)
    texts = [element.text for element in picture.iter() if element.tag.endswith("text")]
    assert {"Costs", "how many", "µs", *CURVES, "1,000,000", "1,000"} <= set(texts)
    told = next(element.text or "" for element in picture.iter() if element.tag.endswith("desc"))
    assert "a <hit>: 8.0 at 100, 95.5 at 1,000,000" in told
    marks = [place for element in picture.iter() if (place := element.get("transform"))]
    assert len(marks) == sum(len(points) for points in CURVES.values())
    width, height = map(float, picture.attrib["viewBox"].split()[2:])
    for mark in marks:
        x, y = map(float, re.findall(r"[\d.]+", mark))
        assert 0 < x < width
        assert 0 < y < height


def test_it_is_made_for_light_and_dark() -> None:
    assert "@media (prefers-color-scheme: dark)" in svg("Costs", "how many", "µs", CURVES)
