"""The files of a gMAD competition: pairs, a figure of each pair, matrices, ranking, and a page with all of them."""

import csv
import io
from collections.abc import Mapping, Sequence

from etils import epath
from tqdm import tqdm

from jaxiqa.competition import gmad, montage
from jaxiqa.figures.page import Page
from jaxiqa.files import write_bytes, write_json
from jaxiqa.inputs.decode import read_image


def write_pairs(
    folder: epath.Path, pairs: Sequence[Mapping], path_of: Mapping[str, str], levels: int, tol: float
) -> None:
    """Writes pairs.json, pairs.csv, and ATTACKER_attacks_DEFENDER_K.png for each pair.

    Args:
      folder: an existing folder.
      pairs: from gmad.make_pairs or gmad.judge.
      path_of: {image id: path of the image}.
      levels, tol: number of levels and tolerance of the competition.
    """
    write_json(folder / "pairs.json", pairs)
    write_table(folder / "pairs.csv", list(pairs[0]), ([row[key] for key in row] for row in pairs))
    drawn = [pair for pair in pairs if pair["n_in_level"]]
    for pair in tqdm(drawn, "drawing", unit=" pairs", disable=None):
        images = [read_image(path_of[pair[key]]) for key in ("worst_id", "best_id")]
        montage.draw_pair(folder / _image(pair), pair, *images, levels, tol)


def write_page(folder: epath.Path, pairs: Sequence[Mapping], summary: Mapping) -> None:
    """Writes report.html: the ranking and the matrices if the pairs are judged, all pairs, and the protocol.

    Args:
      folder: the folder that write_pairs and write_results wrote to.
      pairs: from gmad.make_pairs or gmad.judge.
      summary: the content of competition.json.
    """
    page = Page(f"gMAD competition of {', '.join(summary['scorers'])}")
    if "aggressiveness" in summary:
        scales = {key: summary[key]["scale"] for key in ("aggressiveness", "resistance")}
        rows = [{"model": name, **{key: scales[key][name] for key in scales}} for name in summary["scorers"]]
        page.table("Ranking", rows)
        page.figures("Matrices", [("matrices", (folder / "matrices.png").read_bytes())])
    drawn = [pair for pair in pairs if pair["n_in_level"]]
    page.figures("Pairs", [(_image(pair), (folder / _image(pair)).read_bytes()) for pair in drawn])
    page.facts("Protocol", {key: value for key, value in summary.items() if isinstance(value, str | int | float)})
    page.write(folder / "report.html")


def _image(pair: Mapping) -> str:
    return f"{pair['attacker']}_attacks_{pair['defender']}_{pair['level']}.png"


def write_results(folder: epath.Path, pairs: Sequence[Mapping], names: Sequence[str]) -> dict:
    """Writes aggressiveness.csv, resistance.csv, ranking.csv and matrices.png.

    Args:
      folder: an existing folder.
      pairs: from gmad.judge.
      names: names of the models, in the order of rows and columns.

    Returns:
      {"aggressiveness": ..., "resistance": ...}: dicts with the matrix, the scale value of each model, and whether the
      scale needed a prior (see gmad.rank).
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
    """Writes a CSV file in UTF-8 with errors="surrogateescape", which keeps any file name; None is an empty cell."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_bytes(path, text.getvalue().encode("utf-8", "surrogateescape"))


def describe_pairs(pairs: Sequence[Mapping]) -> str:
    """The pairs as text, one line for each."""
    width = max(len(f"{pair['attacker']} on {pair['defender']}") for pair in pairs)
    lines = [f"{'':{width}}  level  centre  images  attacker: worst  best  defender: worst  best   judgement"]
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
    """The result of write_results() as text tables."""
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
            lines.append(
                "note: one-sided results have no maximum-likelihood scale; a standard normal prior keeps it finite"
            )
    return "\n".join(lines)
