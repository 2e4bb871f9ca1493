"""The server in this process: its scores, its refusals, its limits, and how it ends."""

import concurrent.futures
import dataclasses
import io
import re
import shutil
import threading

import browser
import jsonschema
import numpy as np
import pytest
import skimage.data
from PIL import Image
from served import ask, flat_png, form, served, wait_for

from jaxiqa.errors import Stopped
from jaxiqa.evaluation.probe import Probe
from jaxiqa.scoring.batch_scorer import BatchScorer
from jaxiqa.scoring.explain import in_words
from jaxiqa.scoring.scorer import loaded
from jaxiqa.serving.app import GONE, Limits

LIMITS = Limits(max_bytes=400_000, max_pixels=100_000, max_images=30, max_requests=3, timeout=20.0)
TOKEN = "0123456789abcdef"


class Gated:
    """A scorer that scores when its gate is open, and that may fail."""

    def __init__(self, scorer: BatchScorer):
        self._scorer, self.gate, self.warm, self.error = scorer, threading.Event(), threading.Event(), None
        self.warm.set()

    def __getattr__(self, name):
        return getattr(self._scorer, name)

    def warm_up(self, wanted):
        self.warm.wait()
        self._scorer.warm_up(wanted)

    def score(self, columns):
        self.gate.wait()
        if self.error:
            raise self.error
        return self._scorer.score(columns)


@pytest.fixture(scope="module")
def scorer(once, tmp_path_factory) -> BatchScorer:
    """A small model with a probe."""
    from ready_stand_in import write_stand_in

    folder = shutil.copytree(once("ready", write_stand_in), tmp_path_factory.mktemp("served") / "explained")
    kinds, families = ("pristine", "gaussian_blur", "white_noise"), ("pristine", "blur", "noise")
    weight, *severity = np.random.default_rng(0).normal(0, 0.1, (4, 195, 3)).astype(np.float32)
    severity = np.append(severity[0][:, 0], np.float32(2))
    Probe(weight, np.zeros(3, np.float32), kinds, families, severity, ("pooled",)).save(folder / "probe.npz")
    scorer = BatchScorer(folder, batch_size=32, explain=None)
    scorer.warm_up()  # here, because it may take longer on a busy machine than a test waits for a server
    yield scorer
    loaded.cache_clear()


@pytest.fixture(scope="module")
def files() -> list[tuple[str, bytes]]:
    """20 JPEG files of different sizes. Number 5 is not an image, number 8 is cut off."""
    rng, found = np.random.default_rng(0), []
    for i in range(20):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (*rng.integers(20, 120, 2), 3), np.uint8)).save(file, "JPEG")
        data = {5: b"no image", 8: file.getvalue()[:300]}.get(i, file.getvalue())
        found.append((f"{i:02d}.jpg", data))
    return found


@pytest.fixture(scope="module")
def one(scorer):
    with served(scorer, LIMITS) as one:
        yield one


@pytest.fixture
def gated(scorer):
    return Gated(scorer)


def good(files) -> bytes:
    return files[0][1]


def checked(one, answer, path="/score", method="post"):
    """The values of an answer, which must be as /openapi.json says."""
    schema = one.ask("GET", "/openapi.json").values
    told = schema["paths"][path][method]["responses"][str(answer.status)]["content"]["application/json"]["schema"]
    jsonschema.validate(answer.values, {**told, "components": schema["components"]})
    return answer.values


def test_scores_are_those_of_the_other_ways(one, scorer, files):
    rows = checked(one, one.post(*files))["images"]
    assert [row["name"] for row in rows] == [name for name, _ in files]
    expected = scorer({"bytes": [data for _, data in files]})
    for name in scorer.columns:
        if name in ("status", "reason", "model", "crops", "word"):
            assert [row[name] for row in rows] == list(expected[name]), name
        else:
            found = [np.nan if row[name] is None else row[name] for row in rows]
            np.testing.assert_allclose(found, expected[name], atol=1e-5, rtol=0, err_msg=name)
    assert {row["status"] for row in rows} == {"ok", "refused"}
    alone = next(scorer.scorer.scores([good(files)]))
    assert rows[0]["score"] == pytest.approx(alone.score, abs=1e-5)
    raw = checked(one, one.ask("POST", "/score", good(files)))["images"]
    near = {name: pytest.approx(rows[0][name], abs=1e-5) for name in ("score", "severity", *scorer.families)}
    assert raw == [{**rows[0], **near, "name": "", "se": raw[0]["se"]}]
    assert sum(raw[0][name] for name in ("pristine", "blur", "noise")) == pytest.approx(1, abs=1e-5)


