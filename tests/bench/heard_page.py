"""The page docs/explanation/heard.md: its tables and pictures, written from the figures of the study.

The figures stand in docs/explanation/heard/figures.json. Each table goes between two marks in the page, and a test
compares the page with what the figures give, so that no number on it is anybody's memory.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.bench.heard import Row

PAGE = Path(__file__).resolve().parents[2] / "docs" / "explanation" / "heard.md"
FOLDER = PAGE.with_suffix("")
FIGURES = FOLDER / "figures.json"


def write(
    rows: Sequence[Row],
    *,
    base: Mapping[str, Sequence[Mapping[str, float]]],
    known: Mapping[str, Mapping[str, Any]],
    pictures: Mapping[str, bytes],
) -> None:
    """Figures, pictures, and the tables in the page."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    trainings = [
        {
            "study": row.study,
            "method": row.method,
            "raters": row.raters,
            "seed": row.task.seed,
            "cpu_s": round(known[row.task.name]["cpu_s"], 1),
            "shares": known[row.task.name]["shares"],
        }
        for row in rows
    ]
    FIGURES.write_text(json.dumps({"base": base, "trainings": trainings}, indent=1) + "\n", encoding="utf-8")
    for name, picture in pictures.items():
        (FOLDER / name).write_bytes(picture)
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def with_tables(page: str) -> str:
    """The page with every table as the figures give it."""
    figures = json.loads(FIGURES.read_text(encoding="utf-8"))
    for name, table in _tables(figures).items():
        mark = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        page, replaced = mark.subn(lambda found, table=table: f"{found[1]}{table}\n{found[2]}", page)
        if replaced != 1:
            raise ValueError(f"{PAGE.name} has {replaced} places for the table {name}; give it one")
    return page


def _tables(figures: Mapping[str, Any]) -> dict[str, str]:
    trainings = figures["trainings"]
    return {
        "base": _base_table(figures["base"]),
        "methods": _methods_table(
            figures["base"], [one for one in trainings if one["study"] in ("methods", "placebo")]
        ),
        "noise": _noise_table([one for one in trainings if one["study"] == "noise"]),
        "disagreement": _disagreement_table([one for one in trainings if one["study"] == "disagreement"]),
    }


def _base_table(base: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    lines = ["| wish | wished share, three sets of prompts | others obeyed | opposite obeyed | in scale |"]
    lines += ["| --- | --- | --- | --- | --- |"]
    for wish, several in base.items():
        cells = [_each(several, name) for name in ("wished", "others", "opposite", "in_scale")]
        lines.append(f"| {wish} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _methods_table(base: Mapping[str, Sequence[Mapping[str, float]]], trainings: Iterable[Mapping[str, Any]]) -> str:
    lines = ["| wish | trained by | wished share | others obeyed | opposite obeyed | in scale | CPU seconds |"]
    lines += ["| --- | --- | --- | --- | --- | --- | --- |"]
    for wish, [untrained, *_] in base.items():
        cells = [f"{untrained[name]:.2f}" for name in ("wished", "others", "opposite", "in_scale")]
        lines.append(f"| {wish} | *nothing* | {' | '.join(cells)} | |")
        for (method, raters), several in _grouped(trainings, "method", "raters").items():
            shares = [one["shares"][wish] for one in several if wish in one["shares"]]
            if not shares:
                continue
            cells = [_each(shares, name) for name in ("wished", "others", "opposite", "in_scale")]
            seconds = _each([one for one in several if wish in one["shares"]], "cpu_s", "{:.0f}")
            named = method if raters == "one" else f"{method}, ratings {raters}"
            lines.append(f"| {wish} | {named} | {' | '.join(cells)} | {seconds} |")
    return "\n".join(lines)


def _noise_table(trainings: Iterable[Mapping[str, Any]]) -> str:
    cells = _grouped(trainings, "method", "raters")
    raters = list(dict.fromkeys(raters for _, raters in cells))
    lines = [f"| trained by | {' | '.join(raters)} |", f"| --- |{' --- |' * len(raters)}"]
    for method in dict.fromkeys(method for method, _ in cells):
        means = [_mean_and_each(cells[method, one], "mode=major") for one in raters]
        lines.append(f"| {method} | {' | '.join(means)} |")
    return "\n".join(lines)


def _disagreement_table(trainings: Iterable[Mapping[str, Any]]) -> str:
    lines = ["| trained by | major | high register |", "| --- | --- | --- |"]
    for (method,), several in _grouped(trainings, "method").items():
        means = [_mean_and_each(several, wish) for wish in ("mode=major", "register=high")]
        lines.append(f"| {method} | {' | '.join(means)} |")
    return "\n".join(lines)


def _grouped(trainings: Iterable[Mapping[str, Any]], *keys: str) -> dict[tuple[str, ...], list[Mapping[str, Any]]]:
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for one in trainings:
        groups.setdefault(tuple(one[key] for key in keys), []).append(one)
    return groups


def _mean_and_each(several: Sequence[Mapping[str, Any]], wish: str) -> str:
    shares = [one["shares"][wish] for one in several]
    return f"**{statistics.mean(one['wished'] for one in shares):.2f}** ({_each(shares, 'wished')})"


def _each(several: Sequence[Mapping[str, float]], name: str, written: str = "{:.2f}") -> str:
    return ", ".join(written.format(one[name]) for one in several)
