"""A server on this machine that speaks the calls of a hub that jaxiqa uses. Files are in memory, in commits."""

import base64
import contextlib
import hashlib
import http.server
import json
import re
import threading
from collections.abc import Iterator


class Hub:
    """What the server holds.

    Attributes:
      repos: {"owner/name": {commit: {path: bytes}}}, the newest commit last.
      private: names of the repositories that were created as private ones.
      asked: "METHOD path" of each request.
    """

    def __init__(self):
        self.repos: dict[str, dict[str, dict[str, bytes]]] = {}
        self.private: list[str] = []
        self.asked: list[str] = []
        self.url = ""

    def commit(self, repo: str, files: dict[str, bytes]) -> str:
        """Adds a commit that changes files. Returns its name."""
        commits = self.repos.setdefault(repo, {})
        tree = {**(list(commits.values())[-1] if commits else {}), **files}
        name = hashlib.sha1(repr((len(commits), sorted(tree.items()))).encode()).hexdigest()
        commits[name] = tree
        return name

    def find(self, repo: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        commits = self.repos.get(repo) or {}
        name = list(commits)[-1] if revision == "main" and commits else revision
        return (name, commits[name]) if name in commits else None


@contextlib.contextmanager
def fake_hub() -> Iterator[Hub]:
    """Yields a hub whose server runs in a thread; `url` is for HF_ENDPOINT."""
    hub = Hub()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def reply(self, status: int, body: bytes = b"", **headers: str):
            self.send_response(status)
            for name, text in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name.replace("_", "-"), text)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def reply_json(self, value, status: int = 200):
            self.reply(status, json.dumps(value).encode(), Content_Type="application/json")

        def absent(self, code: str):
            self.reply(404, b"{}", X_Error_Code=code, X_Error_Message="it is not here")

        def do_GET(self):
            path = self.path.partition("?")[0]
            hub.asked.append(f"{self.command} {path}")
            what = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?(/.*)?", path)
            file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
            repo = (what or file)[1] if what or file else ""
            if repo not in hub.repos:
                return self.absent("RepoNotFound")
            found = hub.find(repo, file[2] if file else what[3] or "main")
            if found is None:
                return self.absent("RevisionNotFound")
            commit, tree = found
            if file and file[3] not in tree:
                return self.absent("EntryNotFound")
            if file:
                data = tree[file[3]]
                etag = f'"{hashlib.sha256(data).hexdigest()}"'
                return self.reply(200, data, ETag=etag, X_Repo_Commit=commit, Accept_Ranges="none")
            if what[2] == "tree":
                return self.reply_json([
                    {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                    for name, data in tree.items()
                ])  # fmt: skip
            self.reply_json({"id": repo, "sha": commit, "siblings": [{"rfilename": name} for name in tree]})

        do_HEAD = do_GET

        def do_POST(self):
            path = self.path.partition("?")[0]
            hub.asked.append(f"POST {path}")
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if "Bearer " not in self.headers.get("Authorization", ""):
                return self.reply_json({"error": "who are you?"}, 401)
            if path == "/api/repos/create":
                asked = json.loads(body)
                repo = f"{asked.get('organization') or 'owner'}/{asked['name']}"
                if hub.repos.get(repo):
                    return self.reply_json({"error": "exists"}, 409)
                hub.repos[repo] = {}
                hub.private += [repo] if asked.get("private") or asked.get("visibility") == "private" else []
                return self.reply_json({"url": f"{hub.url}/{repo}", "id": repo, "name": repo})
            if path == "/api/validate-yaml":
                return self.reply_json({"errors": [], "warnings": []})
            repo, what = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/main", path).groups()
            if what == "preupload":
                files = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                         for file in json.loads(body)["files"]]  # fmt: skip
                return self.reply_json({"files": files})
            lines = [json.loads(line) for line in body.splitlines()]
            new = {x["value"]["path"]: base64.b64decode(x["value"]["content"]) for x in lines if x["key"] == "file"}
            commit = hub.commit(repo, new)
            self.reply_json({"success": True, "commitOid": commit, "commitUrl": f"{hub.url}/{repo}/commit/{commit}"})

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield hub
        server.shutdown()
        thread.join()