BODIES = {
    "empty": b"",
    "text": b"hello",
    "page": b"<!doctype html><script>alert(1)</script>",
    "random": np.random.default_rng(0).bytes(3000),
    "cut": None,  # of a good image
    "path": None,  # of a good image on this machine
}


@pytest.mark.parametrize("kind", BODIES)
def test_what_is_no_image_is_415(one, files, kind, tmp_path):
    (tmp_path / "there.jpg").write_bytes(good(files))
    body = BODIES[kind]
    if kind == "cut":
        body = good(files)[: len(good(files)) // 2]
    if kind == "path":
        body = str(tmp_path / "there.jpg").encode()
    for answer in (one.ask("POST", "/score", body), one.post(("a.jpg", body))):
        values = checked(one, answer)
        assert answer.status == 415 and values["error"] == values["images"][0]["reason"] != ""
        assert values["images"][0]["status"] == "refused" and values["images"][0]["score"] is None


def test_too_many_pixels_are_413_and_are_not_decoded(one, files):
    answer = one.ask("POST", "/score", flat_png(400, 251))
    assert answer.status == 413 and checked(one, answer)["images"][0]["status"] == "refused"
    assert one.ask("POST", "/score", flat_png(2000, 1)).status == 413  # enlarged for the model, it has millions
    mixed = checked(one, one.post(("big.png", flat_png(400, 251)), files[0]))["images"]
    assert [row["status"] for row in mixed] == ["refused", "ok"]
    assert one.ask("POST", "/score", flat_png(400, 250)).status == 200  # the limit itself


def test_too_many_bytes_or_images_are_413(one, files):
    assert one.ask("POST", "/score", b"x" * 400_001).status == 413
    assert one.ask("POST", "/score", b"x" * 30_000_000).status == 413
    chunks = iter([b"x" * 100_000] * 5)
    assert one.ask("POST", "/score", chunks).status == 413 and list(chunks) == []
    answer = one.post(*[("a.jpg", b"")] * 31)
    assert answer.status == 413 and set(checked(one, answer)) == {"error"}
    body, kind = form([("a.jpg", good(files))])
    assert one.ask("POST", "/score", iter([body[:100], body[100:]]), {"Content-Type": kind}).status == 200


@pytest.mark.parametrize(
    "body, kind",
    [
        (b"no form", "multipart/form-data; boundary=x"),
        (b"no boundary", "multipart/form-data"),
        (b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--x--\r\n', "multipart/form-data; boundary=x"),
    ],
)
def test_a_form_without_files_is_400(one, body, kind):
    answer = one.ask("POST", "/score", body, {"Content-Type": kind})
    assert answer.status == 400 and checked(one, answer)


@pytest.mark.parametrize("method, path, status", [("GET", "/score", 405), ("GET", "/nothing", 404), ("PUT", "/", 405)])
def test_other_requests_are_refused(one, method, path, status):
    answer = one.ask(method, path)
    assert answer.status == status and set(answer.values) == {"error"}


def test_names_are_data(one, files):
    name = "<script>alert(1)</script>‮\\.jpg"
    body, kind = form([(name, good(files))])
    answer = one.ask("POST", "/score", body, {"Content-Type": kind})
    assert answer.values["images"][0]["name"] == name and answer.headers["Content-Type"] == "application/json"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Access-Control-Allow-Origin"] is None


def test_the_page_is_of_files_in_a_list(one):
    page = one.ask("GET", "/")
    names = re.findall(r'(?:src|rel="stylesheet" href)="([^"]+)"', page.body.decode())
    assert names == ["style.css", "server_engine.js", "page.js"]
    for answer in (page, *(one.ask("GET", f"/{name}") for name in names)):
        policy = answer.headers["Content-Security-Policy"]
        assert answer.status == 200 and "default-src 'none'" in policy and "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff" and b"innerHTML" not in answer.body
    assert re.findall(rb"<script(?! src)([^>]*)>", page.body) == [b' type="application/json" id="config"']
    for path in ("/engine.js", "/offline.js", "/index.html", "/../web/page.js", "/page.js/", "/%2e%2e/web/page.js"):
        assert one.ask("GET", path).status in (307, 404), path


@pytest.mark.skipif(not browser.find(), reason="there is no Chromium on this machine")
def test_the_page_shows_what_the_api_answers(scorer, tmp_path):
    """The token is asked for, also in between; a busy server is asked again; every refusal has its reason."""
    cat = Image.fromarray(skimage.data.chelsea())
    cat.resize((200, 133)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    (tmp_path / "c.png").write_bytes(bytes(400_001))
    (tmp_path / "d.png").write_bytes(flat_png(400, 251))
    right = {"Authorization": f"Bearer {TOKEN}"}
    rows = "results.map(({row}) => row)"

    def answer(page, token):
        page.wait("!!document.activeElement?.matches('#token')")
        page.call("Input.insertText", text=token)
        page.press("Enter", 13)

    with (
        served(scorer, LIMITS, TOKEN) as one,
        browser.opened(f"http://127.0.0.1:{one.port}/", tmp_path / "profile") as page,
    ):
        answer(page, "wrong")
        page.wait("document.querySelector('#ask p').textContent")
        answer(page, TOKEN)
        page.wait("document.body.classList.contains('ready')")
        assert "sent to this server" in page.value("at('promise').textContent")
        page.choose("#files", *(tmp_path / f"{name}.png" for name in "abcd"))
        page.wait(f"results.length === 4 && {rows}.every(Boolean)")
        found, *refused = page.value(rows)
        (told,) = one.post(("", (tmp_path / "a.png").read_bytes()), headers=right).values["images"]
        assert {name: found[name] for name in told} == told
        words = in_words(scorer.families, [told[name] for name in (*scorer.families, "severity")])
        assert found["reasons"] == [words] and "severity" in words
        shown = page.value("[...document.querySelectorAll('.number')].map((element) => element.textContent)")
        assert shown == [f"{told['score']:.1f}", "–", "–", "–"]
        assert [row["status"] for row in refused] == ["refused"] * 3
        wrong = one.ask("POST", "/score", b"no image", right).values["error"]
        assert refused[0]["reason"] == wrong and "400,000" in refused[1]["reason"] and "251" in refused[2]["reason"]
        assert all(" 401 " in line or " 413 " in line or " 415 " in line for line in page.console), page.console

        one.service.limits = dataclasses.replace(LIMITS, max_requests=0)
        page.value("at('clear').click()")
        page.choose("#files", tmp_path / "a.png")
        wait_for(lambda: one.metrics(right).get('jaxiqa_requests_total{status="429"}'))
        one.service.limits, one.service._token = LIMITS, b"another token"
        answer(page, "another token".replace(" ", ""))
        page.wait("document.querySelector('#ask p').textContent.includes('not the token')")
        one.service._token = TOKEN.encode()
        answer(page, TOKEN)
        page.wait(f"results.length === 1 && {rows}[0]")
        assert page.value(rows)[0]["score"] == told["score"]


def test_a_token_is_needed(scorer, files):
    with served(scorer, LIMITS, TOKEN) as one:
        for given in ({}, {"Authorization": f"Bearer {TOKEN}x"}, {"Authorization": "Bearer"}, {"Authorization": TOKEN}):
            answer = one.ask("POST", "/score", good(files), given)
            assert answer.status == 401 and answer.headers["WWW-Authenticate"] == "Bearer" and checked(one, answer)
            assert TOKEN not in answer.body.decode() and one.ask("GET", "/metrics", headers=given).status == 401
        right = {"Authorization": f"Bearer {TOKEN}"}
        assert one.ask("POST", "/score", good(files), right).status == 200
        assert one.metrics(right)['jaxiqa_requests_total{status="401"}'] == 4
        assert one.ask("GET", "/healthz").status == one.ask("GET", "/").status == 200


def test_too_many_requests_are_429_and_a_client_that_goes_away_frees_its_place(gated, files):
    with served(gated, LIMITS) as one, concurrent.futures.ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(one.ask, "POST", "/score", good(files)) for _ in range(2)]
        half = one.half()
        one.wait_for_places(3)
        answer = one.ask("POST", "/score", good(files))
        assert answer.status == 429 and answer.headers["Retry-After"] == "1" and checked(one, answer)
        half.close()  # in the middle of its body
        one.wait_for_places(2)
        whole = one.half(3)  # its body is complete, and its image waits
        one.wait_for_places(3)
        whole.close()
        one.wait_for_places(2)
        gated.gate.set()
        assert [one.result().status for one in waiting] == [200, 200]
        assert one.metrics()[f'jaxiqa_requests_total{{status="{GONE}"}}'] == 2


def test_requests_that_take_too_long_are_503(gated, files):
    limits = Limits(timeout=0.3)
    with served(gated, limits) as one, one.half() as slow:
        answer = one.ask("POST", "/score", good(files))
        assert answer.status == 503 and answer.headers["Retry-After"] and checked(one, answer)
        assert slow.recv(100).startswith(b"HTTP/1.1 503")
        one.wait_for_places(0)
        gated.gate.set()
        wait_for(lambda: one.ask("POST", "/score", good(files)).status == 200)


def test_a_server_is_ready_when_all_shapes_are_compiled(gated, files):
    gated.warm.clear()
    gated.gate.set()
    with served(gated, LIMITS, wait=False) as one:
        health = one.ask("GET", "/healthz")
        assert health.status == 503 and checked(one, health, "/healthz", "get")["status"] == "starting"
        assert one.ask("POST", "/score", good(files)).status == 503
        gated.warm.set()
        wait_for(lambda: one.ask("GET", "/healthz").status == 200)
        assert checked(one, one.ask("GET", "/healthz"), "/healthz", "get")["model"] == gated.model
        before = one.metrics()["jaxiqa_compiled_shapes"]
        assert before == len(gated.scorer.predictor.batch_sizes) > 1
        for count in (1, 5, 20):
            assert one.post(*files[:count]).status == 200
        found = one.metrics()
        assert found["jaxiqa_compiled_shapes"] == before and found["jaxiqa_ready"] == 1
        assert found['jaxiqa_images_total{status="refused"}'] == 2 and found["jaxiqa_requests_in_flight"] == 0


def test_images_of_many_requests_share_a_batch(gated, files):
    limits = Limits(max_wait=5.0)
    with served(gated, limits) as one, concurrent.futures.ThreadPoolExecutor(9) as pool:
        first = pool.submit(one.post, files[0])
        wait_for(lambda: one.service.scoring._bytes == 0 and one.service._places)
        others = [pool.submit(one.post, file) for file in files[1:4] + files[9:14]]
        one.wait_for_places(9)
        wait_for(lambda: not one.service.scoring._coming)
        gated.gate.set()
        assert {x.result().status for x in (first, *others)} == {200}
        assert one.metrics()["jaxiqa_batch_images_count"] < 9


def test_a_failing_device_is_500_and_the_server_stays(gated, files, capfd):
    gated.gate.set()
    with served(gated, LIMITS, TOKEN) as one:
        right = {"Authorization": f"Bearer {TOKEN}"}
        gated.error = RuntimeError("the device is gone")
        answer = one.post(files[0], headers=right)
        assert answer.status == 500 and checked(one, answer) == {"error": answer.values["error"]}
        gated.error = None
        assert one.post(files[0], headers=right).status == 200
    log = capfd.readouterr().err
    assert "the device is gone" in log and TOKEN not in log and files[0][0] not in log


def test_a_bug_in_decoding_is_500(gated, files, monkeypatch, capfd):
    gated.gate.set()
    with served(gated, LIMITS) as one:
        monkeypatch.setattr("jaxiqa.serving.scoring_thread.image_size", lambda data: 1 / 0)
        assert one.post(files[0]).status == 500
        monkeypatch.undo()
        assert one.post(files[0]).status == 200 and one.service.scoring._coming == 0
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_the_end_waits_for_the_requests_in_work_and_refuses_others(gated, files):
    with served(gated, LIMITS) as one, concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(one.ask, "POST", "/score", good(files))
        one.wait_for_places(1)
        one.stop()
        wait_for(lambda: one.service.state == "draining")
        answer = one.ask("POST", "/score", good(files))
        assert answer.status == 503 and answer.headers["Retry-After"] and checked(one, answer)
        health = one.ask("GET", "/healthz")
        assert health.status == 503 and health.values["status"] == "draining"
        gated.gate.set()
        assert waiting.result().status == 200 and one.ended.result(20) is None
        with pytest.raises(OSError):
            ask(one.port, "GET", "/healthz")


def test_the_end_has_a_limit(gated, files):
    with served(gated, LIMITS, drain=0.2) as one, concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(one.ask, "POST", "/score", good(files))
        one.wait_for_places(1)
        one.stop()
        assert waiting.result().status == 503
        gated.gate.set()
        with pytest.raises(Stopped):
            one.ended.result(20)


def test_a_failed_warm_up_ends_the_server(gated, monkeypatch):
    monkeypatch.setattr(Gated, "warm_up", lambda self, wanted: 1 / 0)
    with served(gated, LIMITS, wait=False) as one, pytest.raises(ZeroDivisionError):
        one.ended.result(20)


def test_a_stop_during_the_warm_up_waits_for_one_compilation(scorer, monkeypatch):
    under_way, done, compiled = threading.Event(), threading.Event(), []

    def compile_one(stage):
        compiled.append(stage)
        under_way.set()
        done.wait()

    monkeypatch.setattr(scorer, "score", compile_one)
    assert len(scorer.scorer.predictor.batch_sizes) > 1
    with served(scorer, LIMITS, wait=False) as one:
        assert under_way.wait(20)
        one.stop()
        wait_for(lambda: one.service.scoring._closed)
        assert not one.ended.done()
        done.set()
        assert one.ended.result(20) is None and one.service.state == "draining"
    assert len(compiled) == 1 and not one.service.scoring.ready.done()
