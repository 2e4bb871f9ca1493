"""Full-size trees in the owners' layout: real label values, empty picture files (the readers decode none)."""

import csv
import os
import string
import zipfile
from xml.sax.saxutils import escape

import numpy as np
import pytest
import scipy.io


def write_tree(root, texts, pictures):
    """Files with text, and empty files (links to one of them), below `root`; all names are relative to it."""
    for folder in {(root / name).parent for name in [*texts, *pictures]}:
        folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (root / name).write_text(text)
    first, *others = pictures
    (root / first).touch()
    for name in others:
        os.link(root / first, root / name)  # a tenth of the time of a new file


def table(path):
    with open(path) as f:
        return list(csv.DictReader(f))


def kadid10k(root, labels):
    rows = [line.split() for line in (labels / "VisualQuality-R1/KADID-10K_mos.txt").read_text().splitlines()]
    lines = ["dist_img,ref_img,dmos,var"]
    lines += [f"{name},{ref},{dmos},{float(std) ** 2:.3f}" for ref, name, dmos, std in rows]
    pictures = {f"images/{name}" for _, name, *_ in rows} | {f"images/{ref}" for ref, *_ in rows}
    write_tree(root, {"dmos.csv": "\n".join(lines) + "\n"}, pictures)


def koniq10k(root, labels):
    sets = (labels / "koniq/koniq10k_distributions_sets.csv").read_text()
    zscore = {row["image_name"]: row["MOS"] for row in csv.DictReader(sets.splitlines())}
    lines = ["image_name,c1,c2,c3,c4,c5,c_total,MOS,SD,MOS_zscore"]
    for row in table(labels / "icbcbicc_IQA-Dataset/KonIQ-10k.txt"):
        name = row["dis_img_path"].split("/")[-1]
        lines.append(f"{name},0,0,1,0,0,100,{row['score']},0.5,{zscore[name]}")
    texts = {"koniq10k_distributions_sets.csv": sets, "koniq10k_scores_and_distributions.csv": "\n".join(lines)}
    write_tree(root, texts, [f"512x384/{name}" for name in zscore])


def tid(root, table_of_labels):
    """With the archive's mixture of cases, and another mixture in the list."""
    lines, pictures = [], []
    for row in table(table_of_labels):
        name = row["dis_img_path"].split("/")[-1]
        reference, type_, _ = name[1:].split("_")
        lines.append(f"{row['score']} {'I' if reference != '25' and int(type_) % 2 else 'i'}{name[1:]}")
        pictures.append(f"distorted_images/{'i' if reference in ('01', '25') else 'I'}{name[1:]}")
        if reference == "07":
            pictures[-1] = pictures[-1].replace(".bmp", ".BMP")
    write_tree(root, {"mos_with_names.txt": "\n".join(lines)}, pictures)


def tid2013(root, labels):
    tid(root, labels / "icbcbicc_IQA-Dataset/TID2013.txt")


def tid2008(root, labels):
    tid(root, labels / "icbcbicc_IQA-Dataset/TID2008.txt")


def csiq(root, labels):
    text = (labels / "hyperIQA/csiq_label.txt").read_text()
    names = [line.split()[0] for line in text.splitlines()]
    write_tree(root, {"csiq_label.txt": text}, [f"dst_imgs/{n.split('.')[1].lower()}/{n}" for n in names])


def livec(root, labels):
    mos = dict(line.split()[:2] for line in (labels / "LIQE/clive_all.txt").read_text().splitlines())
    listed = [line.split() for line in (labels / "VisualQuality-R1/LIVEC_test_all.txt").read_text().splitlines()]
    names = [name for name, *_ in listed]
    scores = [float(mos.get(f"Images/{name}", score)) for name, score, _ in listed]
    write_tree(root, {}, [f"Images/{n}" for n in names[7:]] + [f"Images/trainingImages/{n}" for n in names[:7]])
    write_livec_labels(root, names, scores)


def cells(texts):
    """A MATLAB cell array of strings."""
    return np.array([*(np.array([t]) for t in texts), None], object)[:-1]


def write_livec_labels(root, names, scores):
    (root / "Data").mkdir(exist_ok=True)
    scipy.io.savemat(root / "Data/AllImages_release.mat", {"AllImages_release": cells(names)[:, None]})
    scipy.io.savemat(root / "Data/AllMOS_release.mat", {"AllMOS_release": np.array(scores)[None]})


def live(root, labels):
    rated = {r["dis_img_path"].removeprefix("LIVE/"): r for r in table(labels / "icbcbicc_IQA-Dataset/LIVE.txt")}
    counts = {"jp2k": 227, "jpeg": 233, "wn": 174, "gblur": 174, "fastfading": 174}
    names = [f"{folder}/img{i}.bmp" for folder, count in counts.items() for i in range(1, count + 1)]
    orgs = np.array([name not in rated for name in names])
    references = [rated[n]["ref_img_path"].split("/")[-1] if n in rated else "bikes.bmp" for n in names]
    scores = np.array([float(rated[n]["score"]) if n in rated else 0.0 for n in names])
    write_tree(root, {}, names)
    scipy.io.savemat(root / "refnames_all.mat", {"refnames_all": cells(references)[None]})
    realigned = {"dmos_new": scores[None], "dmos_std": scores[None], "orgs": orgs[None].astype(np.uint8)}
    scipy.io.savemat(root / "dmos_realigned.mat", realigned)
    scipy.io.savemat(root / "dmos.mat", {"dmos": scores[None] / 2, "orgs": realigned["orgs"]})


