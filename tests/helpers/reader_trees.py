"""Folders of whole datasets in their owners' layout and file formats, from rows of labels; tiny images.

`made_rows` invents the rows, `owners_rows` reads the published ones. What a layout holds beside names, labels and
spreads (brightness of SPAQ, grades of single raters of BID) is made up in both.
"""

import itertools
import os
import string
import zipfile
from typing import NamedTuple
from xml.sax.saxutils import escape

import numpy as np
import scipy.io
from PIL import Image


class Row(NamedTuple):
    """A row of a table of labels, and the expected fields of the image's record."""

    name: str  # as the owners' table writes it; for datasets with several folders, the path below data_dir
    mos: float
    reference: str = ""
    level: int = 0
    std: float = 1.0
    votes: tuple[int, ...] = ()  # how many raters gave each score; KonIQ-10k
    part: str = ""  # of the official split, as the table names it


FORMATS = {"bmp": "BMP", "jpg": "JPEG", "jpeg": "JPEG", "png": "PNG"}


def write_images(root, names):
    """Writes images of 8x8 pixels. Those of one format are links to one file, which is ten times faster."""
    for folder in {(root / name).parent for name in names}:
        folder.mkdir(parents=True, exist_ok=True)
    noise_HWC = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    first = {}
    for name in names:
        kind = FORMATS[name.rsplit(".", 1)[1].lower()]
        if kind not in first:
            first[kind] = root / name
            Image.fromarray(noise_HWC).save(first[kind], format=kind)
        else:
            os.link(first[kind], root / name)


def write_lines(path, lines, end="\n"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + end for line in lines).encode())


def kadid10k(root, rows):
    lines = [f"{r.name},{r.reference}.png,{r.mos:.2f},{r.std**2:.3f}" for r in rows]
    write_lines(root / "dmos.csv", ["dist_img,ref_img,dmos,var", *lines])
    write_images(
        root, [f"images/{name}" for name in [*dict.fromkeys(f"{r.reference}.png" for r in rows), *names(rows)]]
    )


def koniq10k(root, rows):
    """Two tables: fractions of the votes and the z-score as MOS; numbers of votes and a MOS of 1..5."""
    sets, scores = [], []
    for r in rows:
        total = sum(r.votes)
        fractions = ",".join(f"{n / total:.12g}" for n in r.votes)
        five = sum(n * score for score, n in enumerate(r.votes, 1)) / total
        sets.append(f"{r.name},{fractions},{total},{r.mos},{r.std:.12f},{r.part}")
        numbers = ",".join(map(str, r.votes))
        scores.append(f'"{r.name}",{numbers},{total},{five:.9f},{r.std:.9f},{r.mos}')
    write_lines(root / "koniq10k_distributions_sets.csv", ["image_name,c1,c2,c3,c4,c5,c_total,MOS,SD,set", *sets])
    header = '"image_name","c1","c2","c3","c4","c5","c_total","MOS","SD","MOS_zscore"'
    write_lines(root / "koniq10k_scores_and_distributions.csv", [header, *scores])
    write_images(root, [f"512x384/{r.name}" for r in rows])


def tid2013(root, rows):
    """With the archive's mixture of cases, a different mixture in the list, and Windows line ends."""
    listed, images = [], []
    for r in rows:
        reference, type_, _ = r.name[1:].split("_")
        listed.append(f"{r.mos} {'I' if reference != '25' and int(type_) % 2 else 'i'}{r.name[1:]}")
        image = f"distorted_images/{'i' if reference in ('01', '25') else 'I'}{r.name[1:]}"
        images.append(image.replace(".bmp", ".BMP") if reference == "07" else image)
    write_lines(root / "mos_with_names.txt", listed, "\r\n")
    write_lines(root / "mos.txt", [str(r.mos) for r in rows], "\r\n")
    write_lines(root / "mos_std.txt", [f"{r.std:.5f}" for r in rows], "\r\n")
    write_images(root, images)


tid2008 = tid2013


