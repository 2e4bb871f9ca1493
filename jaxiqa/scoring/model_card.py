"""The page of a checkpoint for readers of a hub (README.md): what it is, its licence, its scores, how to use it."""

import json

from jaxiqa.evaluation.metrics import HEADLINES
from jaxiqa.scoring.card import Card

_LICENCES = (  # that a hub knows by these names; others are "other", with their name beside it
    *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "gpl-3.0", "mpl-2.0", "cc0-1.0"),
    *("cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0"),
)
_PAGE = """---
{licence}
library_name: jaxiqa
tags:
  - image-quality-assessment
  - jax
---

# {title}

No-reference image quality: a score for an image, without an undistorted one to compare it with.

* Model: {model}, step {step}
* Trained on: {dataset}
* Licence: {named}
* SHA-256 of the arrays: `{digest}`
{note}
## Scores

{scores}

## Use

```
python -m pip install "jaxiqa[hub]"
jaxiqa score --checkpoint hf://{repo} photo.jpg
```

```python
import jaxiqa

metric = jaxiqa.create_metric(checkpoint="hf://{repo}")
metric("photo.jpg")
```

Write `hf://{repo}@COMMIT` to get these weights and no later ones. The arrays are checked against their SHA-256 in
`jaxiqa.json` when they are loaded.
"""


def model_card(repo: str, card: Card, step: int, digest: str, licence: str, report: dict | None = None) -> str:
    """The text of README.md.

    Args:
      repo: "OWNER/NAME".
      card: of the checkpoint.
      step: its step.
      digest: SHA-256 of its arrays.
      licence: of the weights, e.g. "Apache-2.0".
      report: the content of the report.json of a test of this step, if there is one.
    """
    lowered = licence.lower()
    head = f"license: {lowered}" if lowered in _LICENCES else f"license: other\nlicense_name: {json.dumps(licence)}"
    name = f"{card.model['name']} {card.model['variant']}"
    return _PAGE.format(
        licence=head,
        title=f"{repo.partition('/')[2]}: {name}",
        model=name,
        step=step,
        dataset=card.dataset or "not known",
        named=licence,
        digest=digest,
        note=f"* Note: {card.note}\n" if card.note else "",
        scores="\n".join(f"* {line}" for line in _about_scores(card, report or {})),
        repo=repo,
    )


def _about_scores(card: Card, report: dict) -> list[str]:
    lines = [f"0 to 100, higher is better; mean over the crops `{card.crops}`."]
    if card.scale:
        better = "higher" if card.scale.higher_is_better else "lower"
        lines.append(f"Native scale: {card.scale.lo:g} to {card.scale.hi:g}, {better} is better.")
    else:
        lines.append("Nobody rated the training images, so there is no native scale.")
    if card.interval:
        lines.append(f"The interval (`lo`, `hi`) holds the mean opinion of 90 % of images like {card.interval['of']}.")
    if card.reference:
        lines.append(f"Percentiles are of {card.reference['of']}.")
    if report:
        found = ", ".join(f"{key.upper()} {report[key]:.4f}" for key in HEADLINES if report.get(key) is not None)
        where = f"{report['dataset']}, part {report['part']} ({report['n']} images, split {report['split']}"
        lines.append(f"Measured on {where}, step selected by {report['selection']}): {found}.")
    else:
        lines.append("No test result is stored with this checkpoint.")
    return lines