def spaq(root, labels):
    rows = [["Image name", "MOS", "Brightness", "Colorfulness", "Contrast", "Noisiness", "Sharpness"]]
    for row in table(labels / "icbcbicc_IQA-Dataset/SPAQ.txt"):
        rows.append([row["dis_img_path"].split("/")[-1], float(row["score"]), 50, 50.5, 50, 50, 50])
    write_tree(root, {}, [f"TestImage/{name}" for name, *_ in rows[1:]])
    (root / "Annotations").mkdir()
    write_workbook(root / "Annotations/MOS and Image attribute scores.xlsx", {"Sheet1": rows})


def flive(root, labels):
    """With parts of the official sizes; which picture is in which part is made up."""
    text = (labels / "FLIVE/labels_image.csv").read_text()
    names = [row["name"] for row in csv.DictReader(text.splitlines())]
    placed = [name for name in names if not name.startswith("EE371R/")]
    test, val = placed[:1827], set(placed[1827 : 1827 + 7727])
    rest = ["name_image,mos_image,is_valid", *(f"{name},50,{name in val}" for name in placed[1827:])]
    texts = {
        "labels_image.csv": text,
        "labels640.csv": "\n".join(["name_image,mos_image", *(f"{name},50" for name in test)]),
        "labels=640_padded.csv": "\n".join(rest),
    }
    write_tree(root, texts, [f"database/{name}" for name in names])


def bid(root, labels):
    """Grades from a list that has them scaled to 0..100 from their least and greatest."""
    lowest, highest = 0.163805726, 4.919752378
    rows = [["Image Number", "Average Subjective Grade", "", "Grade 1", "Grade 2"]]
    lines = (labels / "VisualQuality-R1/BID_test_all.txt").read_text().split()
    for name, scaled in sorted(zip(lines[::2], lines[1::2], strict=True)):
        grade = lowest + float(scaled) / 100 * (highest - lowest)
        rows.append([int(name[13:17]), round(grade, 9), "", 2.5, 3])
    write_tree(root, {}, [f"ImageDatabase/{name}" for name in lines[::2]])
    write_workbook(root / "DatabaseGrades.xlsx", {"Plan1": rows})


def cid2013(root, labels):
    listed = table(labels / "icbcbicc_IQA-Dataset/CID2013.txt")
    rows = [["Source_ID", "Image set specific  MOS", "Realigned MOS", "sharpness"]]
    for row in listed:
        rows.append([row["dis_img_path"].split("/")[-1].removesuffix(".jpg"), 33.5, float(row["score"]), 1.5])
    write_tree(root, {}, [row["dis_img_path"].removeprefix("CID2013/") for row in listed])
    sheets = {"About": [["CID2013"]], "CID2013 MOS": rows}
    write_workbook(root / "CID2013 data - version 12112014.xlsx", sheets)


def pipal(root, labels):
    lines = (labels / "MANIQA/pipal22_train.txt").read_text().splitlines()
    texts, pictures = {}, []
    for line in lines:
        reference, name = line.split("_")[0], line.split(",")[0]
        pictures.append(f"Distortion_{1 + len(texts) // 51}/{name}")
        texts.setdefault(f"Train_Label/{reference}.txt", []).append(line.replace(", ", ","))
    write_tree(root, {name: "\n".join(rows) + "\n" for name, rows in texts.items()}, pictures)


def livemd(root, labels):
    parts = {"Part_1": [], "Part_2": []}
    for row in table(labels / "icbcbicc_IQA-Dataset/LIVE_MD.txt"):
        *_, part, folder, name = row["dis_img_path"].split("/")
        parts[part].append((f"{part.replace('_', ' ')}/{folder}", name, float(row["score"])))
    for rows in parts.values():
        pictures = {f"{folder}/{name}" for folder, name, _ in rows}
        write_tree(root, {}, pictures | {f"{folder}/{name.split('_')[0]}.bmp" for folder, name, _ in rows})
        home = (root / rows[0][0]).parent
        scipy.io.savemat(home / "Imagelists.mat", {"distimgs": cells([name for _, name, _ in rows])[:, None]})
        scipy.io.savemat(home / "Scores.mat", {"DMOSscores": np.array([score for *_, score in rows])[None]})


def write_workbook(path, sheets, column="A", row=1):
    """A workbook as Excel writes it: texts in a table of their own, numbers in place; it may begin below a title."""
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


TREES = {
    f.__name__: f
    for f in (kadid10k, koniq10k, tid2008, tid2013, csiq, livec, live, spaq, flive, bid, cid2013, pipal, livemd)
}


@pytest.fixture
def tree(shared, tmp_path_factory):
    """tree("kadid10k") is the folder of that dataset, written once; tests that change it use a copy or put it back."""

    def get(name):
        root = tmp_path_factory.getbasetemp() / name
        if not root.exists():
            root.mkdir()
            TREES[name](root, shared / "data/labels")
        return root

    return get


@pytest.fixture
def livec_labels():
    """livec_labels(root, names, scores) writes Data/*.mat of LIVE Challenge."""
    return write_livec_labels


@pytest.fixture
def workbook():
    """workbook(path, {sheet: rows}, column="A", row=1) writes an .xlsx."""
    return write_workbook