def csiq(root, rows):
    write_lines(root / "csiq_label.txt", [f"{r.name} {r.mos}" for r in rows])
    write_images(root, [f"dst_imgs/{r.name.split('.')[1].lower()}/{r.name}" for r in rows])


def livec(root, rows):
    """Its first seven rows are the practice images, in a folder of their own."""
    write_images(root, [f"Images/{'trainingImages/' if i < 7 else ''}{r.name}" for i, r in enumerate(rows)])
    write_livec_labels(root, names(rows), [r.mos for r in rows], [r.std for r in rows])


def write_livec_labels(root, names, scores, stds=None):
    (root / "Data").mkdir(exist_ok=True)
    scipy.io.savemat(root / "Data/AllImages_release.mat", {"AllImages_release": cells(names)[:, None]})
    scipy.io.savemat(root / "Data/AllMOS_release.mat", {"AllMOS_release": np.array(scores)[None]})
    stds = np.ones(len(names)) if stds is None else np.array(stds)
    scipy.io.savemat(root / "Data/AllStdDev_release.mat", {"AllStdDev_release": stds[None]})


def live(root, rows):
    """Undistorted copies are among the images, with a score of 0."""
    rated = {r.name: r for r in rows}
    counts = {"jp2k": 227, "jpeg": 233, "wn": 174, "gblur": 174, "fastfading": 174}
    copy = Row("", 0.0, rows[0].reference)
    all_names = [f"{folder}/img{i}.bmp" for folder, count in counts.items() for i in range(1, count + 1)]
    entries = [rated.get(name, copy) for name in all_names]
    orgs = np.array([name not in rated for name in all_names], np.uint8)[None]
    scores, stds = np.array([r.mos for r in entries])[None], np.array([r.std for r in entries])[None]
    write_images(root, all_names)
    scipy.io.savemat(root / "refnames_all.mat", {"refnames_all": cells([f"{r.reference}.bmp" for r in entries])[None]})
    scipy.io.savemat(root / "dmos_realigned.mat", {"dmos_new": scores, "dmos_std": stds, "orgs": orgs})
    scipy.io.savemat(root / "dmos.mat", {"dmos": scores / 2, "orgs": orgs})


def spaq(root, rows):
    header = ["Image name", "MOS", "Brightness", "Colorfulness", "Contrast", "Noisiness", "Sharpness"]
    table = [header, *([r.name, r.mos, 50, 50.5, 50, 50, 50] for r in rows)]
    write_images(root, [f"TestImage/{r.name}" for r in rows])
    (root / "Annotations").mkdir()
    write_workbook(root / "Annotations/MOS and Image attribute scores.xlsx", {"Sheet1": table})


def flive(root, rows):
    """With parts of the official sizes; their images are chosen here."""
    write_lines(root / "labels_image.csv", ["name,mos", *(f"{r.name},{r.mos}" for r in rows)])
    placed = [r.name for r in rows if not r.name.startswith("EE371R/")]
    val = set(placed[1827 : 1827 + 7727])
    write_lines(root / "labels640.csv", ["name_image,mos_image", *(f"{name},50" for name in placed[:1827])])
    rest = [f"{name},50,{name in val}" for name in placed[1827:]]
    write_lines(root / "labels=640_padded.csv", ["name_image,mos_image,is_valid", *rest])
    write_images(root, [f"database/{r.name}" for r in rows])


def bid(root, rows):
    table = [["Image Number", "Average Subjective Grade", "", "Grade 1", "Grade 2"]]
    table += [[int(r.name[13:17]), r.mos, "", 2.5, 3] for r in rows]
    write_images(root, [f"ImageDatabase/{r.name}" for r in rows])
    write_workbook(root / "DatabaseGrades.xlsx", {"Plan1": table})


def cid2013(root, rows):
    table = [["Source_ID", "Image set specific  MOS", "Realigned MOS", "sharpness"]]
    table += [[r.name.split("/")[-1].removesuffix(".jpg"), 33.5, r.mos, 1.5] for r in rows]
    write_images(root, names(rows))
    write_workbook(root / "CID2013 data - version 12112014.xlsx", {"About": [["CID2013"]], "CID2013 MOS": table})


