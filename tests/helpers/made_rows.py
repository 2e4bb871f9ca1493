"""Made-up labels for every dataset: none is a published label.

Their number, minimum, maximum and mean are those of the published labels (KNOWN in the readers). So such a dataset
differs from the original only in single labels.
"""

import itertools
import zlib

import numpy as np
import scipy.optimize
import scipy.stats
from reader_trees import Row

from jaxiqa.datasets import reader


def labels(known, decimals):
    """(N,) labels in rising order, with the published minimum, maximum and mean."""
    least, greatest, mean = map(float, (known.least, known.greatest, known.mean))
    ramp = np.linspace(0, 1, known.count)

    def bent(power):
        return (least + (greatest - least) * ramp**power).round(decimals)

    return bent(scipy.optimize.brentq(lambda power: bent(power).mean() - mean, 0.01, 100))


def rate(dataset, images, decimals=4):
    """Rows of (name, reference, level) images. Higher levels are worse; within a level a hash of the name decides."""
    facts, images = reader(dataset), list(images)
    lot = [zlib.crc32(name.encode()) for name, *_ in images]
    worst_first = sorted(range(len(images)), key=lambda i: (-images[i][2], lot[i]))
    mos = labels(facts.KNOWN, decimals)
    lo, hi = facts.SCORE_RANGE
    rows = {}
    for i, label in zip(worst_first, (mos if facts.HIGHER_IS_BETTER else mos[::-1]).tolist(), strict=True):
        spread = 0.1 + 0.2125 * (lot[i] % 1000) / 999
        rows[i] = Row(images[i][0], label, *images[i][1:], std=round(spread * (hi - lo), 4))
    return [rows[i] for i in range(len(images))]


def kadid10k():
    grid = itertools.product(range(1, 82), range(1, 26), range(1, 6))
    return rate("kadid10k", ((f"I{r:02d}_{t:02d}_{k:02d}.png", f"I{r:02d}", k) for r, t, k in grid), decimals=2)


def _tid(dataset, types, levels):
    grid = itertools.product(range(1, 26), range(1, types + 1), range(1, levels + 1))
    return rate(dataset, ((f"i{r:02d}_{t:02d}_{k}.bmp", f"I{r:02d}", k) for r, t, k in grid))


def tid2008():
    return _tid("tid2008", 17, 4)


def tid2013():
    return _tid("tid2013", 24, 5)


def koniq10k():
    """About a hundred votes on five scores, whose mean follows the label; parts of the official sizes."""
    parts = ["training"] * 7058 + ["validation"] * 1000 + ["test"] * 2015
    rows = rate("koniq10k", ((f"{700_000 + 37 * i}.jpg", "", 0) for i in range(len(parts))))
    share_N5 = scipy.stats.binom.pmf(np.arange(5)[None], 4, np.array([[row.mos / 100] for row in rows]))
    votes_N5 = ((90 + np.arange(len(rows)) % 31)[:, None] * share_N5).round().astype(int).tolist()
    for i, votes in enumerate(votes_N5):
        std = float(np.repeat(range(5), votes).std(ddof=1))
        rows[i] = rows[i]._replace(votes=tuple(votes), std=std, part=parts[10 * i % len(parts)])
    return rows


WORDS = (
    "anvil", "barn", "cliff", "dune", "elm", "ferry", "gate", "harbour", "isle", "jetty", "kiosk", "lamp", "mill",
    "nest", "oar", "pier", "quarry", "reef", "shed", "tent", "urn", "vine", "well", "yard", "zebra", "attic",
    "bridge", "canoe", "dam",
)  # fmt: skip


def csiq():
    """30 references, one named by a number. Contrast has no level 5, and for four references no level 4."""
    references = ["2048", *sorted(WORDS)]
    levels = {"AWGN": 5, "JPEG": 5, "jpeg2000": 5, "fnoise": 5, "BLUR": 5, "contrast": 4}
    return rate(
        "csiq",
        (
            (f"{reference}.{type_}.{level}.png", reference, level)
            for type_, most in levels.items()
            for number, reference in enumerate(references)
            for level in range(1, most + (type_ != "contrast" or number >= 4))
        ),
        decimals=6,
    )


