"""What a gMAD competition leaves: pairs, a picture of each, matrices and ranking."""

import csv
import io
from collections.abc import Mapping, Sequence

from etils import epath
from tqdm import tqdm

from jaxiqa.evaluation import gmad, montage, report
from jaxiqa.evaluation.drawing import write_bytes
from jaxiqa.evaluation.page import Page
from jaxiqa.inputs.decode import read_image


def write_pairs(
    folder: epath.Path, pairs: Sequence[Mapping], path_of: Mapping[str, str], levels: int, tol: float
) -> None:
    """pairs.json, pairs.csv and ATTACKER_attacks_DEFENDER_K.png of each pair.

    Args:
      folder: exists.
      pairs: of gmad.make_pairs or judge.
      path_of: {image id: its file}.
      levels, tol: of the competition.
    """
    report.write_json(folder / "pairs.json", pairs)
    write_table(folder / "pairs.csv", list(pairs[0]), ([row[key] for key in row] for row in pairs))
    there = [pair for pair in pairs if pair["n_in_level"]]
    for pair in tqdm(there, "drawing", unit=" pairs", disable=None):
        images = [read_image(path_of[pair[key]]) for key in ("worst_id", "best_id")]
        montage.draw_pair(folder / _picture(pair), pair, *images, levels, tol)


def write_page(folder: epath.Path, pairs: Sequence[Mapping], summary: Mapping) -> None:
    """report.html: how it was done, the matrices where there are any, and every pair's picture.

    Args:
      folder: with what write_pairs and write_results wrote.
      pairs: of gmad.make_pairs or judge.
      summary: of competition.json.
    """
    page = Page(f"gMAD competition of {', '.join(summary['scorers'])}")
    if "aggressiveness" in summary:
        scales = {key: summary[key]["scale"] for key in ("aggressiveness", "resistance")}
        rows = [{"model": name, **{key: scales[key][name] for key in scales}} for name in summary["scorers"]]
        page.table("Ranking", rows)
        page.figures("Matrices", [("matrices", (folder / "matrices.png").read_bytes())])
    there = [pair for pair in pairs if pair["n_in_level"]]
    page.figures("Pairs", [(_picture(pair), (folder / _picture(pair)).read_bytes()) for pair in there])
    page.facts("Protocol", {key: value for key, value in summary.items() if isinstance(value, str | int | float)})
    page.write(folder / "report.html")


def _picture(pair: Mapping) -> str:
    return f"{pair['attacker']}_attacks_{pair['defender']}_{pair['level']}.png"


def write_results(folder: epath.Path, pairs: Sequence[Mapping], names: Sequence[str]) -> dict:
    """aggressiveness.csv, resistance.csv, ranking.csv and matrices.png.

    Args:
      folder: exists.
      pairs: of gmad.judge.
      names: of the models, in the order of rows and columns.

    Returns:
      "aggressiveness" and "resistance", each with its matrix, the scale of each model, and whether the scale needed a
      prior (see gmad.rank).
    """
    results = {}
    for key, matrix in zip(("aggressiveness", "resistance"), gmad.matrices(pairs, names), strict=True):
        ranking = gmad.rank(matrix)
        scale = dict(zip(names, ranking.scale.tolist(), strict=True))
        results[key] = {"matrix": matrix, "scale": scale, "prior": ranking.prior}
        rows = ([name, *row] for name, row in zip(names, matrix.tolist(), strict=True))
        write_table(folder / f"{key}.csv", ["", *names], rows)
    scales = [result["scale"] for result in results.values()]
    rows = [[name, *(scale[name] for scale in scales)] for name in names]
    write_table(folder / "ranking.csv", ["model", *results], rows)
    montage.draw_matrices(folder / "matrices.png", *(result["matrix"] for result in results.values()), names)
    return results


def write_table(path: epath.Path, columns: Sequence[str], rows) -> None:
    """CSV; None becomes an empty cell, and file names of any bytes survive (UTF-8 with errors="surrogateescape")."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_bytes(path, text.getvalue().encode("utf-8", "surrogateescape"))


def describe_pairs(pairs: Sequence[Mapping]) -> str:
    """A line for each pair, for people."""
    width = max(len(f"{pair['attacker']} on {pair['defender']}") for pair in pairs)
    lines = [f"{'':{width}}  level  centre  pictures  attacker: worst  best  defender: worst  best   judgement"]
    for pair in pairs:
        line = f"{pair['attacker']} on {pair['defender']}".ljust(width) + f"{pair['level']:7}{pair['centre']:8.1f}"
        line += f"{pair['n_in_level']:10}"
        if not pair["n_in_level"]:
            lines.append(f"{line}  no pair")
            continue
        line += "".join(f"{pair[f'{who}_worst']:17.1f}{pair[f'{who}_best']:6.1f}" for who in ("attacker", "defender"))
        lines.append(line + (f"  {pair['preference']:+7.1f} {pair['verdict']}" if "verdict" in pair else ""))
    return "\n".join(lines)


def describe_results(results: Mapping[str, Mapping], names: Sequence[str]) -> str:
    """What write_results returned, as tables for people."""
    width = max(map(len, names)) + 2
    lines = []
    for key, result in results.items():
        what = (
            "attacker in rows, defender in columns"
            if key == "aggressiveness"
            else "defender in rows, attacker in columns"
        )
        lines.append(f"{key} ({what})")
        lines.append(" " * width + "".join(f"{name:>{max(width, 8)}}" for name in names))
        for name, row in zip(names, result["matrix"], strict=True):
            lines.append(f"{name:{width}}" + "".join(f"{value:{max(width, 8)}.1f}" for value in row))
        order = sorted(names, key=lambda name: -result["scale"][name])
        lines.append(f"by {key}: " + ", ".join(f"{name} {result['scale'][name]:+.3f}" for name in order))
        if result["prior"]:
            lines.append("note: one-sided results have no maximum-likelihood scale; a standard normal prior bounds it")
    return "\n".join(lines)
