"""The files of an evaluation: predictions, numbers, figures, and one page with all of them."""

import math
import platform
import shlex
import sys
from collections.abc import Callable

import jax
import numpy as np
from etils import epath

from jaxiqa.evaluation import metrics as iqa_metrics
from jaxiqa.evaluation.result_files import write_predictions
from jaxiqa.evaluation.statistics import bootstrap
from jaxiqa.figures import report
from jaxiqa.figures.page import Page
from jaxiqa.files import write_json
from jaxiqa.inputs.decode import read_image
from jaxiqa.scoring.look import MOST, Seen
from jaxiqa.scoring.rated import Results

_SHEET = 8  # number of best images on the contact sheet, and of worst images
_LEGEND = {
    "map": "where the model sees low quality: red parts score low (0), yellow ones 50, blue ones high (100)",
    "predicted": "the model's score, 0 to 100; higher is better",
    "opinion": "people's mean opinion score, on the same scale",
    "interval": "where the opinion of 90 % of images like those of the calibration is",
    "reasons": (
        "which kinds of distortion the model's features look like, with their probability (pristine: none), and how "
        "strong they are, from 0 (none) to 5. The kind is often wrong if the severity is low"
    ),
}


def write_results(
    folder: epath.Path, part: str, results: Results, summary: dict, look: Callable[..., Seen] | None = None
) -> dict:
    """Writes the files of an evaluation into `folder`.

    The files are predictions_PART.csv, report.json, scatter_PART.png, residuals_PART.png, contact_sheet_PART.png, and
    report.html, which shows all of them on one page.

    Args:
      folder: an existing folder.
      part: part of the dataset, for the file names.
      results: from evaluate.
      summary: facts for report.json; "model", "variant" and "dataset" also appear in the titles of the figures.
      look: scoring.look.Look, for reasons and quality maps of the shown images; None for a page without them.

    Returns:
      the content of report.json: the summary, the metrics, 95 % bootstrap intervals of SRCC and PLCC (None if
      undefined), the spread of the scores, and PLCC after fits of both logistic curves, each with its parameters and
      whether it converged.
    """
    rows = []
    for i, r in enumerate(results.records):
        row = {"path": r.path, "score": results.score[i], "mos": r.mos, "reference": r.reference}
        row |= {"distortion": r.distortion, "level": r.level}
        optional = {name: getattr(results, name)[i] for name in ("native", "se", "lo", "hi")}
        rows.append(row | {name: "" if np.isnan(value) else value for name, value in optional.items()})
    write_predictions(folder / f"predictions_{part}.csv", rows)
    fits = {kind: iqa_metrics.fit_logistic(results.score, results.mos, kind) for kind in iqa_metrics.KINDS}
    fitted = {
        f"plcc_{kind}": {
            "plcc": iqa_metrics.plcc(fit(results.score), results.mos),
            "converged": fit.converged,
            "parameters": fit.params,
        }
        for kind, fit in fits.items()
    }
    summary = {**summary, "n": len(rows), **results.metrics, "spread": results.spread}
    summary |= intervals(results) | results.coverage() | fitted
    write_json(folder / "report.json", summary)
    where = "all" if part == "all" else f"the {part} part"
    title = f"{summary['model']} ({summary['variant']}) on {where} of {summary['dataset']}"
    report.scatter(folder / f"scatter_{part}.png", results.score, results.mos, title, fits["logistic4"])
    error = np.abs(results.score - results.mos100)
    order = np.argsort(error, kind="stable")
    shown = [*order[:_SHEET], *order[-_SHEET:]] if len(order) > 2 * _SHEET else list(order)
    captions = [
        f"score {results.score[i]:.0f}, opinion {results.mos100[i]:.0f}\n{results.records[i].id}" for i in shown
    ]
    images = [read_image(results.records[i].path) for i in shown]
    report.contact_sheet(
        folder / f"contact_sheet_{part}.png",
        images,
        captions,
        f"{title}\nbest predictions, then worst",
        _SHEET,
    )
    report.residuals(folder / f"residuals_{part}.png", _residuals(results), title)
    rows = [_row(results, i, image, look, i in shown[-MOST:]) for i, image in zip(shown, images, strict=True)]
    _write_page(folder, part, title, summary, results.metrics, rows)
    return summary