def livec():
    practice = [Row(f"t{i}.bmp", 11.5 * i, std=15.0) for i in range(1, 8)]
    return practice + rate("livec", ((f"{i}.{'bmp' if i <= 535 else 'JPG'}", "", 0) for i in range(1, 1_163)))


def live():
    """Each type distorts each reference equally often or once more. Undistorted copies lie between the others."""
    counts = {"jp2k": (227, 169), "jpeg": (233, 175), "wn": (174, 145), "gblur": (174, 145), "fastfading": (174, 145)}
    images = []
    for folder, (count, rated) in counts.items():
        numbers = np.unique(np.linspace(1, count, rated).round().astype(int)).tolist()
        images += [(f"{folder}/img{n}.bmp", WORDS[i % 29], 0) for i, n in enumerate(numbers)]
    return rate("live", images)


def spaq():
    return rate("spaq", ((f"{i:05d}.jpg", "", 0) for i in range(1, 11_126)), decimals=2)


def flive():
    """Three images in no part of the official split lie between the others."""
    names = [f"blur_dataset/shaken{i:04d}.jpg" for i in range(999)]
    names += [f"voc_emotic_ava/found{i:05d}.jpg" for i in range(38_808)]
    for place in (500, 20_000, 39_000):
        names.insert(place, f"EE371R/own{place}.jpg")
    return rate("flive", ((name, "", 0) for name in names))


def bid():
    numbers = (n for n in range(1, 591) if n not in (3, 77, 400, 589))
    return rate("bid", ((f"DatabaseImage{n:04d}.JPG", "", 0) for n in numbers), decimals=9)


def cid2013():
    """Six scenes in each set of images, each by 12 to 14 cameras."""
    sets = {"I": 14, "II": 13, "III": 13, "IV": 13, "V": 12, "VI": 14}
    return rate(
        "cid2013",
        (
            (f"IS{number}/co{scene}/IS_{roman}_C{scene:02d}_D{camera:02d}.jpg", f"IS_{roman}_C{scene:02d}", 0)
            for number, (roman, cameras) in enumerate(sets.items(), 1)
            for scene in range(1, 7)
            for camera in range(1, cameras + 1)
        ),
    )


def pipal():
    items = {0: 12, 1: 16, 2: 10, 3: 24, 4: 13, 5: 14, 6: 27}
    versions = [f"{group:02d}_{i:02d}" for group, count in items.items() for i in range(count)]
    references = [f"A{n:04d}" for n in range(1, 201)]
    return rate("pipal", ((f"{r}_{v}.bmp", r, 0) for r, v in itertools.product(references, versions)))


def livemd():
    """Images with blur only have the same names in both parts."""
    images = []
    for part, folder, second in (("Part 1", "blurjpeg", "jpeg"), ("Part 2", "blurnoise", "noise")):
        versions = {f"{type_}{k}": k for type_ in ("blur", second) for k in (1, 2, 3)}
        versions |= {f"blur{b}_{second}{k}": 0 for b, k in itertools.product((1, 2, 3), repeat=2)}
        for reference, version in itertools.product(WORDS[:15], sorted(versions)):
            images.append((f"{part}/{folder}/{reference}_{version}.bmp", reference, versions[version]))
    return rate("livemd", images)


def agiqa3k():
    """300 prompts by ten ways of generating; the owners lack the last ten of one and the last four of two."""
    ways = {
        "AttnGAN_normal": 300, "DALLE2_normal": 290, "glide_normal": 300, "midjourney_lowstep": 296,
        "midjourney_normal": 296, "sd1.5_highcorr": 300, "sd1.5_lowcorr": 300, "sd1.5_lowstep": 300,
        "sd1.5_normal": 300, "xl2.2_normal": 300,
    }  # fmt: skip
    return rate(
        "agiqa3k",
        ((f"{way}_{i:03d}.jpg", f"{WORDS[i % 29]} number {i}", 0) for way, count in ways.items() for i in range(count)),
        decimals=9,
    )