def pipal(root, rows):
    for number, (reference, group) in enumerate(itertools.groupby(rows, lambda r: r.reference)):
        group = list(group)
        write_lines(root / f"Train_Label/{reference}.txt", [f"{r.name},{r.mos}" for r in group])
        write_images(root, [f"Distortion_{1 + number // 51}/{r.name}" for r in group])


def livemd(root, rows):
    for part, group in itertools.groupby(rows, lambda r: r.name.split("/")[0]):
        group = list(group)
        folder = group[0].name.rsplit("/", 1)[0]
        write_images(root, [*dict.fromkeys(f"{folder}/{r.reference}.bmp" for r in group), *names(group)])
        listed = cells([r.name.split("/")[-1] for r in group])[:, None]
        scipy.io.savemat(root / part / "Imagelists.mat", {"distimgs": listed})
        scipy.io.savemat(root / part / "Scores.mat", {"DMOSscores": np.array([r.mos for r in group])[None]})


def names(rows):
    return [r.name for r in rows]


def cells(texts):
    """A MATLAB cell array of strings."""
    return np.array([*(np.array([t]) for t in texts), None], object)[:-1]


def write_workbook(path, sheets, column="A", row=1):
    """Writes a workbook as Excel does: a shared table of texts, numbers in the cells; it may start at any cell."""
    strings = list(dict.fromkeys(v for rows in sheets.values() for r in rows for v in r if isinstance(v, str)))
    number_of = {text: i for i, text in enumerate(strings)}
    letters = string.ascii_uppercase[string.ascii_uppercase.index(column) :]

    def cell(letter, number, value):
        if isinstance(value, str):
            return f'<c r="{letter}{number}" t="s"><v>{number_of[value]}</v></c>'
        return f'<c r="{letter}{number}"><v>{value!r}</v></c>'

    main = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    named = "".join(f'<sheet name="{s}" sheetId="{i}" r:id="rId{i}"/>' for i, s in enumerate(sheets, 1))
    targets = "".join(
        f'<Relationship Id="rId{i}" Target="worksheets/sheet{i}.xml"/>' for i in range(1, len(sheets) + 1)
    )
    files = {
        "xl/workbook.xml": f'<workbook {main} xmlns:r="{office}"><sheets>{named}</sheets></workbook>',
        "xl/_rels/workbook.xml.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/'
        f'relationships">{targets}</Relationships>',
        "xl/sharedStrings.xml": f"<sst {main}>{''.join(f'<si><t>{escape(s)}</t></si>' for s in strings)}</sst>",
    }
    for i, rows in enumerate(sheets.values(), 1):
        body = "".join(
            f'<row r="{n}">{"".join(cell(c, n, v) for c, v in zip(letters, r, strict=False) if v != "")}</row>'
            for n, r in enumerate(rows, row)
        )
        files[f"xl/worksheets/sheet{i}.xml"] = f"<worksheet {main}><sheetData>{body}</sheetData></worksheet>"
    with zipfile.ZipFile(path, "w") as z:
        for name, text in files.items():
            z.writestr(name, text)


def agiqa3k(root, rows):
    """With the columns about the wording of the prompt, which may hold commas."""
    header = "name,prompt,adj1,adj2,style,mos_quality,std_quality,mos_align,std_align"
    lines = [f'{r.name},"{r.reference}",soft light,,"baroque, oil",{r.mos},{r.std},2.5,0.5' for r in rows]
    write_lines(root / "data.csv", [header, *lines])
    write_images(root, [r.name for r in rows])


LAYOUTS = {
    f.__name__: f
    for f in (kadid10k, koniq10k, tid2013, csiq, livec, live, spaq, flive, bid, cid2013, pipal, livemd, agiqa3k)
} | {"tid2008": tid2008}