def _row(results: Results, i: int, image: np.ndarray, look: Callable[..., Seen] | None, with_map: bool) -> dict:
    """Of the tables of images; None for what is not known."""
    record, seen = results.records[i], look(results.records[i].path, with_map) if look else None
    interval = f"{results.lo[i]:.0f} to {results.hi[i]:.0f}" if np.isfinite(results.lo[i]) else None
    return {
        "image": image,
        "map": seen.overlay if seen else None,
        "predicted": f"{results.score[i]:.1f}",
        "opinion": f"{results.mos100[i]:.1f}",
        "interval": interval,
        "reasons": (seen.reasons or None) if seen else None,
        "name": record.id,
    }


def intervals(results: Results) -> dict:
    """Returns {"srcc_interval": [low, high], ... for all HEADLINES, "interval_units": what the bootstrap drew}.

    The bootstrap draws whole contents (all images of one reference) if the dataset names them. An undefined
    interval is None.
    """
    units = results.contents
    whole = any(r.reference for r in results.records)
    drawn = f"{len(set(units))} contents" if whole else f"{len(units)} images"
    try:
        found = bootstrap(results.score, results.mos100, units if whole else None)
    except ValueError:  # constant scores, or too few contents
        return dict.fromkeys(f"{m}_interval" for m in iqa_metrics.HEADLINES) | {"interval_units": drawn}
    return {f"{m}_interval": [i.low, i.high] for m, i in found.items()} | {"interval_units": drawn}


def _residuals(results: Results) -> dict[str, np.ndarray]:
    """Predicted minus opinion scores, both 0..100: of all images, and by distortion and level."""
    residual = results.score - results.mos100
    groups: dict[str, list[int]] = {}
    for column in ("distortion", "level"):
        for i, record in enumerate(results.records):
            if value := getattr(record, column):
                groups.setdefault(f"{column} {value}" if column == "level" else value, []).append(i)
    levels = sorted(name for name in groups if name.startswith("level "))
    names = [*sorted(groups.keys() - set(levels)), *levels]
    return {"all": residual} | {name: residual[groups[name]] for name in names}


def _write_page(folder: epath.Path, part: str, title: str, summary: dict, metrics: dict, shown: list) -> None:
    page = Page(title, summary["note"])
    rows: list[dict] = []
    for metric, value in metrics.items():
        low, high = summary.get(f"{metric}_interval") or (math.nan, math.nan)
        rows.append({"metric": metric.upper(), "value": value, "95 % low": low, "95 % high": high})
    for kind in iqa_metrics.KINDS:
        fit = summary[f"plcc_{kind}"]
        name = f"PLCC after {kind}" + ("" if fit["converged"] else " (not converged)")
        rows.append({"metric": name, "value": fit["plcc"], "95 % low": math.nan, "95 % high": math.nan})
    for name, title in (("coverage", "Share of opinions in the 90 % interval"), ("interval_width", "its mean width")):
        if name in summary:
            rows.append({"metric": title, "value": summary[name], "95 % low": math.nan, "95 % high": math.nan})
    page.table(f"Metrics on {summary['n']:,} images", rows)
    figures = [(name, (folder / f"{name}_{part}.png").read_bytes()) for name in ("scatter", "residuals")]
    page.figures("Predicted and opinion scores", figures)
    used = [key for key in shown[0] if any(row[key] is not None for row in shown)] if shown else []
    page.facts("How to read the images below", {key: _LEGEND[key] for key in used if key in _LEGEND})
    half = len(shown) // 2 if len(shown) > _SHEET else len(shown)
    for heading, rows in (("Best predictions", shown[:half]), ("Worst predictions", shown[half:])):
        known = [key for key in used if any(row[key] is not None for row in rows)]
        page.table(heading, [{key: row[key] for key in known} for row in rows])
    facts = {
        key: value for key, value in summary.items() if isinstance(value, str | int) and value != "" and key != "n"
    }
    versions = {"python": platform.python_version(), "jax": jax.__version__, "numpy": np.__version__}
    page.facts("Protocol", {**facts, **versions, "command": shlex.join(sys.argv)})
    page.write(folder / "report.html")
